"""Numbers as people write them, and whether a column of them is measured or names classes."""

from __future__ import annotations

import math
import re
from collections import Counter

import numpy as np

_COMMA = re.compile(r"[+-]?\d+,\d+")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")
_POINT_ZERO = re.compile(r"[+-]?\d+\.0+")
_INTEGER = re.compile(r"[+-]?\d+")
_HANDFUL = 5
"""Different values up to which integers are a scale with steps, not a measure."""
_NAN = frozenset(("nan", "-nan", "+nan"))


def is_number(text: str) -> bool:
    """Return whether a text is a number as Python writes them (nan and inf included)."""
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def number(text: str) -> float | None:
    """Return the value of '3', '1e9', '-0.5', '12,5' (a decimal comma), 'inf', 'nan'; None for anything else.

    '12,500' is None (twelve and a half or twelve thousand five hundred?); the notation of its column tells.
    """
    text = text.strip().replace("\u2212", "-")
    if is_number(text):
        return float(text)
    if _COMMA.fullmatch(text) and not _THOUSANDS.fullmatch(text):
        return float(text.replace(",", "."))
    return None


def is_measured(strings: list[str], *, quantity: bool = False) -> bool:
    """Return whether a column's values are measured numbers (regression) rather than names of classes.

    Integers are classes: ratings, digits, codes. They are numbers where something in the column says
    so (a fraction, an exponent, an infinity) or where they repeat so little that they could not be
    learned as classes: more than 5 values of fewer than 2 items each on average, or more than 20 of
    fewer than 5 which do not count up from 0 or 1 without a gap. `1.0, 0.0` are integers that a program stored as
    floats.

    Args:
        strings: the column's values, none of them blank.
        quantity: the column's name says that it was measured (an age, a price): then more than 5 integers are numbers.
    """
    strings = [text for text in strings if text.strip().casefold() not in _NAN]
    values = [number(text) for text in strings]
    found = [value for value in values if value is not None]
    if not strings or len(found) < 0.8 * len(strings):
        return False
    if quantity and len(set(found)) > _HANDFUL:
        return True
    if all(_POINT_ZERO.fullmatch(text) for text in strings):
        return len(set(strings)) == 1 or _sparse(found)
    return not all(_INTEGER.fullmatch(text.strip()) for text, value in zip(strings, values, strict=True) if value is not None) or _sparse(
        found
    )


def _sparse(values: list[float]) -> bool:
    counts = Counter(values)
    each = len(values) / len(counts)
    ordered = sorted(counts)
    counts_up = ordered[0] in (0, 1) and ordered[-1] - ordered[0] == len(ordered) - 1
    return (len(counts) > _HANDFUL and each < 2) or (len(counts) > 20 and each < 5 and not counts_up)


def outliers(values: np.ndarray, beyond: float) -> np.ndarray:
    """Return the indices of values further from the median than `beyond` times the spread of the middle half.

    Args:
        values: (N,) finite numbers.
        beyond: multiple of the interquartile range; where that is zero, of the mean deviation inside the middle 90 %.
    """
    if len(values) < 8:
        return np.zeros(0, dtype=int)
    low, middle, high = np.percentile(values, [25, 50, 75])
    spread = high - low
    if spread == 0:
        inner = values[(values >= np.percentile(values, 5)) & (values <= np.percentile(values, 95))]
        spread = float(np.abs(inner - middle).mean())
    return np.flatnonzero(np.abs(values - middle) > beyond * spread) if spread > 0 else np.zeros(0, dtype=int)


def finite(value: float | None) -> bool:
    """Return whether a parsed number can be a target."""
    return value is not None and math.isfinite(value)
