"""predictions.csv of a run, read back: who was wrong, how sure, and by how much."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from pretune.sources.readers.quoting import unlimited_fields

_NEEDED = ("id", "split", "target", "prediction")


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One scored item."""

    id: str
    target: str
    prediction: str
    confidence: float | None
    """Probability of the prediction, in [0, 1]; None for numbers."""
    badness: float
    """How wrong: 0 where right; the confidence of a wrong class, the largest miss of a label, the absolute error of a number."""

    @property
    def right(self) -> bool:
        """Whether the prediction is the target."""
        return self.badness == 0


def read(path: Path, task: str, split: str) -> list[Prediction]:
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
        place = {name: columns.index(name) for name in (*_NEEDED, "confidence") if name in columns}
        names = {name.removeprefix("p_"): k for k, name in enumerate(columns) if name.startswith("p_")}
        return [_prediction(row, place, names, task) for row in rows if len(row) == len(columns) and row[place["split"]] == split]


def worst(predictions: list[Prediction], limit: int) -> list[Prediction]:
    """Return the worst wrong predictions, worst first."""
    wrong = [p for p in predictions if not p.right]
    return sorted(wrong, key=lambda p: -p.badness)[:limit]


def _prediction(row: list[str], place: dict[str, int], names: dict[str, int], task: str) -> Prediction:
    target, told = row[place["target"]], row[place["prediction"]]
    confidence = float(row[place["confidence"]]) if "confidence" in place and row[place["confidence"]] else None
    if task == "regression":
        badness = abs(float(told) - float(target))
    elif task == "multilabel":
        badness = _largest_miss(row, set(target.split("|")), set(told.split("|")), names)
    else:
        badness = 0.0 if told == target else max(confidence or 0.0, 1e-9)
    return Prediction(id=row[place["id"]], target=target, prediction=told, confidence=confidence, badness=badness)


def _largest_miss(row: list[str], true: set[str], told: set[str], names: dict[str, int]) -> float:
    """Return the largest gap between probability and truth among the labels that are wrong; 0 where none is."""
    gaps = [abs((name in true) - float(row[names[name]])) if name in names else 1.0 for name in (true ^ told) - {""}]
    return max(max(gaps, default=0.0), 1e-9 if gaps else 0.0)
