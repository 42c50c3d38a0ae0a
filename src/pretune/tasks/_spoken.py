"""What a speech recogniser writes: units of text, and the words that they spell with their times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pretune.tasks._base import Space
from pretune.tasks._ctc import Emission

Units = Literal["words", "characters"]
SPACE = " "
MOST_WORDS = 100
"""Different words up to which each can be a unit of its own."""
LEAST_SEEN = 5
"""Times that a word occurs on average where words are units: of rarer ones characters tell more."""


@dataclass(frozen=True, kw_only=True)
class SpeechSpace(Space):
    """The units that are recognised: output 0 is the blank, output k is symbol k - 1."""

    units: Units = "characters"
    symbols: tuple[str, ...] = ()
    rate: float = 0.0
    """Outputs a second; 0 where it is not known."""

    def __str__(self) -> str:
        return f"{len(self.symbols)} {self.units}"

    def check(self) -> None:
        """Raise ValueError unless there are symbols that differ."""
        super().check()
        symbols = self.symbols
        if not symbols or not all(isinstance(one, str) and one for one in symbols) or len(set(symbols)) < len(symbols):
            raise ValueError("symbols must be a list of texts that differ")
        if self.units not in ("words", "characters"):
            raise ValueError("units must be words or characters")
        if not np.isfinite(self.rate) or self.rate < 0:
            raise ValueError("rate must be a number of outputs a second")

    def encode(self, text: str) -> NDArray[np.int64]:
        """Return the units of a text; what has no symbol is left out."""
        places = {symbol: at for at, symbol in enumerate(self.symbols, 1)}
        return np.array([places[piece] for piece in split(text, self.units) if piece in places], dtype=np.int64)

    def text(self, units: Sequence[int]) -> str:
        """Return what some units spell."""
        symbols = [self.symbols[unit - 1] for unit in units]
        return " ".join(symbols if self.units == "words" else "".join(symbols).split())


@dataclass(frozen=True, slots=True)
class Word:
    """A word that was recognised."""

    text: str
    start: float
    """In outputs."""
    end: float
    confidence: float
    """Lowest probability of its units."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a clip in which something was recognised."""

    text: str
    start: float
    """In seconds."""
    end: float


@dataclass(frozen=True, slots=True)
class Spoken:
    """What was recognised in a clip."""

    words: tuple[Word, ...]
    segments: tuple[Segment, ...] = ()
    """Of the pieces in which the clip was shown, where that is known."""

    @property
    def text(self) -> str:
        """The words with spaces between them."""
        return " ".join(word.text for word in self.words)


def split(text: str, units: Units) -> list[str]:
    """Return the pieces of a text: its words, or its characters with spaces among them."""
    return text.split() if units == "words" else list(text)


def suited(texts: Sequence[str]) -> Units:
    """Return what a recogniser's units should be: words where there are few and each occurs often, else characters."""
    counts = Counter(word for text in texts for word in text.split())
    few = len(counts) <= MOST_WORDS and counts.total() >= LEAST_SEEN * len(counts)
    return "words" if few else "characters"


def symbols_of(texts: Sequence[str], units: Units) -> tuple[str, ...]:
    """Return the different pieces of some texts, sorted."""
    return tuple(sorted({piece for text in texts for piece in split(text, units)}))


def spoken(emissions: Sequence[Emission], space: SpeechSpace) -> Spoken:
    """Return the words of some emissions, with where they begin and end."""
    if space.units == "words":
        return Spoken(tuple(Word(space.symbols[one.unit - 1], one.start, one.end, one.probability) for one in emissions))
    words: list[Word] = []
    letters: list[Emission] = []
    for one in [*emissions, None]:
        if one is not None and space.symbols[one.unit - 1] != SPACE:
            letters.append(one)
        elif letters:
            text = "".join(space.symbols[letter.unit - 1] for letter in letters)
            words.append(Word(text, letters[0].start, letters[-1].end, min(letter.probability for letter in letters)))
            letters = []
    return Spoken(tuple(words))


def in_order(pieces: Sequence[tuple[float, float, Spoken]], rate: float) -> Spoken:
    """Return what was recognised in a clip, given begin and end of its pieces in seconds, and what was recognised in each.

    Args:
        pieces: in order.
        rate: outputs a second; 0 where words have no times.
    """
    words = [replace(word, start=word.start + begin * rate, end=word.end + begin * rate) for begin, _, one in pieces for word in one.words]
    return Spoken(tuple(words), tuple(_segment(*piece, rate) for piece in pieces if piece[2].words))


def _segment(begin: float, end: float, one: Spoken, rate: float) -> Segment:
    """Return the times of a piece's words, else those of the piece."""
    if not rate:
        return Segment(one.text, begin, end)
    return Segment(one.text, begin + one.words[0].start / rate, begin + one.words[-1].end / rate)
