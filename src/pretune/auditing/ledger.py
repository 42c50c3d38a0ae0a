"""What a person reads of the ledger of dropped and repaired examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pretune.types import LedgerEntry

SHOWN = 8
"""Entries of one reason that are reported one by one; the file has all."""


def ledger_lines(ledger: Sequence[LedgerEntry]) -> list[str]:
    """Return the sentences on a ledger: the first few entries of each reason, and how many more there are."""
    lines: list[str] = []
    for (action, reason), count in Counter((e.action, e.reason) for e in ledger).items():
        entries = [e for e in ledger if (e.action, e.reason) == (action, reason)]
        lines += [f"{action} {entry.item}: {entry.detail}" for entry in entries[:SHOWN]]
        if count > SHOWN:
            lines.append(f"{action} {count - SHOWN} more for the same reason ({reason}); all are in ledger.csv")
    return lines
