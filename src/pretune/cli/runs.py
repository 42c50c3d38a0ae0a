"""pretune runs [FOLDER] and pretune runs compare RUN RUN …: runs on disk, sorted and filtered, and what sets some apart."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from pretune import config
from pretune.cli import comparing
from pretune.cli.arguments import Arguments
from pretune.cli.summaries import Summary, figure, read_summary
from pretune.cli.tables import aligned
from pretune.cli.verbs import settings_of
from pretune.errors import DataError, SettingError
from pretune.evaluation.wording import words
from pretune.printable import printable


def main(arguments: Arguments) -> dict[str, Any]:
    """Print a line per run and return them; a damaged run is named and hides no other."""
    if arguments.words[:1] == ["compare"]:
        return comparing.main(arguments)
    if len(arguments.words) > 1:
        raise SettingError("name one folder of runs, or none for runs/; to compare runs: pretune runs compare RUN RUN")
    parent = Path(arguments.words[0] if arguments.words else "runs")
    if arguments.words and not parent.is_dir():
        raise DataError(f"there is no folder {parent}. Without a folder, pretune runs lists runs/.")
    wanted: Any = config.build(settings_of("runs") or object, config.override({}, arguments.settings))
    found, damaged = _found(parent)
    for line in damaged.values():
        print(f"! {printable(line)}", file=sys.stderr)
    kept = [run for run in found if _is_wanted(run, wanted)]
    kept = _sorted(kept, wanted.sort)[: wanted.last]
    if not arguments.json:
        _print(kept, parent, hidden=len(found) - len(kept), damaged=len(damaged))
    lines = [_line(run) for run in kept]
    return {"runs": [*lines, *({"run": str(path), "finished": False, "damaged": why} for path, why in damaged.items())]}


def _found(parent: Path) -> tuple[list[Summary], dict[Path, str]]:
    """Return the runs of a folder, and what is wrong with those that cannot be read."""
    found, damaged = [], {}
    for path in sorted(parent.glob("*/recipe.json")):
        try:
            found.append(read_summary(path.parent))
        except DataError as error:
            damaged[path.parent] = str(error)
    return found, damaged


def _is_wanted(run: Summary, wanted: Any) -> bool:
    """Return whether a run is one of those that the settings keep."""
    parts = {"strategy": run.strategy, "backbone": run.backbone, "data": run.settings.get("data", ""), "metric": run.metric}
    if any(value not in parts[key] for key in parts if (value := getattr(wanted, key)) is not None):
        return False
    return wanted.finished is None or run.finished == wanted.finished


def _sorted(runs: list[Summary], by: str) -> list[Summary]:
    """Return runs in the order that a person asked for; by score, runs with the same metric stand together, the best first."""
    if by == "score":
        return sorted(runs, key=lambda run: (run.value is None, run.metric, run.split, _badness(run), str(run.run)))
    if by == "name":
        return sorted(runs, key=lambda run: str(run.run))
    if by == "time":
        return sorted(runs, key=lambda run: (run.seconds is None, run.seconds or 0.0))
    return sorted(runs, key=lambda run: run.when, reverse=by == "newest")


def _badness(run: Summary) -> float:
    return 0.0 if run.value is None else -run.value if run.higher_is_better else run.value


def _print(runs: list[Summary], parent: Path, *, hidden: int, damaged: int) -> None:
    """Print the table, and how many runs are not in it."""
    if runs:
        rows = [[str(run.run), _score(run), run.backbone, _how(run), _took(run), _when(run)] for run in runs]
        print("\n".join(aligned([["run", "score (95 % interval)", "backbone", "strategy", "took", "when"], *rows])))
    elif not hidden:
        print(printable(f"no runs under {parent}/" if not damaged else f"no readable runs under {parent}/"))
    if hidden:
        print(f"{hidden} more {'run is' if hidden == 1 else 'runs are'} not shown: the settings leave them out")


def _score(run: Summary) -> str:
    if not run.finished:
        return "unfinished: resume=true resumes it"
    return f"{run.split} {words(run.metric)} {run.shown(run.metric) or figure(run.metric, run.value)}"


def _how(run: Summary) -> str:
    return f"{run.strategy}, predicts with the classical baseline" if run.predicts_with_baseline else run.strategy


def _took(run: Summary) -> str:
    return "" if run.seconds is None else f"{run.seconds:.0f} s" if run.seconds < 600 else f"{run.seconds / 60:.0f} min"


def _when(run: Summary) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(run.when)) if run.when else ""


def _line(run: Summary) -> dict[str, Any]:
    """Return a run, JSON-ready."""
    known = {"run": str(run.run), "finished": run.finished, "backbone": run.backbone, "strategy": run.strategy}
    if not run.finished:
        return known
    ends = run.interval(run.metric)
    return known | {
        "model": str(run.metrics.get("model", "network")),
        "metric": run.metric,
        "value": run.value,
        "split": run.split,
        "interval": list(ends) if ends else None,
        "seconds": run.seconds,
        "when": run.when,
    }
