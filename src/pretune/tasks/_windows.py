"""Texts longer than what a network is shown, in pieces: cut at ends of sentences where there are some, never in a word or an entity."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pretune.modalities.text import Text
from pretune.sources.tags import Entity, TaggedWords, written
from pretune.sources.words import Span, words_of
from pretune.types import Row

_ENDS = frozenset(".!?…。！？।؟")


def pieces_of(row: Row, modality: Any) -> list[Row]:
    """Return a row's text in pieces of at most as many tokens as the network is shown, each with its words; the row itself where it fits.

    Pieces of one row have one group, so that they stay in one split.
    """
    assert isinstance(modality, Text)
    if row.text is not None and len(row.text) > 1:
        return [row]
    text = modality.text_in(row)
    if len(text.encode("utf-8", "surrogatepass")) <= modality.room:
        return [row]
    tokens = modality.offsets(text)
    words = row.words if row.words is not None else words_of(text)
    if len(tokens) <= modality.room or len(words) < 2:
        return [row]
    first = np.append(np.searchsorted(tokens[:, 1], [start for start, _ in words], side="right"), len(tokens))
    cuts = [0]
    while cuts[-1] < len(words):
        most = int(np.searchsorted(first, first[cuts[-1]] + modality.room, side="right")) - 1
        cuts.append(_cut(text, words, row.target, cuts[-1], min(len(words), max(most, cuts[-1] + 1))))
    count = len(cuts) - 1
    return [
        _piece(row, text, words, (begin, end), f"{number} of {count}") for number, (begin, end) in enumerate(itertools.pairwise(cuts), 1)
    ]


def _cut(text: str, words: Sequence[Span], target: Any, begin: int, most: int) -> int:
    """Return where a piece ends that begins at a word and has at most the words before `most`."""
    end = most
    if most < len(words):
        ends = (at for at in range(most, begin + (most - begin) // 2, -1) if _ends(text, words, at))
        end = next(ends, most)
    while isinstance(target, TaggedWords) and target.entities is not None and begin + 1 < end < len(words) and target.tags[end][:2] == "I-":
        end -= 1
    return end


def _ends(text: str, words: Sequence[Span], at: int) -> bool:
    """Return whether a sentence or a line ends before a word."""
    start, end = words[at - 1]
    return text[start:end] in _ENDS or "\n" in text[end : words[at][0]]


def _piece(row: Row, text: str, words: Sequence[Span], part: Span, number: str) -> Row:
    begin, end = part
    start, stop = words[begin][0], words[end - 1][1]
    target = row.target
    if isinstance(target, TaggedWords):
        inside = (
            None
            if target.entities is None
            else tuple(
                Entity(one.start - start, one.end - start, one.type) for one in target.entities if start <= one.start and one.end <= stop
            )
        )
        target = TaggedWords(target.tags[begin:end], inside)
    return replace(
        row,
        id=f"{row.id} ({number})",
        path=None,
        text=(text[start:stop],),
        words=tuple((one - start, other - start) for one, other in words[begin:end]),
        target=target,
        group=row.group or row.id,
    )


def rejoined(text: str, pieces: Sequence[Row], answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what was predicted of the pieces of a text as the prediction of the whole."""
    at, starts = 0, []
    for piece in pieces:
        (content,) = piece.text or ("",)
        at = text.index(content, at)
        starts.append(at)
        at += len(content)
    out: dict[str, Any] = {
        "prediction": " ".join(one["prediction"] for one in answers),
        "confidence": min(one["confidence"] for one in answers),
        "text": text,
    }
    for key in ("entities", "words"):
        if key in answers[0]:
            out[key] = [
                {**found, "start": found["start"] + start, "end": found["end"] + start}
                for start, one in zip(starts, answers, strict=True)
                for found in one[key]
            ]
    if "entities" in out:
        out["prediction"] = written([Entity(one["start"], one["end"], one["type"]) for one in out["entities"]])
    return out
