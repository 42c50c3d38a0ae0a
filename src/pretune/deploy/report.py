"""report.html: one self-contained page about a run, made from nothing but the run folder's files.

The page has no scripts and loads nothing; pictures and sounds are embedded. Which sections it has depends on
which files and figures exist, never on the modality.
"""

from __future__ import annotations

import csv
import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from pretune.deploy import _predictions, _pretraining, _sections
from pretune.deploy._predictions import Prediction
from pretune.training.run_dir import RunDir, write_atomic

if TYPE_CHECKING:
    import jinja2

_TEMPLATES = Path(__file__).parent / "_report"
_JOINERS = "\u200c\u200d"
"""Invisible, but parts of words and of emoji."""


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
        DataError: the folder has no metrics.json: this run is not finished.
    """
    path = run / "report.html"
    write_atomic(path, render(read(run)).encode("utf-8", errors="backslashreplace"))
    return path


def read(run: Path) -> Files:
    """Return the files of a run; what is missing is empty."""
    metrics = RunDir(run).read_json("metrics.json")
    return Files(
        run=run,
        metrics=metrics,
        audit=_json(run / "audit.json"),
        recipe=_json(run / "recipe.json"),
        environment=_json(run / "environment.json"),
        ledger=_ledger(run / "ledger.csv"),
        events=RunDir(run).events(),
        predictions=_predictions.read(run / "predictions.csv", metrics["task"], metrics["primary"]["split"]),
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
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value
    return "".join(c if c.isprintable() or c in _JOINERS else c.encode("unicode_escape").decode("ascii") for c in value)


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _ledger(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        return list(csv.DictReader(stream))
