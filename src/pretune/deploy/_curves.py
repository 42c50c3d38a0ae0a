"""Learning curves from a run's events: loss, metric, learning rate, phase after phase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pretune.deploy import _charts
from pretune.deploy._charts import Line, Span
from pretune.evaluation.history import by_phase
from pretune.evaluation.metrics import is_error
from pretune.evaluation.wording import words

Event = Mapping[str, Any]
Points = list[tuple[float, float]]

_STYLES = ("main", "other", "third")
_LOSSES = ("log_loss", "loss")
_DETAIL = 300
"""Points of a curve, about, over all phases."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """What happened in one phase, its steps counted on from those of the phases before."""

    phase: str
    before: int
    """Steps of the phases before."""
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

    def series(self, key: str) -> Points:
        """Return what each reported step says under a name."""
        return [(float(self.before + e["step"]), float(e[key])) for e in self.stepped if e.get(key) is not None]

    def measured(self, part: str, name: str) -> Points:
        """Return a metric of a held-out part."""
        of_part = [e for e in self.evaluated if e["part"] == part and e["metrics"].get(name) is not None]
        return [(float(self.before + e["step"]), e["metrics"][name]) for e in of_part]


def build(events: Sequence[Event], primary: str) -> dict[str, Any] | None:
    """Return the charts that there is material for; None where nothing was trained."""
    courses = in_order(events)
    if sum(len(course.series("loss")) for course in courses) < 2:
        return None
    several = len(courses) > 1
    spans = [Span(name=c.phase, start=c.before, end=c.before + c.steps) for c in courses] if several else []
    metric = None if primary == _loss_name(courses) else _metric(courses, primary, spans)
    charts = [_loss(courses, spans), metric, _rate(courses, spans)]
    return {"charts": [chart for chart in charts if chart], "told": _told(courses), "warned": _warned(events)}


def in_order(events: Sequence[Event]) -> list[Course]:
    """Return the phases of a run; what a restart repeated counts once."""
    courses: list[Course] = []
    for phase, seen in by_phase(events).items():
        before = courses[-1].before + courses[-1].steps if courses else 0
        parts = {kind: [event for event in seen if event["event"] == kind] for kind in ("stepped", "evaluated")}
        courses.append(Course(phase=phase, before=before, **parts))
    return courses


def _loss(courses: Sequence[Course], spans: Sequence[Span]) -> dict[str, Any]:
    every = [course.series("loss") for course in courses]
    windows = [max(1, len(points) // 15) for points in every]  # within a phase: the mean over a boundary is of neither
    faint = _lines([points if window > 1 else [] for points, window in zip(every, windows, strict=True)], "faint")
    series = [*faint, *_lines([_charts.smooth(points, window) for points, window in zip(every, windows, strict=True)], "main")]
    keys = [("main", "train, smoothed" if faint else "train")] + ([("faint", "train, each step")] if faint else [])
    name = _loss_name(courses)
    for style, part in zip(_STYLES[1:], _parts(courses, name), strict=False):
        series += _dotted([course.measured(part, name) for course in courses], style)
        keys.append((style, f"{part}, {words(name)}"))
    values = [y for line in series for _, y in line.points]
    is_wide = min(values) > 0 and max(values) > 30 * min(values)
    drawing = _charts.lines(series, x_label="step", title="loss over steps", log_y=is_wide, spans=spans)
    return {"title": "loss" + (", logarithmic" if is_wide else ""), "keys": keys, "drawing": drawing, "note": ""}


def _loss_name(courses: Sequence[Course]) -> str:
    """Return the metric that is drawn beside the training loss, '' where there is none."""
    return next((n for n in _LOSSES if any(n in event["metrics"] for course in courses for event in course.evaluated)), "")


def _metric(courses: Sequence[Course], primary: str, spans: Sequence[Span]) -> dict[str, Any] | None:
    by_part = zip(("other", "third"), _parts(courses, primary), strict=False)
    keys = list(by_part)
    if not keys:
        return None
    series = [line for style, part in keys for line in _dotted([course.measured(part, primary) for course in courses], style)]
    last = courses[-1]
    best = [last.before + event["step"] for event in last.evaluated if event.get("best")]
    notes = [f"dashed: the best, {'lowest' if is_error(primary) else 'highest'} on select; its weights were kept"] if best else []
    if not last.evaluated:
        notes.append(f"before {last.phase}, which was measured at its end only: that is the score above")
    least = 0.0 if is_error(primary) else 0.1  # one item more or less must not look like a cliff
    title, mark = f"{words(primary)} over steps", best[-1] if best else None
    drawing = _charts.lines(series, x_label="step", title=title, mark=mark, least=least, spans=spans)
    return {"title": words(primary), "keys": keys, "drawing": drawing, "note": "; ".join(notes)}


def _rate(courses: Sequence[Course], spans: Sequence[Span]) -> dict[str, Any] | None:
    series = _lines([course.series("lr") for course in courses], "main")
    if not series:
        return None
    drawing = _charts.lines(series, x_label="step", title="learning rate", spans=spans)
    return {"title": "learning rate", "keys": [], "drawing": drawing, "note": ""}


def _lines(pieces: Sequence[Points], style: str) -> list[Line]:
    """Return one line a phase: nothing leads over a boundary."""
    return [Line(points=_charts.thin(points, max(_DETAIL // len(pieces), 30)), style=style) for points in pieces if points]


def _dotted(pieces: Sequence[Points], style: str) -> list[Line]:
    few = sum(map(len, pieces)) < 40
    return [Line(points=points, style=style, dots=few) for points in pieces if points]


def _parts(courses: Sequence[Course], name: str) -> list[str]:
    """Return the parts a metric was measured on."""
    seen = [event["part"] for course in courses for event in course.evaluated if event["metrics"].get(name) is not None]
    return list(dict.fromkeys(seen))


def _told(courses: Sequence[Course]) -> str:
    """Return how long was trained, by phase where there are several."""
    spans = [f"{c.steps:,} steps, {c.epochs:,} epoch{'' if c.epochs == 1 else 's'}" for c in courses]
    named = [f"{course.phase}: {span}" for course, span in zip(courses, spans, strict=True)]
    return "; then ".join(named if len(courses) > 1 else spans) + "."


def _warned(events: Sequence[Event]) -> list[str]:
    return list(dict.fromkeys(event["message"] for event in events if event.get("event") == "warned"))
