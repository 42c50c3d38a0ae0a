"""Records with a list in the place of a text, as several records: a query with several passages is several pairs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields

from pretune.sources.readers.records import Records, Value

_MOST = 8
"""Columns at most that a column of lists is divided into."""


@dataclass(kw_only=True)
class SpreadRecords(Records):
    """Records of which several may come from one."""

    copies: list[int]
    """Which of its record's texts each one has, from 0 on."""

    def id(self, index: int) -> str:
        """Return the id of a record; the second of one record is 'data.jsonl:17#2'."""
        again = f"#{self.copies[index] + 1}" if self.copies[index] else ""
        return f"{super().id(index)}{again}"


def spread(records: Records, column: str, beside: Sequence[str]) -> tuple[Records, dict[str, tuple[str, ...]]]:
    """Return a record for each text of a column's lists, and the columns that each column of lists beside it became.

    Lists beside it are divided into columns, as wide as the longest: a record with fewer texts repeats its own.
    """
    at = records.columns.index(column)
    lists = [_texts(record[at]) for record in records.values]
    others = {name: [_texts(value) for value in records.column(name)] for name in beside}
    wide = {name: min(_MOST, max((len(texts) for texts in found if texts), default=0)) for name, found in others.items()}
    wide = {name: width for name, width in wide.items() if width}
    if not wide and not any(lists):
        return records, {}
    named: dict[str, tuple[str, ...]] = {
        name: (name, *(f"{name} {place}" for place in range(2, width + 1))) for name, width in wide.items()
    }
    values: list[list[Value]] = []
    origins: list[int] = []
    copies: list[int] = []
    for place, record in enumerate(records.values):
        row = list(record)
        for name, width in wide.items():
            texts = others[name][place] or [record[records.columns.index(name)]]
            row[records.columns.index(name)] = texts[0]
            row += [texts[number % len(texts)] for number in range(1, width)]
        for copy, text in enumerate(lists[place] or [record[at]]):
            values.append([*row[:at], text, *row[at + 1 :]])
            origins.append(place)
            copies.append(copy)
    kept = {one.name: getattr(records, one.name) for one in fields(records)}
    kept |= {"values": values, "columns": [*records.columns, *(name for names in named.values() for name in names[1:])]}
    kept |= {"numbers": [records.numbers[place] for place in origins]}
    kept |= {"rows": [records.rows[place] for place in origins] if records.rows else []}
    return SpreadRecords(**kept, copies=copies), named


def _texts(value: Value) -> list[Value]:
    """Return the texts of a list, which a CSV may have as JSON; none of anything else, and of an empty list."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            return []
    return [one for one in value if isinstance(one, str)] if isinstance(value, list | tuple) else []
