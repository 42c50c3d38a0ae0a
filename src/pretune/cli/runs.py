"""pretune runs [FOLDER]: runs on disk, newest first."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pretune import saved
from pretune.cli.arguments import Arguments
from pretune.errors import DataError, SettingError
from pretune.printable import printable


def main(arguments: Arguments) -> dict[str, Any]:
    """Print a line per run and return them; a damaged run is named and hides no other."""
    if len(arguments.words) > 1 or arguments.settings:
        raise SettingError("name one folder of runs, or none for runs/, for example: pretune runs experiments/")
    parent = Path(arguments.words[0] if arguments.words else "runs")
    if arguments.words and not parent.is_dir():
        raise DataError(f"there is no folder {parent}. Without a folder, pretune runs lists runs/.")
    recipes = sorted(parent.glob("*/recipe.json"), key=_age, reverse=True)
    found = [_line(path.parent) for path in recipes]
    for run in found:
        if "damaged" in run:
            print(f"! {printable(run['damaged'])}", file=sys.stderr)
        elif not arguments.json:
            how = f"{run.get('backbone', '')} {run.get('strategy', '')}" if run.get("model") != "baseline" else "classical baseline"
            print(printable(f"{run['run']:<44} {_score(run):<28} {how}"))
    if not found and not arguments.json:
        print(printable(f"no runs under {parent}/"))
    return {"runs": found}


def _age(path: Path) -> float:
    """Return when a file was last changed; one that is gone, or leads nowhere, is the oldest."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _score(run: dict[str, Any]) -> str:
    if not run["finished"]:
        return "unfinished: resume=true goes on"
    value = "not a number" if run["value"] is None else f"{run['value']:.4g}"
    return f"{run['split']} {run['metric']} {value}"


def _line(run: Path) -> dict[str, Any]:
    """Return what is known of a run: its score, that it is not finished, or what is damaged."""
    path = run / "metrics.json"
    try:
        saved.json_of(run / "recipe.json")
        return _finished(run, path) if path.exists() else {"run": str(run), "finished": False}
    except DataError as error:
        return {"run": str(run), "finished": False, "damaged": str(error)}


def _finished(run: Path, path: Path) -> dict[str, Any]:
    """Return the score of a run; one of pretraining has an objective where others have a strategy."""
    metrics = saved.json_of(path)
    primary = saved.field(metrics, "primary", dict, path)
    if primary.get("value") is not None:  # as NaN is written
        saved.field(primary, "value", float, path)
    return {
        "run": str(run),
        "finished": True,
        "metric": saved.field(primary, "name", str, path),
        "value": primary.get("value"),
        "split": saved.field(primary, "split", str, path),
        "model": str(metrics.get("model", "network")),
        "backbone": str(metrics.get("backbone", "")),
        "strategy": str(metrics.get("strategy", metrics.get("objective", ""))),
        "seconds": saved.field(saved.field(metrics, "timing", dict, path), "total_s", float, path),
    }
