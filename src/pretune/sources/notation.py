"""How a column writes its numbers: decimal sign, thousands separator, unit."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from pretune.sources.numbers import is_number

Sign = Literal["point", "comma"]

_CURRENCY = r"[$€£¥₹]|USD|EUR|GBP|CHF|JPY|INR"
_AFFIXED = re.compile(
    rf"({_CURRENCY})?\s*([+\-\u2212]?\d[\d.,'’ \u00a0\u202f]*(?:[eE][+-]?\d+)?)\s*({_CURRENCY}|%|°[CF]?|[A-Za-zµ²³/]{{1,6}})?"
)
_GAPS = "'’ \u00a0\u202f"
_GROUPED = {
    "point": re.compile(rf"[+-]?[1-9]\d{{0,2}}([,{_GAPS}]\d{{3}})+(\.\d+)?"),
    "comma": re.compile(rf"[+-]?[1-9]\d{{0,2}}([.{_GAPS}]\d{{3}})+(,\d+)?"),
}
_PLAIN_COMMA = re.compile(r"[+-]?\d+,\d+")
_ENOUGH = 0.95
"""Share of the cells that must have the unit of a column."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Notation:
    """The way one column writes numbers."""

    decimal: Sign = "point"
    grouped: bool = False
    """Thousands are separated."""
    unit: str = ""
    """A currency, %, or the letters beside every number; '' where there is none."""
    unclear: str = ""
    """A value that may be read in two ways, as 1,234 where nothing tells what its comma means; '' where all are clear."""

    def number(self, text: str) -> float | None:
        """Return the value of a text, None where it is no number in this notation."""
        text = _bare(text, self.unit)
        if self.grouped and _GROUPED[self.decimal].fullmatch(text):
            text = re.sub(rf"[{_GAPS}{',' if self.decimal == 'point' else '.'}]", "", text)
        if self.decimal == "comma" and "." not in text:
            text = text.replace(",", ".")
        return float(text) if is_number(text) else None


def _bare(text: str, unit: str) -> str:
    text = text.strip().replace("\u2212", "-")
    if not unit:
        return text
    match = _AFFIXED.fullmatch(text)
    return match[2].strip() if match and unit in (match[1], match[3]) else text


def notation_of(strings: list[str], decimal: Sign | None = None) -> Notation:
    """Return how a column writes its numbers.

    Args:
        strings: its cells that are not blank.
        decimal: point or comma where it is known; None finds it.
    """
    unit = _unit(strings)
    bare = [_bare(text, unit) for text in strings]
    marked = [text for text in bare if "," in text or any(gap in text for gap in _GAPS) or _GROUPED["comma"].fullmatch(text)]
    if decimal is not None:
        grouped = any(_GROUPED[decimal].fullmatch(text) for text in marked)
        return Notation(decimal=decimal, grouped=grouped, unit=unit)
    if not any(pattern.fullmatch(text) for text in marked for pattern in (*_GROUPED.values(), _PLAIN_COMMA)):
        return Notation(unit=unit)
    point, comma = (_is_sure(bare, sign) for sign in ("point", "comma"))
    if point != comma:
        return Notation(decimal="point" if point else "comma", grouped=True, unit=unit)
    if any(_PLAIN_COMMA.fullmatch(text) and not _GROUPED["point"].fullmatch(text) for text in bare):
        return Notation(decimal="point" if any("." in text for text in bare) else "comma", unit=unit)
    return _of_threes(bare, unit)


def may_be_grouped(strings: list[str]) -> bool:
    """Return whether every text reads as a number with a decimal point, and as thousands too: 1.250."""
    return bool(strings) and all(_GROUPED["comma"].fullmatch(text) and is_number(text) for text in strings)


def _is_sure(strings: list[str], sign: str) -> bool:
    """Return whether a text can only be a number with this decimal sign: 1,234.5 or 1,234,567 or 1 234; the other sign's are none."""
    other = "comma" if sign == "point" else "point"
    pattern, mark = _GROUPED[sign], "." if sign == "point" else ","
    clear = (text for text in strings if pattern.fullmatch(text) and not _GROUPED[other].fullmatch(text))
    return any(mark in text or text.count("," if sign == "point" else ".") > 1 for text in clear)


def _of_threes(strings: list[str], unit: str) -> Notation:
    """Decide on a column in which every sign has three digits behind it: 1,234 or 1.234 or 1 234."""
    commas = [text for text in strings if "," in text and _GROUPED["point"].fullmatch(text)]
    points = [text for text in strings if "." in text and is_number(text)]
    if any(gap in text for text in strings for gap in _GAPS if _GROUPED["point"].fullmatch(text)) and not commas:
        return Notation(grouped=True, unit=unit)
    whole = [abs(int(text)) for text in strings if re.fullmatch(r"[+-]?\d{1,9}", text)]
    reaches = bool(whole) and 100 <= max(whole) < 1000
    if commas and (points or reaches):
        return Notation(grouped=True, unit=unit)
    if commas:
        return Notation(grouped=True, unit=unit, unclear=commas[0])
    same = all(_GROUPED["comma"].fullmatch(text) for text in points)
    return Notation(unit=unit, unclear=points[0] if points and same and reaches else "")


def _unit(strings: list[str]) -> str:
    """Return the unit that stands beside the numbers of (nearly) all cells, '' where there is none or there are several."""
    found: Counter[str] = Counter()
    for text in strings:
        match = _AFFIXED.fullmatch(text.strip())
        if match and not re.match(r"[+-]?0\d", match[2]) and bool(match[1]) != bool(match[3]):
            found[match[1] or match[3]] += 1
    unit, count = found.most_common(1)[0] if found else ("", 0)
    return unit if count >= _ENOUGH * len(strings) else ""
