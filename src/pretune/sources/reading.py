"""What is known of the way a label column is written, from the person or from the run."""

from __future__ import annotations

from dataclasses import dataclass

from pretune.sources.notation import Sign
from pretune.sources.table import Columns, RunColumns


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What is known of the way a label column is written; None where it is to be found."""

    missing: str | None = None
    """Labels that stand for a missing one, joined by commas; 'blank' for none."""
    decimal: Sign | None = None
    """The decimal sign of its numbers."""
    unit: str | None = None
    """The unit of its numbers in the training data of a run."""
    classes: frozenset[str] = frozenset()
    """The classes of a run, which are never missing labels."""


FOUND = Reading()


def reading_of(columns: Columns) -> Reading:
    """Return what the person says of a label column, and what a run remembers of the one it was trained on."""
    if not isinstance(columns, RunColumns):
        return Reading(missing=columns.missing, decimal=columns.decimal)
    schema = columns.schema
    return Reading(
        missing=columns.missing or schema.missing,
        decimal=columns.decimal or schema.decimal,
        unit=schema.unit,
        classes=frozenset(schema.classes),
    )
