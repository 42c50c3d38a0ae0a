"""Pairs whose sides are swapped: found by the words that the other pairs have on either side, and by the names of the languages.

A word's score is the log-odds of its side among the other pairs (naive Bayes with add-half smoothing); a pair is swapped where the
words of both its sides belong to the other one. No model of any language is needed: a data set is compared with itself.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pretune.sources import function_words
from pretune.sources.words import words_of

_WORDS = 3
"""Words with evidence that each side of a pair needs to be judged."""
_CLEAR = 1.0
"""Mean log-odds from which a side is clear."""
_MOST = 0.8
"""Share of the judged pairs that must lie one way: sides of one language, as of paraphrases, have no words of their own."""
_PAIRS = 5
"""Judged pairs that a file or split needs."""
_LOOKED_AT = 20_000
"""Pairs of a file or split at most that are looked at."""

Sides = tuple[frozenset[str], frozenset[str]]
"""The words of both sides of a pair."""


@dataclass
class SideWords:
    """In how many pairs each word stands on the first and on the second side."""

    first: Counter[str] = field(default_factory=Counter)
    second: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, pairs: Iterable[Sides]) -> SideWords:
        """Count the words of some pairs."""
        found = cls()
        for first, second in pairs:
            found.first.update(first)
            found.second.update(second)
        return found

    def side(self, pair: Sides, *, counted: bool) -> int:
        """Return 1 for a pair that lies as most others do, -1 for a swapped one, 0 where its words do not say.

        Args:
            pair: its words.
            counted: whether it is one of the pairs that were counted, and is to be judged by the others.
        """
        first = self._mean(pair[0], counted=(1, 0) if counted else (0, 0))
        second = self._mean(pair[1], counted=(0, 1) if counted else (0, 0))
        return 1 if first > _CLEAR and second < -_CLEAR else -1 if first < -_CLEAR and second > _CLEAR else 0

    def _mean(self, words: frozenset[str], counted: tuple[int, int]) -> float:
        counts = [(self.first[word] - counted[0], self.second[word] - counted[1]) for word in words]
        scores = [math.log((first + 0.5) / (second + 0.5)) for first, second in counts if first or second]
        return sum(scores) / len(scores) if len(scores) >= _WORDS else 0.0


@dataclass(frozen=True, kw_only=True)
class SwappedSides:
    """What is swapped in a data set."""

    files: tuple[str, ...] = ()
    """Files or splits most of whose pairs are swapped against those of `reference`."""
    reference: str = ""
    pairs: tuple[str, ...] = ()
    """Single pairs that are swapped against the others of their file."""


def swapped(groups: Mapping[str, Sequence[tuple[str, str, str]]]) -> SwappedSides:
    """Return which files and which pairs are swapped against the others; the largest file is the reference.

    Args:
        groups: by the name of a file or split its pairs: id, first text, second text.
    """
    words = {name: [(_words(first), _words(second)) for _, first, second in pairs[:_LOOKED_AT]] for name, pairs in groups.items()}
    if not words:
        return SwappedSides()
    reference = max(words, key=lambda name: len(words[name]))
    counted = SideWords.of(words[reference])
    own = [counted.side(pair, counted=True) for pair in words[reference]]
    if not _lies(own, 1):
        return SwappedSides()
    single, files = [groups[reference][at][0] for at, side in enumerate(own) if side < 0], []
    for name, pairs in words.items():
        if name == reference:
            continue
        sides = [counted.side(pair, counted=False) for pair in pairs]
        if _lies(sides, -1):
            files.append(name)
        else:
            single += [groups[name][at][0] for at, side in enumerate(sides) if side < 0]
    return SwappedSides(files=tuple(files), reference=reference, pairs=tuple(single))


def _lies(sides: Sequence[int], way: int) -> bool:
    """Return whether enough pairs are clear, and nearly all of these lie one way."""
    judged = sum(side != 0 for side in sides)
    return judged >= _PAIRS and sum(side == way for side in sides) >= _MOST * judged


def swapped_names(first: str, second: str, pairs: Sequence[tuple[str, str, str]]) -> bool:
    """Return whether the first texts are in the language that the second are called by, and the other way round.

    Args:
        first: the name of the first language, as files or columns have it.
        second: that of the second.
        pairs: id, first text, second text.
    """
    known = function_words.of(first), function_words.of(second)
    if not all(known) or known[0] == known[1]:
        return False
    sides = [Counter(word for pair in pairs[:_LOOKED_AT] for word in _words(pair[at])) for at in (1, 2)]
    (mine, other), (others, own) = ([_share(side, words) for words in known] for side in sides)
    return other > 3 * mine + 0.02 and others > 3 * own + 0.02


def _share(counts: Counter[str], words: frozenset[str]) -> float:
    return sum(counts[word] for word in words) / max(1, counts.total())


def _words(text: str) -> frozenset[str]:
    """Return the words of a text that have letters, of scripts without spaces its characters."""
    folded = text.casefold()
    return frozenset(word for begin, end in words_of(folded) if (word := folded[begin:end])[0].isalpha())
