"""Whether examples to evaluate on are those that a run learned from: figures on them say nothing about new data."""

from __future__ import annotations

import csv
from collections.abc import Collection
from pathlib import Path

from pretune import saved
from pretune.sources.readers.quoting import unlimited_fields


def learned(run: Path, data: Path, items: Collection[str]) -> int:
    """Return how many of the examples a run has learned from, as far as its files tell: 0 where the data lie elsewhere.

    Args:
        run: a finished run's folder.
        data: folder or table that the examples are of.
        items: ids of examples.
    """
    recipe, metrics, predictions = run / "recipe.json", run / "metrics.json", run / "predictions.csv"
    if not (recipe.is_file() and metrics.is_file() and predictions.is_file()):
        return 0
    settings = saved.json_of(recipe).get("recipe")
    source = settings.get("data") if isinstance(settings, dict) else None
    if not isinstance(source, str) or Path(source).resolve() != data.resolve():
        return 0
    counts = saved.json_of(metrics).get("counts")
    seen = (
        sum(count for split, count in counts.items() if split in ("train", "select") and isinstance(count, int))
        if isinstance(counts, dict)
        else 0
    )
    with saved.reading(predictions), predictions.open(encoding="utf-8", errors="surrogateescape", newline="") as stream, unlimited_fields():
        scored = {row[0] for row in csv.reader(stream) if row}
    return min(len(set(items) - scored), seen)


def warning(count: int, total: int, run: Path) -> str:
    """Return what a person reads where some examples were learned from."""
    return (
        f"the run learned from {count:,} of these {total:,} examples: the figures are better than they would be on new data. "
        f"{run / 'metrics.json'} has those of the examples that were held out."
    )
