"""Cells that hold several labels: lists, names joined by a sign, and whole numbers joined by commas."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from typing import Literal

from pretune.errors import DataError
from pretune.sources.column import as_text
from pretune.sources.readers.records import Value

SEPARATORS = {"|": "vertical bars", ";": "semicolons", ",": "commas", " ": "spaces"}
ONES, _ZEROS = frozenset(("1", "1.0", "True", "true")), frozenset(("0", "0.0", "False", "false"))
_INTEGERS = re.compile(r"\d+(\s*,\s*\d+)*")
_GROUPED = re.compile(r"[1-9]\d{0,2}(,\d{3})+")
_STEPS = frozenset(("0", "5", "25", "50", "75"))
"""What stands behind the comma of numbers with few steps: 2,5."""
_MANY = 12
"""Different cells, each with as many digits behind the comma, from which these are numbers."""


def as_lists(values: list[Value]) -> list[list[str] | None] | None:
    """Return each value as a list of names where the column holds lists, as JSON or as text; else None."""
    present = [value for value in values if as_text(value) or isinstance(value, list | tuple)]
    if not present or not all(
        isinstance(v, list | tuple) or (isinstance(v, str) and re.fullmatch(r"\s*\[.*\]\s*", v, re.S)) for v in present
    ):
        return None
    out: list[list[str] | None] = []
    for value in values:
        items = _literal_list(value) if isinstance(value, str) and value.strip() else value
        out.append([str(item) for item in items] if isinstance(items, list | tuple) else None)
    return out


def are_multi_hot(lists: list[list[str] | None]) -> bool:
    """Return whether lists are multi-hot: only 0 and 1, all of one length, some repeated; so a place for each class, no labels 0 and 1."""
    found = [names for names in lists if names is not None]
    same = len({len(names) for names in found}) == 1 and len(found[0]) > 1
    return same and all(name in ONES | _ZEROS for names in found for name in names) and any(len(set(n)) < len(n) for n in found)


def joined_flags(strings: list[str]) -> list[list[str] | None] | None:
    """Return the 0 and 1 of cells that join one for each class: '1,0,0' or '1 0 0'; None where cells are something else."""
    present = [text for text in strings if text]
    for mark in (",", " ", ";", "|"):
        if present and all(mark in text for text in present):
            lists = [[part.strip() for part in text.split(mark)] if text else None for text in strings]
            return lists if are_multi_hot(lists) and len(present[0]) > 4 else None
    return None


def _literal_list(text: str) -> list[object] | None:
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text)
        except (ValueError, SyntaxError, RecursionError):
            continue
        return list(value) if isinstance(value, list | tuple) else None
    inner = text.strip()[1:-1].strip()
    return [part for part in re.split(r"[,\s]+", inner) if part]


def separator(strings: list[str], *, forced: bool) -> str | None:
    """Return what separates several labels in one cell, None where each cell is one label.

    A separator must cut cells into names that recur: with '|' or ';' some name of a combination appears in another
    cell too; with ',' there are fewer names than cells' distinct values. Class names have spaces ('light red') and
    commas ('Paris, France') of their own: a space separates only names that are cells by themselves too, or that make
    combinations of several lengths out of few names; a comma does not where each cell has a first and a second name of different kinds.
    """
    distinct = set(strings)
    for mark in SEPARATORS:
        joined = [text for text in distinct if mark in text.strip()]
        if not joined:
            continue
        names = Counter(name for text in distinct for name in {part.strip() for part in text.split(mark)} if name)
        if forced:
            return mark
        recurs = any(names[part.strip()] > 1 for text in joined for part in text.split(mark) if part.strip())
        if not recurs or (mark == "," and (len(names) >= len(distinct) or _is_product(distinct, mark))):
            continue
        if mark == " " and not _are_sets(distinct, joined, names):
            continue
        return mark
    return None


def _is_product(cells: set[str], mark: str) -> bool:
    """Return whether every cell has the same number of names, and those in one place are never in another: 'Paris, France'."""
    rows = [[part.strip() for part in cell.split(mark)] for cell in cells]
    if len({len(row) for row in rows}) > 1:
        return False
    places = [set(place) for place in zip(*rows, strict=True)]
    return sum(map(len, places)) == len(set.union(*places))


def _are_sets(cells: set[str], joined: list[str], names: Counter[str]) -> bool:
    """Return whether names joined by spaces are labels rather than words of one name."""
    rows = [text.split() for text in joined]
    if any(len(row) > len(set(row)) for row in rows):
        return False  # running text
    if all(name.isdecimal() for name in names):
        return True
    inside = {name for row in rows for name in row}
    alone = len(inside & cells) / len(inside)
    lengths = {len(cell.split()) for cell in cells}
    return (alone >= 0.8 and len(names) < 0.6 * len(cells)) or (len(names) <= 0.2 * len(cells) and len(lengths) >= 3)


def integers(strings: list[str], column: str) -> Literal["lists", "numbers"] | None:
    """Return what whole numbers joined by commas are: lists of classes, or numbers with a comma; None where there are none.

    Raises:
        DataError: they may be either.
    """
    joined = [text for text in strings if "," in text]
    if not joined or not all(_INTEGERS.fullmatch(text) for text in strings) or all(_GROUPED.fullmatch(text) for text in joined):
        return None
    pairs = [[part.strip() for part in text.split(",")] for text in joined]
    if any(len(part) > 1 and part.startswith("0") for pair in pairs for part in pair):
        return "numbers"
    if any(len(pair) > 2 for pair in pairs):
        return "lists"
    singles = {text for text in strings if "," not in text}
    seconds = {second for _, second in pairs}
    if any(second.endswith("0") and first in singles for first, second in pairs):
        return "lists"  # a decimal number would be written without the zero, as others here are
    fixed = not singles and len(set(map(len, seconds))) == 1 and len(set(strings)) > _MANY
    if seconds <= _STEPS or len(set(strings)) > len(strings) / 2 or fixed:
        return "numbers"
    raise DataError(
        f"{column!r} holds values such as {joined[0]!r}: two classes, or one number with a decimal comma? "
        "Say which: task=multilabel or task=regression."
    )
