"""The files of a run folder, read: what a report is made from."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pretune import saved, tasks
from pretune.deploy import _predictions
from pretune.deploy._predictions import Prediction
from pretune.tasks import Task
from pretune.training.run_dir import LEDGER, RunDir


@dataclass(frozen=True, kw_only=True)
class Files:
    """What the run folder says."""

    run: Path
    metrics: dict[str, Any]
    audit: dict[str, Any]
    recipe: dict[str, Any]
    environment: dict[str, Any]
    ledger: list[dict[str, str]]
    events: list[dict[str, Any]]
    predictions: list[Prediction]
    """Of the part that is the score."""
    task: Task


def read_run_files(run: Path, task: Task | None = None) -> Files:
    """Return the files of a run; what is missing is empty.

    Args:
        run: the folder.
        task: the run's task; None takes the one that is installed under the name that metrics.json says.
    """
    path = run / "metrics.json"
    metrics = RunDir(run).read_json(path.name)
    name, primary = saved.field(metrics, "task", str, path), saved.field(metrics, "primary", dict, path)
    task = task or tasks.named(name)
    split = saved.field(primary, "split", str, path)
    predictions = run / "predictions.csv"
    with saved.reading(predictions):
        scored = _predictions.read_predictions(predictions, task, split)
    return Files(
        run=run,
        metrics=metrics,
        audit=_json(run / "audit.json"),
        recipe=_json(run / "recipe.json"),
        environment=_json(run / "environment.json"),
        ledger=_ledger(run / "ledger.csv"),
        events=RunDir(run).events(),
        predictions=scored,
        task=task,
    )


def _json(path: Path) -> dict[str, Any]:
    return saved.json_of(path) if path.exists() else {}


def _ledger(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with saved.reading(path), path.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        table = csv.DictReader(stream)
        rows = list(table)
        if not set(LEDGER) <= set(table.fieldnames or ()) or any(row[key] is None for row in rows for key in LEDGER):
            raise ValueError(f"it has no columns {', '.join(LEDGER)}, or rows with fewer")
        return rows
