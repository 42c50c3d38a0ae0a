"""The one set of examples that is used: what is left after decoding, with one ledger and one count for every reader."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pretune.auditing.audit import contradictions
from pretune.auditing.duplicates import Duplicates
from pretune.errors import DataError
from pretune.formats.files import kinds
from pretune.sources.classes import left_out
from pretune.sources.names import names_of
from pretune.types import Finding, LedgerEntry, Row

if TYPE_CHECKING:
    from pretune.sources.table import Table
    from pretune.storage.ingest import Ingested


@dataclass(frozen=True, kw_only=True)
class Usable:
    """Which of the decoded examples are used."""

    positions: list[int]
    """Positions in the store, rising."""
    ledger: list[LedgerEntry]
    """Everything that was dropped or repaired, in the order it was found: reading, decoding, comparing."""
    findings: list[Finding]
    """Warnings about classes that are not used."""

    @property
    def dropped(self) -> int:
        """How many entries of the ledger were dropped."""
        return sum(entry.action == "dropped" for entry in self.ledger)

    def rows(self, ingested: Ingested) -> list[Row]:
        """Return the rows that are used."""
        return [ingested.rows[position] for position in self.positions]

    def require_some(self, table: Table, unit: str) -> None:
        """Refuse data of which nothing usable is left.

        Raises:
            DataError: counts the reasons and names the first example.
        """
        if self.positions:
            return
        rare = "".join(f" {finding.message}" for finding in self.findings)
        lost = [entry for entry in self.ledger if entry.action == "dropped"]
        first = f" First: {lost[0].item}: {lost[0].detail}" if lost else ""
        raise DataError(f"no usable {unit} is left under {table.root}; {' '.join(left_out(lost)) or 'nothing was found.'}{rare}{first}")

    def require_classes(self, ingested: Ingested, table: Table, unit: str) -> None:
        """Refuse data of which nothing usable, or only one class, is left.

        Raises:
            DataError: says why the others were dropped.
        """
        self.require_some(table, unit)
        rows, rare = self.rows(ingested), "".join(f" {finding.message}" for finding in self.findings)
        classes = {str(row.target) for row in rows}
        left = next(iter(classes))
        if table.target_type is not None and table.target_type.single and len(classes) < 2:
            raise DataError(f"only one class has usable {unit}s under {table.root}: {left}. At least two classes are needed.{rare}")


def settle(table: Table, ingested: Ingested, same: Duplicates, *, least: int, most: int | None = None) -> Usable:
    """Return the examples that are used: those that could be decoded, have one label, and a class that can be trained and scored.

    Args:
        table: what was read.
        ingested: what could be decoded of it.
        same: the duplicates among the decoded examples.
        least: examples that a class needs, over all splits; of a class of one nothing can be scored.
        most: length of an example that can be shown whole, where all of it must be; None for no limit.
    """
    long = [] if most is None else _too_long(ingested, most)
    contradictory = contradictions(table, ingested, same)
    out = {entry.item for entry in [*long, *contradictory]}
    untrained = _untrained([row for row in ingested.rows if row.id not in out])
    out |= {entry.item for entry in untrained}
    rare, findings = _rare(table, [row for row in ingested.rows if row.id not in out], least)
    out |= {entry.item for entry in rare}
    return Usable(
        positions=[position for position, row in enumerate(ingested.rows) if row.id not in out],
        ledger=[*table.ledger, *ingested.ledger, *long, *contradictory, *untrained, *rare],
        findings=findings,
    )


def _too_long(ingested: Ingested, most: int) -> list[LedgerEntry]:
    """Return an entry for every example of which the network could be shown a part only, where its label is about all of it."""
    entries = []
    for row, info, length in zip(ingested.rows, ingested.store.infos, ingested.store.lengths, strict=True):
        if length > most or "begin" in info:  # the beginning of what was kept of a file of hours
            seconds = float(info.get("seconds", 0.0))
            detail = f"lasts {seconds:.4g} s, and {seconds * most / length:.4g} s are the most that can be shown whole; cut it into pieces"
            entries.append(LedgerEntry(item=row.id, action="dropped", reason="too_long", detail=detail))
    return entries


def _rare(table: Table, rows: Sequence[Row], least: int) -> tuple[list[LedgerEntry], list[Finding]]:
    """Return an entry for every example of a class with too few, and the warning."""
    counts = Counter(name for row in rows for name in names_of(row))
    rare = {name: count for name, count in counts.items() if count < least}
    if not rare or table.target_type is None or not table.target_type.single:
        return [], []
    entries = [
        LedgerEntry(
            item=row.id,
            action="dropped",
            reason="rare_class",
            detail=f"is one of {rare[row.target]} of class {row.target!r}, and a class needs {least}",
        )
        for row in rows
        if isinstance(row.target, str) and row.target in rare
    ]
    names = sorted(rare, key=lambda name: (rare[name], name))
    shown = ", ".join(f"{name!r} ({rare[name]})" for name in names[:8]) + (" …" if len(names) > 8 else "")
    why = "A class of one can be trained but never scored" if least == 2 else f"min_examples={least} requires more"
    message = (
        f"{len(rare)} class(es) have fewer than {least} usable examples and are not used: {shown}. {why}; "
        "add examples, give them the name of another class, or keep them with min_examples=1."
    )
    return entries, [Finding(kind="rare_class", severity="warning", message=message, items=tuple(names[:300]))]


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
