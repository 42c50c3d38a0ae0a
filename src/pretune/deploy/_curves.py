"""Learning curves from a run's events: loss, metric, learning rate of each training phase."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pretune.deploy import _charts
from pretune.deploy._charts import ChartLine
from pretune.evaluation.direction import is_error
from pretune.evaluation.history import by_phase
from pretune.evaluation.wording import split_name, words

Event = Mapping[str, Any]
Points = list[tuple[float, float]]

_STYLES = ("main", "other", "third")
_LOSSES = ("log_loss", "loss")
_DETAIL = 300
"""Points of a curve, about."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """What a run was scored at."""

    split: str
    metrics: Mapping[str, Any]
    examples: int
    """That were measured."""
    counts: Mapping[str, Any]
    """Examples of each split."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """What happened in one phase."""

    phase: str
    stepped: list[Event]
    evaluated: list[Event]

    @property
    def steps(self) -> int:
        """Steps of this phase."""
        return (self.stepped or self.evaluated)[-1]["step"]

    @property
    def epochs(self) -> int:
        """Epochs of this phase, begun ones counted."""
        return max([event["epoch"] for event in self.evaluated] + [event["epoch"] + 1 for event in self.stepped])

    @property
    def length(self) -> str:
        """How long it was, as people write it."""
        return f"{self.steps:,} step{'' if self.steps == 1 else 's'}, {self.epochs:,} epoch{'' if self.epochs == 1 else 's'}"

    def series(self, key: str) -> Points:
        """Return what each reported step says under a name."""
        return [(float(e["step"]), float(e[key])) for e in self.stepped if e.get(key) is not None]

    def measured(self, split: str, name: str) -> Points:
        """Return a metric of a split that training does not learn from."""
        of_split = [e for e in self.evaluated if e["split"] == split and e["metrics"].get(name) is not None]
        return [(float(e["step"]), e["metrics"][name]) for e in of_split]

    @property
    def axis(self) -> str:
        """What the horizontal axis counts."""
        first = [event["step"] for event in self.stepped if event.get("epoch") == 0]
        return f"step ({max(first):,} to an epoch)" if first and self.epochs > 1 else "step"

    def splits(self, name: str) -> list[str]:
        """Return the splits that a metric was measured on."""
        return list(dict.fromkeys(event["split"] for event in self.evaluated if event["metrics"].get(name) is not None))


def build(events: Sequence[Event], primary: str, score: Score | None = None) -> dict[str, Any] | None:
    """Return the charts of every phase, the last one first: its weights are the model's; None where nothing was trained in steps.

    Args:
        events: of the run.
        primary: the metric that is drawn by itself.
        score: what the run was scored at: the last point of a curve that was not measured at its end.
    """
    courses = [course for course in in_order(events) if len(course.series("loss")) > 1]
    if not courses:
        return None
    last = courses[-1] if score is None else _ended(courses[-1], score)
    phases = [{"name": c.phase, "length": c.length, "charts": _charts_of(c, primary)} for c in (last, *reversed(courses[:-1]))]
    return {"phases": phases, "warned": _warned(events), "chooses": "" if score is None else _chooses(last, score)}


def _ended(course: Course, score: Score) -> Course:
    """Return a course whose last point is the score, where nothing else was measured at its end."""
    others = [event for event in course.evaluated if event["split"] != score.split or event.get("examples") not in (None, score.examples)]
    if others or any(event["step"] == course.steps for event in course.evaluated):
        return course
    last = {"step": course.steps, "epoch": course.epochs, "split": score.split, "metrics": score.metrics, "examples": score.examples}
    return replace(course, evaluated=[*course.evaluated, last])


def _chooses(course: Course, score: Score) -> str:
    """Return what a curve that chose nothing was measured for, and on how much."""
    shown = [event for event in course.evaluated if event.get("examples") is not None]
    if not shown:
        return ""
    split, examples, epochs = shown[-1]["split"], shown[-1]["examples"], [event["epoch"] for event in shown]
    every = epochs[0] if len(epochs) > 1 else 1
    sample = f" on {examples:,} of its {score.counts[split]:,} examples" if examples < (score.counts.get(split) or 0) else ""
    seldom = f"{' and' if sample else ''} every {every} epochs" if every > 1 else ""
    cost = ", as more would have taken over a tenth of the training time" if sample or seldom else ""
    also = f"{split} is also what the run is scored on" if split == score.split else f"{split} is measured while training"
    return (
        f"{also}: its curve is for information only{f', measured{sample}{seldom}{cost}' if cost else ''}. No weights, epoch or advice were "
        "chosen by it; patience=… sets training examples aside that may choose."
    )


def in_order(events: Sequence[Event]) -> list[Course]:
    """Return the phases of a run; what a restart repeated counts once."""
    kinds = ("stepped", "evaluated")
    return [
        Course(phase=phase, **{kind: [event for event in seen if event["event"] == kind] for kind in kinds})
        for phase, seen in by_phase(events).items()
    ]


def _charts_of(course: Course, primary: str) -> list[dict[str, Any]]:
    metric = None if primary == _loss_name(course) else _metric(course, primary)
    return [chart for chart in (_loss(course), metric, _rate(course)) if chart]


def _loss(course: Course) -> dict[str, Any]:
    points = course.series("loss")
    window = max(1, len(points) // 15)
    faint = _line(points if window > 1 else [], "faint")
    series = [*faint, *_line(_charts.smooth(points, window), "main")]
    keys = [("main", "train, smoothed" if faint else "train")] + ([("faint", "train, each step")] if faint else [])
    name = _loss_name(course)
    for style, split in zip(_STYLES[1:], course.splits(name), strict=False):
        series += _dotted(course.measured(split, name), style)
        keys.append((style, f"{split_name(split)}, {words(name)}"))
    values = [y for line in series for _, y in line.points]
    is_wide = min(values) > 0 and max(values) > 30 * min(values)
    drawing = _charts.lines(series, labels=(course.axis, "loss"), title="loss over steps", log_y=is_wide, until=course.steps)
    return {"title": "loss" + (", logarithmic" if is_wide else ""), "keys": keys, "drawing": drawing, "note": ""}


def _loss_name(course: Course) -> str:
    """Return the metric that is drawn beside the training loss, '' where there is none."""
    return next((name for name in _LOSSES if course.splits(name)), "")


def _metric(course: Course, primary: str) -> dict[str, Any] | None:
    keys = list(zip(("other", "third"), course.splits(primary), strict=False))
    if not keys:
        return None
    percent = 100.0 if "accuracy" in primary else 1.0
    points = {style: [(x, percent * y) for x, y in course.measured(split, primary)] for style, split in keys}
    series = [line for style in points for line in _dotted(points[style], style)]
    best = [event["step"] for event in course.evaluated if event.get("best")]
    note = f"dashed: the best, {'lowest' if is_error(primary) else 'highest'} on select; its weights were kept" if best else ""
    least = 0.0 if is_error(primary) else 0.1 * percent  # one example more or less must not look like a cliff
    title, mark = f"{words(primary)} over steps", best[-1] if best else None
    most = 100.0 if percent > 1 else math.inf
    name = f"{words(primary)} (%)" if percent > 1 else words(primary)
    drawing = _charts.lines(series, labels=(course.axis, name), title=title, mark=mark, least=least, until=course.steps, most=most)
    return {"title": words(primary), "keys": keys, "drawing": drawing, "note": note}


def _rate(course: Course) -> dict[str, Any] | None:
    series = _line(course.series("lr"), "main")
    if not series:
        return None
    drawing = _charts.lines(series, labels=(course.axis, "learning rate"), title="learning rate over steps", until=course.steps)
    return {"title": "learning rate", "keys": [], "drawing": drawing, "note": ""}


def _line(points: Points, style: str) -> list[ChartLine]:
    return [ChartLine(points=_charts.thin(points, _DETAIL), style=style)] if points else []


def _dotted(points: Points, style: str) -> list[ChartLine]:
    return [ChartLine(points=points, style=style, dots=len(points) < 40)] if points else []


def _warned(events: Sequence[Event]) -> list[str]:
    return list(dict.fromkeys(event["message"] for event in events if event.get("event") == "warned"))
