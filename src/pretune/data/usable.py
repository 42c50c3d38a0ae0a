"""The one set of examples that is used: what is left after decoding, with one ledger and one count for every reader."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pretune.data.audit import contradictions
from pretune.data.classes import left_out, names_of
from pretune.data.duplicates import Duplicates
from pretune.modalities._formats import kinds
from pretune.types import LedgerEntry, Row

if TYPE_CHECKING:
    from pretune.data.ingest import Ingested
    from pretune.data.table import Table


@dataclass(frozen=True, kw_only=True)
class Usable:
    """Which of the decoded examples are used."""

    positions: list[int]
    """Positions in the store, rising."""
    ledger: list[LedgerEntry]
    """Everything that was dropped or repaired, in the order it was found: reading, decoding, comparing."""

    @property
    def dropped(self) -> int:
        """How many entries of the ledger were dropped."""
        return sum(entry.action == "dropped" for entry in self.ledger)

    def rows(self, ingested: Ingested) -> list[Row]:
        """Return the rows that are used."""
        return [ingested.rows[position] for position in self.positions]


def settle(table: Table, ingested: Ingested, same: Duplicates) -> Usable:
    """Return the examples that are used: those that could be decoded, have one label, and a class that can be trained.

    Args:
        table: what was read.
        ingested: what could be decoded of it.
        same: the duplicates among the decoded examples.
    """
    contradictory = contradictions(table, ingested, same)
    out = {entry.item for entry in contradictory}
    untrained = _untrained([row for row in ingested.rows if row.id not in out])
    out |= {entry.item for entry in untrained}
    return Usable(
        positions=[position for position, row in enumerate(ingested.rows) if row.id not in out],
        ledger=[*table.ledger, *ingested.ledger, *contradictory, *untrained],
    )


def _untrained(rows: Sequence[Row]) -> list[LedgerEntry]:
    """Return an entry for every val or test example of a class whose training examples were all dropped."""
    trained = {name for row in rows if row.split in (None, "train") for name in names_of(row)}
    if not trained:
        return []
    return [
        LedgerEntry(
            item=row.id,
            action="dropped",
            reason="unknown_class",
            detail=f"is of class {strange[0]!r}, which has no usable training example, so it cannot be scored",
        )
        for row in rows
        if row.split in ("val", "test") and (strange := [name for name in names_of(row) if name not in trained])
    ]


def sentences(table: Table, rows: Sequence[Row], ledger: Sequence[LedgerEntry]) -> list[str]:
    """Return what was dropped, and how many examples are used, by split and with their classes.

    Args:
        table: what was read.
        rows: the rows that are used.
        ledger: everything that was dropped or repaired.
    """
    splits = Counter(row.split or "all" for row in rows)
    shown = ", ".join(f"{splits[split]} {split}" for split in ("train", "val", "test") if splits[split])
    counted = f"{len(rows)} usable {kinds()[table.modality].unit}{'s' * (len(rows) != 1)}" + (f" ({shown})" if "all" not in splits else "")
    present = {name for row in rows for name in names_of(row)}
    classes = [name if name == name.strip() else repr(name) for name in table.classes if name in present]
    if classes:
        counted += f", {len(classes)} classes: {', '.join(classes[:12])}{' …' if len(classes) > 12 else ''}"
    return [*left_out(ledger), f"{counted}."]


def per_class(table: Table, rows: Sequence[Row]) -> dict[str, int]:
    """Return how many of the rows that are used each class has, in the order of the class list."""
    counts = Counter(name for row in rows for name in names_of(row))
    return {name: counts[name] for name in table.classes if counts[name]}
