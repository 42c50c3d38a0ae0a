"""What one example's target is: a class, several classes, a number, or what a task of another package reads.

Reading, splitting and auditing follow the type and know no task. A task names the type it takes (`Task.reads`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from pretune.sources.names import names_of
from pretune.sources.notation import Notation
from pretune.sources.readers.records import Value
from pretune.types import Finding, Row, Target

_BINS = 10


@dataclass(frozen=True, slots=True)
class Problem:
    """Why one value gives no target, or how it was repaired; `words` continue 'row 19 …'."""

    action: Literal["dropped", "repaired"]
    reason: str
    words: str


@dataclass(frozen=True, kw_only=True)
class TargetType:
    """The type of a data set's targets; a task whose targets are of a form of their own derives from it and defines `parse`."""

    form: Literal["class", "classes", "number", "own"] = "own"
    task: str = ""
    """Name of the task: the one that takes these targets where nobody names another."""

    def __str__(self) -> str:
        return {"class": "one class for each example", "classes": "any number of classes for each example", "number": "numbers"}.get(
            self.form, f"those of task={self.task}" if self.task else "labels of its own form"
        )

    @property
    def single(self) -> bool:
        """Whether a target is one class name."""
        return self.form == "class"

    @property
    def exclusive(self) -> bool:
        """Whether only one target of an example can be right, so that a file with two that differ is contradictory."""
        return self.single

    @property
    def several(self) -> bool:
        """Whether a target is any number of class names."""
        return self.form == "classes"

    @property
    def numeric(self) -> bool:
        """Whether a target is a number."""
        return self.form == "number"

    def parse(self, values: list[Value], column: str) -> ParsedLabels | None:
        """Return the targets of a label column; None where the common rules read it.

        Args:
            values: as read, None where missing.
            column: its name, for messages.

        Raises:
            DataError: the column as a whole holds something else.
        """
        return None

    def renamed(self, target: Target, names: Mapping[str, str]) -> Target:
        """Return a target with other names for some of its classes."""
        if isinstance(target, tuple):
            found = tuple(names.get(name, name) for name in target)
            return tuple(dict.fromkeys(found)) if self.several else found
        return names.get(target, target) if isinstance(target, str) else target

    def differ(self, first: Target, second: Target) -> bool:
        """Return whether two targets of one example contradict each other."""
        return first != second

    def likeliest(self, files: Sequence[Sequence[Target]]) -> list[Target]:
        """Return which of the targets of each file is right, by those of the others; None where nothing tells."""
        return [None] * len(files)

    def kind_of(self, target: Target) -> str | None:
        """Return what facts of files (sample rate, size) may give away of a target: its class; None where there is no such."""
        return str(target) if self.single else None

    def fault(self, row: Row) -> tuple[str, str] | None:
        """Return why a row's target does not go with its content, as a reason and words that continue 'notes.csv:19 …'; None where it does.

        Such rows are dropped, and named in the ledger.
        """
        return None

    def is_cut(self, row: Row) -> bool:
        """Return whether a row is cut into several examples before it is learned from: a long text into blocks."""
        return False

    def strata(self, rows: Sequence[Row]) -> list[tuple[str, ...]]:
        """Return what each row is counted under when data are split: its class names; of numbers the tenth it lies in.

        Every stratum keeps its share on both sides of a split, as far as possible.
        """
        if not self.numeric:
            return [tuple(dict.fromkeys(names_of(row))) or ("",) for row in rows]
        values = np.array([float(row.target) if isinstance(row.target, int | float) else 0.0 for row in rows])
        bins = max(1, min(_BINS, len(values) // 5))
        edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1])) if len(values) else np.zeros(0)
        return [(str(place),) for place in np.searchsorted(edges, values, side="right")]


ONE_CLASS = TargetType(form="class", task="classification")
SEVERAL_CLASSES = TargetType(form="classes", task="multilabel")
NUMBER = TargetType(form="number", task="regression")


@dataclass(kw_only=True)
class ParsedLabels:
    """The targets of a column (or of several 0/1 columns), aligned with its values."""

    type: TargetType
    values: list[Target]
    """None where `problems` holds a dropped entry."""
    problems: dict[int, Problem] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    notation: Notation | None = None
    """How the numbers were written; None for classes."""

    def drop(self, index: int, reason: str, words: str) -> None:
        """Drop one value; `words` continue 'row 19 …'."""
        self.values[index] = None
        self.problems[index] = Problem("dropped", reason, words)

    def written(self) -> dict[str, Any]:
        """Return what a run remembers of the way its numbers were written."""
        if self.notation is None:
            return {}
        matters = self.notation.grouped or self.notation.decimal == "comma"
        return {"decimal": self.notation.decimal if matters else None, "unit": self.notation.unit}
