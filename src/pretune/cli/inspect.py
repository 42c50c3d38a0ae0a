"""pretune inspect RUN: the settings, metrics and files of a run."""

from __future__ import annotations

import time
from typing import Any

from pretune.cli.arguments import Arguments
from pretune.cli.summaries import Summary, changed, command_of, figure, is_number, named, read_summary
from pretune.cli.tables import aligned
from pretune.evaluation.wording import span, words
from pretune.printable import printable

_SHOWN = ("task", "primary", "model", "backbone", "strategy", "params", "counts", "precision", "timing", "peak_rss_mb", "diagnosis")
_SPLITS = ("train", "val", "test", "held")
_FILES = 12
"""Files that are named at most."""


def main(arguments: Arguments) -> dict[str, Any]:
    """Print settings, data, metrics and files of a run, and return them."""
    run = named(arguments.words[0])
    summary = read_summary(run)
    files = {str(p.relative_to(run)): p.stat().st_size for p in sorted(run.rglob("*")) if p.is_file()}
    if not arguments.json:
        blocks = [_head(summary), _figures(summary), _baselines(summary), _diagnosis(summary), _files(files)]
        print("\n\n".join("\n".join(block) for block in blocks if block))
    return {
        "run": str(run),
        "recipe": summary.recipe,
        **{key: summary.metrics[key] for key in _SHOWN if key in summary.metrics},
        "files": files,
    }


def _head(summary: Summary) -> list[str]:
    """Return what the run is."""
    state = "finished" if summary.finished else "not finished (resume=true resumes it), started"
    took = f", {summary.seconds:.1f} s" if summary.seconds is not None else ""
    rows = [
        ["backbone", summary.backbone],
        ["objective" if "objective" in summary.metrics else "strategy", summary.strategy],
        ["predicts with", "the classical baseline" if summary.predicts_with_baseline else ""],
        ["task", str(summary.metrics.get("task", ""))],
        ["data", summary.settings.get("data", "")],
        ["examples", _counts(summary.metrics.get("counts"))],
        ["parameters", _parameters(summary.metrics.get("params"))],
        ["precision", _precision(summary.metrics.get("precision"))],
        *([] if changed(summary.recipe) else [["settings", "all defaults"]]),
    ]
    lines = aligned([row for row in rows if row[1]], "  ")
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(summary.when))
    return [printable(f"{summary.run}: {state} {when}{took}"), *lines, f"  repeat it: {command_of(summary.recipe)}"]


def _counts(counts: Any) -> str:
    if not isinstance(counts, dict):
        return ""
    found = {key: value for key, value in counts.items() if isinstance(value, int) and key != "used"}
    return ", ".join(f"{value:,} {key}" for key, value in found.items())


def _parameters(params: Any) -> str:
    known = isinstance(params, dict) and all(isinstance(params.get(key), int) for key in ("total", "trainable"))
    return f"{params['total']:,}, of which {params['trainable']:,} were trained" if known else ""


def _precision(precision: Any) -> str:
    return "" if not isinstance(precision, dict) else "bfloat16" if precision.get("bfloat16") else "float32"


def _figures(summary: Summary) -> list[str]:
    """Return the metrics of every split, the intervals of the score's."""
    found = {split: summary.metrics[split] for split in _SPLITS if isinstance(summary.metrics.get(split), dict)}
    if not found:
        return []
    numbers = {split: {k: v for k, v in figures.items() if is_number(v)} for split, figures in found.items()}
    names = sorted(dict.fromkeys(name for figures in numbers.values() for name in figures), key=lambda name: name != summary.metric)
    header = ["metrics", *numbers, f"95 % interval ({summary.split})"]
    rows = []
    for name in names:
        ends = summary.interval(name)
        interval = span(name, ends) if ends else ""
        values = [figure(name, numbers[split][name]) if name in numbers[split] else "" for split in numbers]
        rows.append([f"  {words(name)}", *values, interval])
    return aligned([header, *rows])


def _baselines(summary: Summary) -> list[str]:
    floors = summary.metrics.get("floors")
    if not isinstance(floors, dict) or not floors:
        return []
    values = {name: floor.get("value") if isinstance(floor, dict) else floor for name, floor in floors.items()}
    shown = [[f"  {name}", figure(summary.metric, value)] for name, value in values.items() if is_number(value)]
    return [f"baselines ({words(summary.metric)})", *aligned(shown)] if shown else []


def _diagnosis(summary: Summary) -> list[str]:
    lines = summary.metrics.get("diagnosis")
    return ["diagnosis", *(f"  {printable(str(line))}" for line in lines)] if isinstance(lines, list) and lines else []


def _files(files: dict[str, int]) -> list[str]:
    """Return the largest files and their sizes, the report first."""
    order = sorted(files, key=lambda name: (name != "report.html", -files[name]))
    rows = [[f"  {name}", _size(files[name])] for name in order[:_FILES]]
    more = len(files) - len(rows)
    return [f"files, {_size(sum(files.values()))} in all", *aligned(rows), *([f"  and {more} more"] if more > 0 else [])]


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"
