"""Which labels stand for a missing one: 'nan', 'null', 'NA' and the like may be classes."""

from __future__ import annotations

import statistics
from collections import Counter

from pretune.errors import DataError
from pretune.sources.numbers import is_number

_MARKS = frozenset(("<na>", "#n/a", "#na", "-nan"))
"""What programs write for nothing and no person for a class; in lower case."""
_WORDS = frozenset(("nan", "null", "na", "n/a"))
"""What may be a class; in lower case."""
_PYTHON = "None"


def may_be_missing(text: str) -> bool:
    """Return whether a text is one of the words for nothing."""
    return text.casefold() in _WORDS | _MARKS or text == _PYTHON


def missing_words(strings: list[str], column: str, setting: str | None, classes: frozenset[str] = frozenset()) -> frozenset[str]:
    """Return the labels, as written, that stand for a missing one.

    A word is a class where it is at least half as frequent as the median of the other labels, and these are no numbers.

    Args:
        strings: all labels, '' where there is none.
        column: its name, for the message.
        setting: words that are missing, joined by commas; 'blank' for none; None decides by frequency.
        classes: those that a run knows, which are never missing.

    Raises:
        DataError: a word is about as frequent as the rarest of the other labels only.
    """
    counts = Counter(text for text in strings if text)
    if setting is not None:
        named = {word.strip() for word in setting.split(",")} - {"blank"}
        return frozenset(named & set(counts))
    words = {text for text in counts if may_be_missing(text)} - classes
    others = [count for text, count in counts.items() if text not in words]
    if classes or not others or all(is_number(text) for text in counts if text not in words):
        return frozenset(words)
    missing = {text for text in words if text.casefold() in _MARKS or counts[text] < statistics.median(others) / 2}
    unclear = [text for text in sorted(missing) if text.casefold() not in _MARKS and counts[text] >= min(others) > 1]
    if unclear:
        word = unclear[0]
        raise DataError(
            f"the label {word!r} of column {column!r} ({counts[word]} rows) may be a class or stand for a missing label. "
            f"Say which: missing={word} drops these rows, missing=blank keeps it as a class."
        )
    return frozenset(missing)
