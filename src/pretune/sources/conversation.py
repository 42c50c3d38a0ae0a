"""What a model that writes learns from: prompts with their answers, conversations in turns, plain text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pretune.sources.target_type import TargetType
from pretune.types import Row, Structured

ROLES = {
    **dict.fromkeys(("user", "human", "prompter", "customer", "question"), "user"),
    **dict.fromkeys(("assistant", "gpt", "bot", "model", "chatbot", "agent", "answer"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}
"""Who speaks, by the names that data sets have for it."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side says."""

    role: str
    """user, assistant or system."""
    content: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversation(Structured):
    """Turns of which those of the assistant are learned; none of a text that is learned from whole."""

    turns: tuple[Turn, ...] = ()
    others: tuple[str, ...] = ()
    """Other answers that are as good as the last turn: an evaluation takes the nearest."""

    @property
    def answered(self) -> bool:
        """Whether the last turn is the assistant's."""
        return bool(self.turns) and self.turns[-1].role == "assistant"


@dataclass(frozen=True, kw_only=True)
class Answers(TargetType):
    """Targets that are texts to be written; `layouts` of their own read them."""

    def fault(self, row: Row) -> tuple[str, str] | None:
        """Return what is wrong with a conversation: nobody answers, nothing is said, roles that do not take turns."""
        found = row.target
        return fault_of(found.turns) if isinstance(found, Conversation) and found.turns else None


TEXT_GENERATION = Answers(task="text_generation")


def fault_of(turns: Sequence[Turn]) -> tuple[str, str] | None:
    """Return what is wrong with the turns of a conversation that is learned from, as a reason and words; None where nothing is."""
    spoken = [turn for turn in turns if turn.role != "system"]
    if not spoken or all(turn.role != "assistant" for turn in spoken):
        return "no_answer", "has no answer: no turn is the assistant's"
    if any(turn.role == "system" for turn in turns[1:]):
        return "bad_roles", "has a system turn that is not the first"
    strange = next((place for place, turn in enumerate(spoken) if turn.role != ("assistant" if place % 2 else "user")), None)
    if strange is not None:
        wanted = "assistant" if strange % 2 else "user"
        return "bad_roles", f"has roles that do not take turns: turn {strange + 1} is the {spoken[strange].role}'s, not the {wanted}'s"
    if spoken[-1].role != "assistant":
        return "no_answer", "has no answer: its last turn is the user's"
    empty = next((turn for turn in spoken if not turn.content.strip()), None)
    if empty is not None:
        return ("empty_answer", "has an empty answer") if empty.role == "assistant" else ("empty_text", "has an empty prompt")
    if spoken[-1].content.strip() == spoken[-2].content.strip():
        return "answer_is_prompt", "has an answer that is its prompt"
    return None


def turns_of(value: Any) -> tuple[Turn, ...] | str:
    """Return the turns that a list of messages holds, or in words why it holds none: [{"role": "user", "content": "Hi"}, …]."""
    if not isinstance(value, list | tuple) or not value:
        return "holds no list of messages"
    turns = []
    for number, message in enumerate(value, 1):
        if not isinstance(message, dict):
            return f"has a message (number {number}) that is not an object with role and content"
        role = next((message[key] for key in ("role", "from", "speaker") if key in message), None)
        content = next((message[key] for key in ("content", "value", "text") if key in message), None)
        known = ROLES.get(str(role).strip().casefold())
        if known is None:
            return f"has a message (number {number}) of the role {role!r}, which is none of user, assistant, system"
        if not isinstance(content, str):
            return f"has a message (number {number}) whose content is not a text"
        turns.append(Turn(known, content))
    return tuple(turns)


def prompt_of(turns: Sequence[Turn]) -> str:
    """Return what a person reads of the turns before the answer."""
    asked = [turn for turn in turns if turn.role != "system"]
    return asked[0].content if len(asked) == 1 else "\n".join(f"{turn.role}: {turn.content}" for turn in asked)
