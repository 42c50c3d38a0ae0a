"""pretune runs [FOLDER]: runs on disk, newest first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pretune.cli.main import Arguments


def main(arguments: Arguments) -> dict[str, Any]:
    """Print a line per run and return them."""
    parent = Path(arguments.words[0] if arguments.words else "runs")
    recipes = sorted(parent.glob("*/recipe.json"), key=lambda p: p.stat().st_mtime, reverse=True)
    found = [_line(path.parent) for path in recipes]
    if not arguments.json:
        for run in found:
            score = f"{run['split']} {run['metric']} {run['value']:.4g}" if run["finished"] else "unfinished: resume=true goes on"
            print(f"{run['run']:<44} {score:<28} {run.get('backbone', '')} {run.get('strategy', '')}")
        if not found:
            print(f"no runs under {parent}/")
    return {"runs": found}


def _line(run: Path) -> dict[str, Any]:
    path = run / "metrics.json"
    if not path.exists():
        return {"run": str(run), "finished": False}
    metrics = json.loads(path.read_text(encoding="utf-8"))
    primary = metrics["primary"]
    return {
        "run": str(run),
        "finished": True,
        "metric": primary["name"],
        "value": primary["value"],
        "split": primary["split"],
        "backbone": metrics["backbone"],
        "strategy": metrics["strategy"],
        "seconds": metrics["timing"]["total_s"],
    }
