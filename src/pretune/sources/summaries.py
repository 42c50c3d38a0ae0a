"""What is odd about documents and their summaries, before anything is learned of them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from pretune.sources.conversation import Conversation
from pretune.sources.table import Table
from pretune.types import Finding, Row

_SHOWN = 5
"""Examples that a finding names."""
_MOST = 300
"""Examples that a finding lists."""
_COPIED = 0.5
"""Share of summaries that are part of their documents, word for word, from which that is reported."""


def inspect(table: Table) -> None:
    """Report summaries that are longer than their documents or copied out of them, and keep the rows of one document together."""
    rows = [row for row in table.rows if isinstance(row.target, Conversation) and row.target.answered]
    longer = [row.id for row in rows if len(_summary(row)) > len(_document(row))]
    if longer:
        shown = ", ".join(longer[:_SHOWN]) + (" …" if len(longer) > _SHOWN else "")
        message = (
            f"{len(longer):,} of {len(rows):,} summaries are longer than their documents: {shown}. They are used; "
            "check that the columns are not swapped (text=DOCUMENT label=SUMMARY)."
        )
        table.findings.append(Finding(kind="long_targets", severity="warning", message=message, items=tuple(longer[:_MOST])))
    copied = sum(_summary(row).strip() in _document(row) for row in rows)
    if copied > _COPIED * len(rows):
        message = f"{copied:,} of {len(rows):,} summaries are part of their documents, word for word: extraction can find them."
        table.findings.append(Finding(kind="copied_targets", severity="note", message=message))
    if not any(row.split for row in table.rows):
        _group(table)


def _group(table: Table) -> None:
    """Give the rows of one document one group, so that automatic splits keep them together."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(table.rows):
        places[" ".join(_document(row).casefold().split())].append(place)
    again = [found for found in places.values() if len(found) > 1]
    for found in again:
        first = table.rows[found[0]]
        for place in found:
            table.rows[place] = replace(table.rows[place], group=table.rows[place].group or f"document of {first.id}")
    if again:
        count = sum(map(len, again))
        table.messages.append(f"{count:,} rows share {len(again):,} documents; automatic splits keep the rows of a document together.")


def _document(row: Row) -> str:
    return "\n\n".join(row.text or ())


def _summary(row: Row) -> str:
    assert isinstance(row.target, Conversation)
    return row.target.turns[-1].content
