"""pretune runs compare RUN RUN …: the settings that differ, and the metrics with their intervals."""

from __future__ import annotations

from typing import Any

from pretune.cli.arguments import Arguments
from pretune.cli.summaries import Summary, changed, named, read_summary
from pretune.cli.tables import aligned
from pretune.errors import SettingError
from pretune.evaluation.wording import words

_UNCOMPARED = ("out", "resume", "keep", "cache", "cache_size")
_SAME = ("the examples", "the splits", "the labels")
"""What of the data must be equal for scores to be comparable."""


def main(arguments: Arguments) -> dict[str, Any]:
    """Print what sets runs apart, and return it."""
    if len(arguments.words) < 3 or arguments.settings:
        raise SettingError("name two runs or more, for example: pretune runs compare photos-linear_probe-001 photos-full-001")
    runs = [read_summary(named(name)) for name in arguments.words[1:]]
    settings, metrics, notes = differing(runs), common_metrics(runs), remarks(runs)
    if not arguments.json:
        _print(runs, settings, metrics, notes)
    return {
        "runs": [str(run.run) for run in runs],
        "settings": settings,
        "metrics": {name: [{"value": run.figures.get(name), "interval": run.interval(name)} for run in runs] for name in metrics},
        "notes": notes,
    }


def differing(runs: list[Summary]) -> dict[str, list[str]]:
    """Return the settings that are not the same in all runs, by key; '' where a run has no such setting.

    Of settings that only some have, as those of another strategy, the defaults are left out.
    """
    changed_keys = {key for run in runs for key in changed(run.recipe)}
    out = {}
    for key in dict.fromkeys(key for run in runs for key in run.settings if key not in _UNCOMPARED):
        values = [run.settings.get(key, "") for run in runs]
        if len(set(values)) > 1 and (key in changed_keys or all(key in run.settings for run in runs)):
            out[key] = values
    return out


def common_metrics(runs: list[Summary]) -> list[str]:
    """Return the metrics that at least two runs have, the first run's leading one first."""
    known = [name for run in runs for name in run.figures]
    shared = [name for name in dict.fromkeys(known) if known.count(name) > 1]
    return sorted(shared, key=lambda name: name != runs[0].metric)


def remarks(runs: list[Summary]) -> list[str]:
    """Return what a person must know to read the figures: other data, no figures, differences within the uncertainty."""
    out = [f"{run.run} is not finished: it has no figures" for run in runs if not run.finished]
    prints = [{key: fingerprint.get(key) for key in _SAME} for run in runs if isinstance(fingerprint := run.recipe.get("data"), dict)]
    if any(one != prints[0] for one in prints) or len({run.split for run in runs if run.finished}) > 1:
        return [*out, "the runs were evaluated on different data or splits: their scores cannot be compared"]
    first, *others = [run for run in runs if run.finished] or runs[:1]
    for other in others:
        one, two = first.interval(first.metric), other.interval(first.metric)
        if other.metric == first.metric and one and two and one[0] <= two[1] and two[0] <= one[1]:
            out.append(f"{words(first.metric)}: the intervals of {first.run} and {other.run} overlap; the difference may be chance")
    return out


def _print(runs: list[Summary], settings: dict[str, list[str]], metrics: list[str], notes: list[str]) -> None:
    names = [str(run.run) for run in runs]
    rows: list[list[str]] = [["settings that differ", *names]]
    rows += [[f"  {key}", *values] for key, values in settings.items()] or [["  none", *("" for _ in runs)]]
    split = next((run.split for run in runs if run.finished), "")
    rows += [[f"{split} metrics (95 % interval)", *("" for _ in runs)]]
    rows += [[f"  {words(name)}", *(run.shown(name) for run in runs)] for name in metrics]
    rows += [["other", *("" for _ in runs)]]
    rows += [["  took", *("" if run.seconds is None else f"{run.seconds:.1f} s" for run in runs)]]
    rows += [["  parameters trained", *(_trained(run) for run in runs)]]
    print("\n".join(aligned(rows)))
    for note in notes:
        print(f"! {note}")


def _trained(run: Summary) -> str:
    params = run.metrics.get("params")
    count = params.get("trainable") if isinstance(params, dict) else None
    return f"{count:,}" if isinstance(count, int) else ""
