"""Learning curves from a run's events: loss, metric, learning rate of each training phase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pretune.deploy import _charts
from pretune.deploy._charts import ChartLine
from pretune.evaluation.history import by_phase
from pretune.evaluation.metrics import is_error
from pretune.evaluation.wording import words

Event = Mapping[str, Any]
Points = list[tuple[float, float]]

_STYLES = ("main", "other", "third")
_LOSSES = ("log_loss", "loss")
_DETAIL = 300
"""Points of a curve, about."""


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

    def splits(self, name: str) -> list[str]:
        """Return the splits that a metric was measured on."""
        return list(dict.fromkeys(event["split"] for event in self.evaluated if event["metrics"].get(name) is not None))


def build(events: Sequence[Event], primary: str) -> dict[str, Any] | None:
    """Return the charts of every phase, the last one first: its weights are the model's; None where nothing was trained in steps."""
    courses = [course for course in in_order(events) if len(course.series("loss")) > 1]
    if not courses:
        return None
    phases = [{"name": c.phase, "length": c.length, "charts": _charts_of(c, primary)} for c in reversed(courses)]
    return {"phases": phases, "warned": _warned(events)}


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
        keys.append((style, f"{split}, {words(name)}"))
    values = [y for line in series for _, y in line.points]
    is_wide = min(values) > 0 and max(values) > 30 * min(values)
    drawing = _charts.lines(series, labels=("step", "loss"), title="loss over steps", log_y=is_wide)
    return {"title": "loss" + (", logarithmic" if is_wide else ""), "keys": keys, "drawing": drawing, "note": ""}


def _loss_name(course: Course) -> str:
    """Return the metric that is drawn beside the training loss, '' where there is none."""
    return next((name for name in _LOSSES if course.splits(name)), "")


def _metric(course: Course, primary: str) -> dict[str, Any] | None:
    keys = list(zip(("other", "third"), course.splits(primary), strict=False))
    if not keys:
        return None
    series = [line for style, split in keys for line in _dotted(course.measured(split, primary), style)]
    best = [event["step"] for event in course.evaluated if event.get("best")]
    note = f"dashed: the best, {'lowest' if is_error(primary) else 'highest'} on select; its weights were kept" if best else ""
    least = 0.0 if is_error(primary) else 0.1  # one example more or less must not look like a cliff
    title, mark = f"{words(primary)} over steps", best[-1] if best else None
    drawing = _charts.lines(series, labels=("step", words(primary)), title=title, mark=mark, least=least)
    return {"title": words(primary), "keys": keys, "drawing": drawing, "note": note}


def _rate(course: Course) -> dict[str, Any] | None:
    series = _line(course.series("lr"), "main")
    if not series:
        return None
    drawing = _charts.lines(series, labels=("step", "learning rate"), title="learning rate over steps")
    return {"title": "learning rate", "keys": [], "drawing": drawing, "note": ""}


def _line(points: Points, style: str) -> list[ChartLine]:
    return [ChartLine(points=_charts.thin(points, _DETAIL), style=style)] if points else []


def _dotted(points: Points, style: str) -> list[ChartLine]:
    return [ChartLine(points=points, style=style, dots=len(points) < 40)] if points else []


def _warned(events: Sequence[Event]) -> list[str]:
    return list(dict.fromkeys(event["message"] for event in events if event.get("event") == "warned"))
