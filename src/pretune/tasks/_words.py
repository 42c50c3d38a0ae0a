"""The words of a text, and the tokens by which a network is shown them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.modalities.text import Text
from pretune.sources.words import Span, words_of
from pretune.types import Row


@dataclass(frozen=True, kw_only=True)
class WordPlaces:
    """Where the words of a text begin in its tokens."""

    text: str
    words: Sequence[Span]
    """Characters of each word."""
    first: NDArray[np.int64]
    """(W,) position of each word's first token; -1 where the network is not shown it."""
    shared: NDArray[np.bool_]
    """(W,) whether that token is the one of the word before: a tokenizer may take several words of ours as one."""
    length: int
    """Positions, those of special tokens included."""

    @property
    def leads(self) -> NDArray[np.int64]:
        """The words that have a token of their own, in order: those that are predicted."""
        return np.flatnonzero((self.first >= 0) & ~self.shared)


def places_of(row: Row, modality: Any) -> WordPlaces:
    """Return where the words of a row begin; those that its source separates, else those of the text.

    A word is shown where its first token is, if the rest of it lies behind the end of what the network is shown.
    """
    assert isinstance(modality, Text)
    text = modality.text_in(row)
    words = row.words if row.words is not None else words_of(text)
    spans = modality.spans(text)
    kept = np.flatnonzero(spans[:, 1] > spans[:, 0])
    first = np.full(len(words), -1)
    if len(kept) and len(words):
        starts, ends = np.array(words, dtype=np.int64).T
        at = np.searchsorted(spans[kept, 1], starts, side="right")
        found = at < len(kept)
        found[found] &= spans[kept[at[found]], 0] < ends[found]
        first[found] = kept[at[found]]
    shared = np.zeros(len(words), dtype=bool)
    shared[1:] = (first[1:] == first[:-1]) & (first[1:] >= 0)
    return WordPlaces(text=text, words=words, first=first, shared=shared, length=len(spans))


def words_in(row: Row) -> list[str]:
    """Return the words of a row whose text is in it."""
    (text,) = row.text or ("",)
    return [text[start:end] for start, end in (row.words if row.words is not None else words_of(text))]
