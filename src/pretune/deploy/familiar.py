"""What a run remembers of the examples it was made from: those it learned from, whose figures say nothing, and the splits it sampled."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from pretune import saved
from pretune.sources.readers.quoting import unlimited_fields

_METRICS = "metrics.json"


def learned(run: Path, data: Path, items: Collection[str]) -> int:
    """Return how many of the examples a run has learned from, as far as its files tell: 0 where the data lie elsewhere.

    Args:
        run: a finished run's folder.
        data: folder or table that the examples are of.
        items: ids of examples.
    """
    held_out = recorded(run, data)
    if held_out is None:
        return 0
    counts = saved.json_of(run / _METRICS).get("counts")
    sizes = counts.items() if isinstance(counts, dict) else ()
    seen = sum(count for split, count in sizes if split in ("train", "select") and isinstance(count, int))
    return min(len(set(items) - held_out.keys()), seen)


def recorded(run: Path, data: Path) -> dict[str, str] | None:
    """Return the split of each example that a run was measured on, by its id; None where the run was not made from these data.

    Args:
        run: a finished run's folder.
        data: folder or table.
    """
    recipe, predictions = run / "recipe.json", run / "predictions.csv"
    if not (recipe.is_file() and (run / _METRICS).is_file() and predictions.is_file()):
        return None
    settings = saved.json_of(recipe).get("recipe")
    source = settings.get("data") if isinstance(settings, dict) else None
    if not isinstance(source, str) or Path(source).resolve() != data.resolve():
        return None
    with saved.reading(predictions), predictions.open(encoding="utf-8", errors="surrogateescape", newline="") as stream, unlimited_fields():
        return {row[0]: row[1] for row in csv.reader(stream) if len(row) > 1}


def sampled(run: Path, data: Path) -> dict[str, str]:
    """Return the splits of `recorded` that are whole: a run with little time may have been measured on a sample of one."""
    found = recorded(run, data) or {}
    counts = saved.json_of(run / _METRICS).get("counts") if found else None
    sizes = Counter(found.values())
    whole = {split for split, size in sizes.items() if isinstance(counts, dict) and counts.get(split) == size}
    return {name: split for name, split in found.items() if split in whole}


def warning(count: int, total: int, run: Path) -> str:
    """Return what a person reads where some examples were learned from."""
    return (
        f"the run learned from {count:,} of these {total:,} examples: the figures are better than they would be on new data. "
        f"{run / 'metrics.json'} has those of the examples that were held out."
    )
