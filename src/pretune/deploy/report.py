"""report.html: one self-contained page about a run, made from nothing but the run folder's files.

The page has no scripts and loads nothing; pictures and sounds are embedded. Which sections it has depends on
which files and figures exist, never on the modality.
"""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from pretune import saved
from pretune.deploy import _predictions, _pretraining, _sections
from pretune.deploy._predictions import Prediction
from pretune.printable import printable
from pretune.training.run_dir import LEDGER, RunDir, write_atomic

if TYPE_CHECKING:
    import jinja2

_TEMPLATES = Path(__file__).parent / "_report"


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


def write(run: Path) -> Path:
    """Write `report.html` into a finished run's folder and return its path.

    Args:
        run: the folder; metrics.json must be there, everything else is shown where it exists.

    Raises:
        DataError: the folder has no metrics.json: this run is not finished; or a file of it is damaged.
    """
    path = run / "report.html"
    files = read(run)
    with saved.reading(run / "metrics.json"):
        page = render(files)
    write_atomic(path, page.encode("utf-8", errors="backslashreplace"))
    return path


def read(run: Path) -> Files:
    """Return the files of a run; what is missing is empty."""
    path = run / "metrics.json"
    metrics = RunDir(run).read_json(path.name)
    task, primary = saved.field(metrics, "task", str, path), saved.field(metrics, "primary", dict, path)
    split = saved.field(primary, "split", str, path)
    predictions = run / "predictions.csv"
    with saved.reading(predictions):
        scored = _predictions.read(predictions, task, split)
    return Files(
        run=run,
        metrics=metrics,
        audit=_json(run / "audit.json"),
        recipe=_json(run / "recipe.json"),
        environment=_json(run / "environment.json"),
        ledger=_ledger(run / "ledger.csv"),
        events=RunDir(run).events(),
        predictions=scored,
    )


def render(files: Files) -> str:
    """Return the page."""
    if files.metrics["task"] == "pretraining":
        return _template("pretraining").render(_pretraining.build(files))
    return _template("page").render(_sections.build(files))


@functools.cache
def _template(name: str) -> jinja2.Template:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(f"{name}.html.j2")


def visible(value: Any) -> Any:
    """Return text with control characters, direction marks and undecodable bytes written out, so that no name can hide or disturb."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


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
