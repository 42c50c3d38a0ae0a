"""What reading a folder or a manifest gives: typed rows, and everything that was inferred on the way."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pretune.sources.schema import Schema
from pretune.sources.target_type import TargetType
from pretune.types import Finding, LedgerEntry, Row


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns of a manifest mean what; what is not named is found, and reported."""

    label: str | None = None
    """Column with the label or number to predict; several 0/1 columns, separated by commas; for files, a pattern over their paths."""
    text: str | None = None
    """Column with the text; two, separated by a comma, for sentence pairs."""
    path: str | None = None
    """Column with the file names, or with the files' contents."""
    group: Literal["none"] | str | None = None
    """Column whose rows of equal value are kept in the same split, or a pattern over paths with one group; none uses no groups."""
    split: str | None = None
    """Column that holds train, val or test; `new` ignores the splits in the data and makes new ones."""
    merge_classes: bool | None = None
    """Merge class names that differ only in letter case, spaces or punctuation; auto merges a spelling with at most a tenth of the usual
    one's examples."""
    missing: str | None = None
    """Labels that mean a missing label, separated by commas: NA,nan; `blank` for empty cells only; auto decides by frequency."""
    decimal: Literal["point", "comma"] | None = None
    """Decimal separator of numeric labels: point (1,234.5) or comma (1.234,5); auto detects it."""


@dataclass(frozen=True, kw_only=True)
class RunColumns(Columns):
    """The columns to read for a run that was trained before: those that the person names now, else those of its training data."""

    schema: Schema


@dataclass(kw_only=True)
class Table:
    """The rows of a data set before anything is decoded."""

    rows: list[Row]
    modality: str
    """image, text or audio."""
    target_type: TargetType | None
    """None where there are no labels."""
    root: Path
    """The folder that ids and paths are relative to."""
    layout: str
    """For people: 'class folders with train and val parts', 'manifest labels.csv'."""
    classes: tuple[str, ...] = ()
    """Sorted naturally: 0, 1, 2, 10; empty for regression."""
    columns: dict[str, str] = field(default_factory=dict)
    """Role -> the column that was used."""
    schema: Schema = field(default_factory=Schema)
    """The same for a run to remember."""
    messages: list[str] = field(default_factory=list)
    """What was inferred, one sentence each."""
    ledger: list[LedgerEntry] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    unlabelled: list[Row] = field(default_factory=list)
    """Rows of the ledger that lack no more than a usable label: what learns without labels takes them."""
    inputs: list[str] = field(default_factory=list)
    """Ids of every input in its order, those in the ledger included; `predict` answers each."""

    @property
    def task(self) -> str | None:
        """Name of the task that the targets are for; None where there are no labels."""
        return None if self.target_type is None else self.target_type.task

    def counts(self) -> Counter[str]:
        """Return the number of rows by part; 'all' where the data have no parts yet."""
        return Counter(row.split or "all" for row in self.rows)
