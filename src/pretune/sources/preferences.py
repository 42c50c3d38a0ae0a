"""Pairs of a preferred and a rejected answer to one prompt."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

from pretune.sources.conversation import ROLES, Answers, Conversation, Turn
from pretune.types import Row

_SPEAKER = re.compile(r"(?:^|\n\n)(Human|Assistant):")
"""How Anthropic's hh-rlhf, and data sets after it, write who speaks in one string."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preference(Conversation):
    """A conversation whose last turn was preferred to another."""

    rejected: str = ""
    """The other answer."""


@dataclass(frozen=True, kw_only=True)
class Preferences(Answers):
    """Targets that are two answers, of which one was preferred."""

    def fault(self, row: Row) -> tuple[str, str] | None:
        """Return what is wrong with a pair: that of a conversation, or both answers are the same."""
        found = row.target
        if isinstance(found, Preference) and found.turns and found.turns[-1].content.strip() == found.rejected.strip():
            return "same_answers", "has the same answer as preferred and as rejected"
        fault = super().fault(row)
        return None if fault and fault[0] == "answer_is_prompt" else fault


PREFERENCES = Preferences(task="dpo")


def paired(first: tuple[Turn, ...], second: tuple[Turn, ...]) -> Preference | tuple[str, str]:
    """Return the preference for the last turn of one conversation over that of another, or why there is none: a reason and words."""
    if first[-1].role != "assistant" or second[-1].role != "assistant":
        return "no_answer", "has no pair of answers: both conversations must end with the assistant's turn"
    if _spoken_before(first) != _spoken_before(second):
        return "other_prompt", "has answers to different prompts: only the last turns may differ"
    return Preference(turns=first, rejected=second[-1].content)


def _spoken_before(turns: tuple[Turn, ...]) -> list[tuple[str, str]]:
    return [(turn.role, turn.content) for turn in turns[:-1]]


def split_prompt(first: str, second: str) -> tuple[tuple[Turn, ...], tuple[Turn, ...]] | None:
    """Return two texts that begin with their prompt as conversations; None where they have no beginning in common.

    Texts with speakers (`Human:`, `Assistant:`) are cut into their turns; of others the prompt is what both begin with, up to a space.
    """
    speakers = [_by_speaker(text) for text in (first, second)]
    if all(speakers):
        return speakers[0], speakers[1]
    same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))
    place = max(first[:same].rfind(space) for space in " \n\t") + 1
    prompt = first[:place].strip()
    if not prompt:
        return None
    one, other = ((Turn("user", prompt), Turn("assistant", text[place:].strip())) for text in (first, second))
    return one, other


def _by_speaker(text: str) -> tuple[Turn, ...]:
    """Return the turns of a text that names its speakers; () where it does not begin with one."""
    pieces = _SPEAKER.split(text)
    if len(pieces) < 3 or pieces[0].strip():
        return ()
    return tuple(Turn(ROLES[who.casefold()], content.strip()) for who, content in zip(pieces[1::2], pieces[2::2], strict=True))
