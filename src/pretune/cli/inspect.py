"""pretune inspect RUN: what a run is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pretune import saved
from pretune.cli.arguments import Arguments
from pretune.errors import DataError, SettingError
from pretune.printable import json_text

_SHOWN = ("task", "primary", "model", "backbone", "strategy", "params", "counts", "precision", "timing", "peak_rss_mb", "diagnosis")


def main(arguments: Arguments) -> dict[str, Any]:
    """Print recipe, model, data and files of a run, and return them."""
    if len(arguments.words) != 1 or arguments.settings:
        raise SettingError("name one run and nothing else, for example: pretune inspect runs/photos-linear_probe-001")
    run = Path(arguments.words[0])
    if not (run / "recipe.json").exists():
        raise DataError(saved.unfinished(run, "recipe.json", "a run folder"))
    recipe = saved.json_of(run / "recipe.json")
    path = run / "metrics.json"
    metrics = saved.json_of(path) if path.exists() else {}
    files = {str(p.relative_to(run)): p.stat().st_size for p in sorted(run.rglob("*")) if p.is_file()}
    out = {"run": str(run), "recipe": recipe, **{key: metrics[key] for key in _SHOWN if key in metrics}, "files": files}
    if not arguments.json:
        print(json_text(out, indent=1))
    return out
