"""What fine-tuning runs with and without pretraining, over several seeds, show of its gain: a table and sentences."""

from __future__ import annotations

import math
import statistics
from typing import Any

from pretune.evaluation.student import student
from pretune.evaluation.verdict import TRIVIAL

PRETRAINED, SCRATCH, LONGER = "pretrained", "from scratch, same fine-tuning budget", "from scratch, same total budget"
"""The three kinds of runs."""


def trivial(metrics: dict[str, Any], higher_is_better: bool) -> dict[str, Any] | None:
    """Return the best of the baselines that look at no example, by the leading metric."""
    known = {
        name: floor["value"] for name, floor in (metrics.get("floors") or {}).items() if name in TRIVIAL and floor.get("value") is not None
    }
    if not known:
        return None
    name = (max if higher_is_better else min)(known, key=lambda key: known[key])
    return {"name": name, "value": known[name]}


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return means and intervals over seeds for each number of labels, and a sentence for each."""
    table, messages = [], []
    for labels in dict.fromkeys(row["labels"] for row in rows):
        here = [row for row in rows if row["labels"] == labels]
        metric = here[0]["metric"]
        sign = 1 if here[0]["higher_is_better"] else -1
        values = {kind: [row["value"] for row in here if row["kind"] == kind] for kind in (PRETRAINED, SCRATCH, LONGER)}
        for kind, found in values.items():
            mean, half = interval(found)
            table.append({"labels": labels, "kind": kind, "metric": metric, "mean": mean, "half_width": half, "values": found})
        baseline = _baseline(here)
        if baseline is not None:
            table.append({"labels": labels, "metric": metric, "half_width": None, **baseline})
        for kind in (SCRATCH, LONGER):
            gained = [sign * (a - b) for a, b in zip(values[PRETRAINED], values[kind], strict=True)]
            best = max(sign * statistics.fmean(values[arm]) for arm in (PRETRAINED, kind))
            below = baseline is not None and best <= sign * baseline["mean"]
            head = f"with {labels} labels, against {kind}: {metric}"
            messages.append(_sentence(head, *interval(gained), baseline if below else None, here[0].get("held")))
    return {"table": table, "messages": messages, "runs": rows}


def _baseline(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return what a baseline that looks at no example reaches on the held-out examples, as a row beside the arms."""
    known = [row["baseline"] for row in rows if row.get("baseline")]
    if not known:
        return None
    values = [one["value"] for one in known]
    return {"kind": f"{known[0]['name']} baseline, no network", "mean": statistics.fmean(values), "values": sorted(set(values))}


def interval(values: list[float]) -> tuple[float, float | None]:
    """Return the mean and half the width of its 95 % interval (Student's t); None of a single value."""
    if len(values) < 2:
        return values[0], None
    deviation = statistics.stdev(values) / math.sqrt(len(values))
    return statistics.fmean(values), student(len(values) - 1) * deviation


def _sentence(head: str, gain: float, half: float | None, below: dict[str, Any] | None, held: int | None = None) -> str:
    """Return what the runs show of a gain.

    Args:
        head: what is compared.
        gain: mean over seeds, above 0 where the pretrained network is better.
        half: half the width of its interval; None of one seed, which shows nothing.
        below: the baseline that neither network is better than, if so.
        held: held-out examples, the same for every seed: the interval is over seeds, so what is claimed is claimed of these.
    """
    spread = "one seed" if half is None else f"95 % interval over seeds {gain - half:+.4f} to {gain + half:+.4f}"
    measured = f"{head} {gain:+.4f} ({spread})."
    if below is not None:
        return f"{measured} Neither network is better than the {below['kind']} ({below['mean']:.4g}): this comparison says nothing yet."
    if half is None:
        return f"{measured} One seed cannot tell whether pretraining helped: set seeds=3 or more."
    if gain - half <= 0 <= gain + half:
        return f"{measured} Inconclusive: the interval includes 0. More seeds or more held-out examples would narrow it."
    on = "" if held is None else f" on these {held:,} held-out examples"
    return f"{measured} Pretraining helped{on}." if gain > 0 else f"{measured} Pretraining did not help{on}: the score is worse with it."
