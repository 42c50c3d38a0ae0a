"""predictions.csv of a run, read back: who was wrong, how sure, and by how much."""

from __future__ import annotations

import csv
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pretune.sources.readers.quoting import unlimited_fields
from pretune.tasks import Task

MISTAKES = 24
"""Mistakes that the report shows at most."""
_NEEDED = ("id", "split", "target", "prediction")


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One scored example."""

    id: str
    target: str
    prediction: str
    confidence: float | None
    """Probability of the prediction, in [0, 1]; None for numbers."""
    badness: float
    """How wrong, as the task sees it: 0 where right."""
    row: Mapping[str, str] = field(default_factory=dict)
    """All columns of the file."""

    @property
    def right(self) -> bool:
        """Whether the prediction is the target."""
        return self.badness == 0


def read_predictions(path: Path, task: Task, split: str) -> list[Prediction]:
    """Return the predictions of one part in file order; empty where the run wrote none.

    Raises:
        ValueError: the file is no such table.
    """
    if not path.exists():
        return []
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as stream, unlimited_fields():
        rows = csv.reader(stream)
        columns = next(rows, [])
        if not set(_NEEDED) <= set(columns):
            raise ValueError(f"it has no columns {', '.join(_NEEDED)}")
        whole = (dict(zip(columns, row, strict=True)) for row in rows if len(row) == len(columns))
        return [_prediction(row, task) for row in whole if row["split"] == split]


def worst(predictions: list[Prediction], limit: int) -> list[Prediction]:
    """Return the worst wrong predictions, worst first."""
    wrong = [p for p in predictions if not p.right]
    return sorted(wrong, key=lambda p: -p.badness)[:limit]


def right(predictions: list[Prediction], limit: int, seed: int) -> list[Prediction]:
    """Return right predictions, sampled with a seed, in file order."""
    found = [p for p in predictions if p.right]
    return [found[i] for i in sorted(random.Random(seed).sample(range(len(found)), min(limit, len(found))))]


def _prediction(row: dict[str, str], task: Task) -> Prediction:
    confidence = float(row["confidence"]) if row.get("confidence") else None
    target, prediction = row["target"], row["prediction"]
    return Prediction(id=row["id"], target=target, prediction=prediction, confidence=confidence, badness=task.badness(row), row=row)
