"""A run as a small table: what a notebook shows of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import escape

from pretune.evaluation.wording import show, span, words


def card(run: Path, metrics: Mapping[str, Any]) -> str:
    """Return a run's score with its interval, its baselines and its files as an HTML table.

    Args:
        run: the run folder.
        metrics: what its metrics.json holds, of fine-tuning or of pretraining.
    """
    primary = metrics["primary"]
    name, split = primary["name"], primary["split"]
    ends = ((metrics.get(split) or {}).get("interval") or {}).get(name)
    score = show(name, primary["value"]) + (f" (95 % interval {span(name, ends)})" if ends else "")
    rows = [("run", str(run)), (f"{split} {words(name)}", score)]
    floors: Mapping[str, Any] = metrics.get("floors") or {}
    rows += [(f"baseline: {label}", show(name, floor.get("value"))) for label, floor in floors.items() if isinstance(floor, Mapping)]
    method = metrics.get("strategy") or metrics.get("objective")
    rows += [("backbone", str(metrics["backbone"]))] if metrics.get("backbone") else []
    rows += [("method", str(method))] if method else []
    rows += [("report", str(run / "report.html"))]
    cells = "".join(f"<tr><th style='text-align:left'>{escape(key)}</th><td>{escape(value)}</td></tr>" for key, value in rows)
    return f"<table>{cells}</table>"
