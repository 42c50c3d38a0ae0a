"""A stream of documents less what is, or resembles, held-out texts: whole documents, lines of others, sentences of long lines.

What is left out is found in the first pass and remembered by its place, so that later passes cost next to nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pretune.corpus.documents import Piece
from pretune.corpus.resemblance import EQUAL, KEPT, NEAR, HeldOutTexts

BATCH = 1 << 20
"""Characters that are compared at a time, about."""
_LONG = 1_000
"""Characters from which a line is taken apart into sentences."""
_SENTENCE = re.compile(r"(?<=[.!?])(?=\s)|(?<=[。！？])")

Document = tuple[list[str], bool, bool]
"""Segments, whether it began in an earlier batch, and whether it ends in this one."""


@dataclass(kw_only=True)
class Sifted:
    """What was left out."""

    equal: int = 0
    """Documents that are a held-out text."""
    equal_lines: int = 0
    """Lines, or sentences of long lines, of other documents that are one."""
    near: int = 0
    """Documents that resemble one."""
    near_lines: int = 0
    characters: int = 0
    """Of all of these."""
    places: dict[int, NDArray[np.int64]] = field(default_factory=dict)
    """Numbers of the segments that are left out, by the number of their batch; of the others none is."""
    known: bool = False
    """Whether the whole stream has gone by once."""

    def messages(self, kept: int) -> list[str]:
        """Return the messages about it; `kept` are the characters that are left."""
        lines = []
        for whole, part, what in ((self.equal, self.equal_lines, "they are"), (self.near, self.near_lines, "they resemble")):
            counts = [f"{count:,} {name}" for count, name in ((whole, "documents"), (part, "lines")) if count]
            if counts:
                lines.append(f"{' and '.join(counts)} are not used: {what} held-out examples of the task that follows.")
        if self.characters > kept:
            lines.append(f"That is {self.characters / (self.characters + kept):.0%} of the text: little else is there to learn from.")
        return lines


def sifted(read: Callable[[], Iterator[Piece]], held_out: HeldOutTexts, left: Sifted) -> Iterator[Piece]:
    """Yield the documents of a stream less what is held out; `left` counts it in the first pass, and remembers it."""
    begun = False  # whether something of a document was yielded, so that its end must be too
    for number, batch in enumerate(_batches(read())):
        if not left.known:
            found = held_out.found([segments for segments, _, _ in batch])
            _count(left, batch, found)
            places = np.flatnonzero(np.concatenate(found))
            if len(places):
                left.places[number] = places
        for segments, lost, ends in _kept(batch, left.places.get(number)):
            text = "".join(segments)
            if text.strip() or begun or not lost:
                yield text, ends
                begun = not ends
    left.known = True


def _kept(batch: list[Document], places: NDArray[np.int64] | None) -> Iterator[tuple[list[str], bool, bool]]:
    """Yield what is kept of each document, whether something of it was left out, and whether it ends here."""
    if places is None:
        yield from ((segments, False, ends) for segments, _, ends in batch)
        return
    gone = set(places.tolist())
    number = 0
    for segments, _, ends in batch:
        kept = [segment for place, segment in enumerate(segments, start=number) if place not in gone]
        number += len(segments)
        yield kept, len(kept) < len(segments), ends


def _count(left: Sifted, batch: list[Document], found: list[NDArray[np.int8]]) -> None:
    for (segments, begun, ends), codes in zip(batch, found, strict=True):
        if not codes.any():
            continue
        gone = codes != KEPT
        left.characters += sum(len(segment) for segment, out in zip(segments, gone, strict=True) if out)
        whole = not begun and ends and all(out or not segment.strip() for segment, out in zip(segments, gone, strict=True))
        if whole:
            left.equal += int(not (codes == NEAR).any())
            left.near += int((codes == NEAR).any())
        else:
            left.equal_lines += int((codes == EQUAL).sum())
            left.near_lines += int((codes == NEAR).sum())


def _batches(pieces: Iterator[Piece]) -> Iterator[list[Document]]:
    """Put documents together until there is enough to compare at once; of one that goes on, the last line waits for its end."""
    batch: list[Document] = []
    size, before, begun = 0, "", False
    for text, ends in pieces:
        text = before + text
        cut = len(text) if ends else text.rfind("\n") + 1 or (len(text) if len(text) > BATCH else 0)
        text, before = text[:cut], text[cut:]
        if text or ends:
            batch.append((_segments(text), begun, ends))
            begun = not ends
        size += len(text)
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _segments(text: str) -> list[str]:
    lines = text.split("\n")
    segments = [f"{line}\n" for line in lines[:-1]] + lines[-1:]
    if max(map(len, segments)) <= _LONG:
        return segments
    return [part for line in segments for part in (_SENTENCE.split(line) if len(line) > _LONG else [line])]
