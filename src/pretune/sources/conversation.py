"""What a model that writes learns from: prompts with their answers, conversations in turns, plain text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pretune.sources.target_type import TargetType
from pretune.types import Row, Structured, Target

ROLES = {
    **dict.fromkeys(("user", "human", "prompter", "customer", "question"), "user"),
    **dict.fromkeys(("assistant", "gpt", "bot", "model", "chatbot", "agent", "answer"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "function", "observation", "function_response", "ipython"), "tool"),
}
"""Who speaks, by the names that data sets have for it."""
_FOLLOWS = {None: ("user",), "user": ("assistant",), "assistant": ("user", "tool"), "tool": ("tool", "assistant")}
"""Who may speak after whom; a system turn comes before all."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side says."""

    role: str
    """user, assistant, tool or system."""
    content: str
    learned: bool = True
    """Whether a turn of the assistant is learned; not where its message has the weight 0."""


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

    def is_cut(self, row: Row) -> bool:
        """Return whether a row is plain text."""
        return isinstance(row.target, Conversation) and not row.target.turns


@dataclass(frozen=True, kw_only=True)
class Summaries(Answers):
    """Targets that are summaries of the text that is asked about."""

    longest: int | None = None
    """Tokens that a summary may have; None where that is not known."""

    def fault(self, row: Row) -> tuple[str, str] | None:
        """Return what is wrong with a summary: it is the document itself."""
        fault = super().fault(row)
        return ("target_is_source", "has a summary that is its document") if fault and fault[0] == "answer_is_prompt" else fault

    def differ(self, first: Target, second: Target) -> bool:
        """Return False: a text has many good summaries."""
        return False


TEXT_GENERATION = Answers(task="text_generation")
SUMMARISATION = Summaries(task="summarisation")


def fault_of(turns: Sequence[Turn]) -> tuple[str, str] | None:
    """Return what is wrong with the turns of a conversation that is learned from, as a reason and words; None where nothing is."""
    spoken = [turn for turn in turns if turn.role != "system"]
    if not spoken or all(turn.role != "assistant" for turn in spoken):
        return "no_answer", "has no answer: no turn is the assistant's"
    if any(turn.role == "system" for turn in turns[1:]):
        return "bad_roles", "has a system turn that is not the first"
    for place, turn in enumerate(spoken):
        allowed = _FOLLOWS[spoken[place - 1].role if place else None]
        if turn.role not in allowed:
            wanted = " or ".join(f"the {role}'s" for role in allowed)
            return "bad_roles", f"has roles that do not take turns: turn {place + 1} is the {turn.role}'s, not {wanted}"
    if spoken[-1].role != "assistant":
        return "no_answer", f"has no answer: its last turn is the {spoken[-1].role}'s"
    empty = next((turn for turn in spoken if turn.role != "tool" and not turn.content.strip()), None)
    if empty is not None:
        return ("empty_answer", "has an empty answer") if empty.role == "assistant" else ("empty_text", "has an empty prompt")
    if spoken[-1].content.strip() == spoken[-2].content.strip():
        return "answer_is_prompt", "has an answer that is its prompt"
    return None


def turns_of(value: Any) -> tuple[Turn, ...] | str:
    """Return the turns that a list of messages holds, or in words why it holds none: [{"role": "user", "content": "Hi"}, …].

    Content may be a list of parts (OpenAI); calls of tools are written as JSON between <tool_call> and </tool_call>, as Hermes and the
    chat templates after it do.
    """
    if not isinstance(value, list | tuple) or not value:
        return "holds no list of messages"
    turns = []
    for number, message in enumerate(value, 1):
        if not isinstance(message, dict):
            return f"has a message (number {number}) that is not an object with role and content"
        role = next((message[key] for key in ("role", "from", "speaker") if key in message), None)
        known = ROLES.get(str(role).strip().casefold())
        if known is None:
            return f"has a message (number {number}) of the role {role!r}, which is none of user, assistant, system, tool"
        content = _content(message)
        if content is None:
            return f"has a message (number {number}) whose content is not a text"
        turns.append(Turn(known, content, learned=message.get("weight") != 0))
    return tuple(turns)


def _content(message: Mapping[str, Any]) -> str | None:
    """Return what a message says; None where that is no text."""
    content = next((message[key] for key in ("content", "value", "text") if key in message), None)
    calls = message.get("tool_calls") or ([message["function_call"]] if message.get("function_call") else [])
    if isinstance(content, list) and all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
        content = "".join(part["text"] for part in content)
    if content is None and calls:
        content = ""
    if not isinstance(content, str) or not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        return None
    return "\n".join([*([content] if content or not calls else []), *map(_call, calls)])


def _call(call: Mapping[str, Any]) -> str:
    """Return one call of a tool as a model writes it."""
    function = call.get("function") if isinstance(call.get("function"), dict) else call
    assert isinstance(function, Mapping)
    arguments = function.get("arguments")
    with suppress(ValueError):
        arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
    spoken = {"name": function.get("name"), "arguments": arguments}
    return f"<tool_call>\n{json.dumps(spoken, ensure_ascii=False)}\n</tool_call>"


def trimmed(turns: tuple[Turn, ...]) -> tuple[tuple[Turn, ...], str]:
    """Return a conversation from the first turn of the user to the last answer that is learned, and in words what was cut off.

    Long conversations are published in pieces, which begin with an answer or end with a question.
    """
    system = turns[:1] if turns[0].role == "system" else ()
    spoken = turns[len(system) :]
    first = next((place for place, turn in enumerate(spoken) if turn.role == "user"), 0)
    last = next((place for place in reversed(range(len(spoken))) if spoken[place].role == "assistant" and spoken[place].learned), -1)
    if last <= first:
        return turns, ""
    before, after = spoken[:first], spoken[last + 1 :]
    if any(turn.role == "system" for turn in (*before, *after)):
        return turns, ""  # which is said of it as a whole
    ends = ((before, "at its beginning"), (after, "at its end"))
    cut = [f"{len(part)} turn{'s' if len(part) > 1 else ''} {where}" for part, where in ends if part]
    why = "begin with no question, or end with no answer that is learned"
    return (*system, *spoken[first : last + 1]), f"loses {' and '.join(cut)}, which {why}" if cut else ""


def prompt_of(turns: Sequence[Turn]) -> str:
    """Return what a person reads of the turns before the answer."""
    asked = [turn for turn in turns if turn.role != "system"]
    return asked[0].content if len(asked) == 1 else "\n".join(f"{turn.role}: {turn.content}" for turn in asked)
