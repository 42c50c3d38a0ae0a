"""pretune inspect RUN: what a run is made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pretune.cli.main import Arguments
from pretune.errors import DataError, SettingError

_SHOWN = ("task", "primary", "backbone", "strategy", "params", "counts", "precision", "timing", "peak_rss_mb", "diagnosis")


def main(arguments: Arguments) -> dict[str, Any]:
    """Print recipe, model, data and files of a run, and return them."""
    if len(arguments.words) != 1:
        raise SettingError("name one run, for example: pretune inspect runs/photos-linear_probe-001")
    run = Path(arguments.words[0])
    if not (run / "recipe.json").exists():
        raise DataError(f"{run} is not a run folder: it has no recipe.json. Known runs: pretune runs")
    recipe = json.loads((run / "recipe.json").read_text(encoding="utf-8"))
    path = run / "metrics.json"
    metrics = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    files = {str(p.relative_to(run)): p.stat().st_size for p in sorted(run.rglob("*")) if p.is_file()}
    out = {"run": str(run), "recipe": recipe, **{key: metrics[key] for key in _SHOWN if key in metrics}, "files": files}
    if not arguments.json:
        print(json.dumps(out, indent=1, ensure_ascii=False))
    return out
