"""Prompts that occur several times: what they do to training and to the score."""

from __future__ import annotations

from collections.abc import Sequence

from pretune.tasks._rendering import Answer
from pretune.types import Finding, Row

_SHOWN = 300
"""Ids of a message at most."""


def repeated_prompts(rows: Sequence[Row]) -> list[Finding]:
    """Return how many training prompts have several answers that differ, and how many held-out prompts are in training too."""
    known: dict[str, set[str]] = {}
    for row in rows:
        if row.split == "train" and isinstance(answer := row.target, Answer) and answer.prompt and answer.answer is not None:
            known.setdefault(answer.prompt, set()).add(answer.answer)
    return [*_several(known), *_in_training(rows, known)]


def _several(known: dict[str, set[str]]) -> list[Finding]:
    several = [prompt for prompt, answers in known.items() if len(answers) > 1]
    if not several:
        return []
    message = (
        f"{len(several):,} of {len(known):,} training prompts have several different answers, such as {several[0][:60]!r}: each is "
        "learned. Where they are equally good, a list of them in one row makes all count as references in the evaluation."
    )
    return [Finding(kind="several_answers", severity="note", message=message)]


def _in_training(rows: Sequence[Row], known: dict[str, set[str]]) -> list[Finding]:
    """Return the held-out prompts that are in training with another answer; with the same one, they are leaks to the audit."""
    held_out = [row for row in rows if row.split in ("val", "test") and isinstance(row.target, Answer) and row.target.answer is not None]
    shared = [row.id for row in held_out if isinstance(one := row.target, Answer) and known.get(one.prompt, set()) - {one.answer}]
    if not shared:
        return []
    message = (
        f"{len(shared):,} of {len(held_out):,} held-out examples have a prompt that is in training with another answer: the score "
        "is partly one of prompts that the model knows."
    )
    return [Finding(kind="prompt_in_train", severity="warning", message=message, items=tuple(shared[:_SHOWN]))]
