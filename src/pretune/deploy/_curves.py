"""Learning curves from a run's events: loss, metric, learning rate over all phases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pretune.deploy import _charts
from pretune.deploy._charts import Line
from pretune.evaluation.diagnosis import words
from pretune.evaluation.metrics import LOWER_IS_BETTER

Event = Mapping[str, Any]

_STYLES = ("main", "other", "third")
_LOSSES = ("log_loss", "loss")


def build(events: Sequence[Event], primary: str) -> dict[str, Any] | None:
    """Return the charts that there is material for; None where nothing was trained."""
    stepped, evaluated = _in_order(events)
    losses = [(float(x), float(event["loss"])) for x, event in stepped if event.get("loss") is not None]
    if len(losses) < 2:
        return None
    rates = [(float(x), float(event["lr"])) for x, event in stepped if event.get("lr") is not None]
    charts = [_loss(losses, evaluated)]
    metric = None if primary == _loss_name(evaluated) else _metric(evaluated, primary)
    charts += [metric] if metric else []
    if rates:
        drawing = _charts.lines([Line(points=_charts.thin(rates), style="main")], x_label="step", title="learning rate")
        charts.append({"title": "learning rate", "keys": [], "drawing": drawing, "note": ""})
    steps = f"{stepped[-1][0]:,}"
    epochs = max([event["epoch"] for _, event in evaluated] + [event["epoch"] + 1 for _, event in stepped])
    return {"charts": charts, "steps": steps, "epochs": epochs, "phases": _phases(stepped), "warned": _warned(events)}


def _in_order(events: Sequence[Event]) -> tuple[list[tuple[int, Event]], list[tuple[int, Event]]]:
    """Return stepped and evaluated events with their step counted over all phases; what a restart repeated counts once."""
    phases: dict[str, list[Event]] = {}
    for event in events:
        if event.get("event") in ("stepped", "evaluated"):
            seen = phases.setdefault(event["phase"], [])
            while event["event"] == "stepped" and seen and seen[-1]["step"] >= event["step"]:  # the phase was begun again
                seen.pop()
            seen.append(event)
    out: dict[str, list[tuple[int, Event]]] = {"stepped": [], "evaluated": []}
    before = 0
    for seen in phases.values():
        for event in seen:
            out[event["event"]].append((before + event["step"], event))
        before += seen[-1]["step"]
    return out["stepped"], out["evaluated"]


def _loss(losses: list[tuple[float, float]], evaluated: list[tuple[int, Event]]) -> dict[str, Any]:
    window = max(1, len(losses) // 15)
    series = [Line(points=_charts.thin(losses), style="faint")] if window > 1 else []
    series.append(Line(points=_charts.thin(_charts.smooth(losses, window)), style="main"))
    keys = [("main", "train, smoothed" if window > 1 else "train")] + ([("faint", "train, each step")] if window > 1 else [])
    name = _loss_name(evaluated)
    for style, (part, points) in zip(_STYLES[1:], _by_part(evaluated, name).items(), strict=False):
        series.append(Line(points=points, style=style, dots=len(points) < 40))
        keys.append((style, f"{part}, {words(name)}"))
    values = [y for line in series for _, y in line.points]
    is_wide = min(values) > 0 and max(values) > 30 * min(values)
    drawing = _charts.lines(series, x_label="step", title="loss over steps", log_y=is_wide)
    return {"title": "loss" + (", logarithmic" if is_wide else ""), "keys": keys, "drawing": drawing, "note": ""}


def _loss_name(evaluated: list[tuple[int, Event]]) -> str:
    """Return the metric that is drawn beside the training loss, '' where there is none."""
    return next((n for n in _LOSSES if any(n in event["metrics"] for _, event in evaluated)), "")


def _metric(evaluated: list[tuple[int, Event]], primary: str) -> dict[str, Any] | None:
    by_part = _by_part(evaluated, primary)
    if not by_part:
        return None
    series = [
        Line(points=points, style=style, dots=len(points) < 40) for style, points in zip(("other", "third"), by_part.values(), strict=False)
    ]
    keys = list(zip(("other", "third"), by_part, strict=False))
    best = [x for x, event in evaluated if event.get("best")]
    note = f"dashed: the best, {'lowest' if primary in LOWER_IS_BETTER else 'highest'} on select; its weights were kept" if best else ""
    least = 0.0 if primary in LOWER_IS_BETTER else 0.1  # one item more or less must not look like a cliff
    drawing = _charts.lines(series, x_label="step", title=f"{words(primary)} over steps", mark=best[-1] if best else None, least=least)
    return {"title": words(primary), "keys": keys, "drawing": drawing, "note": note}


def _by_part(evaluated: list[tuple[int, Event]], name: str) -> dict[str, list[tuple[float, float]]]:
    out: dict[str, list[tuple[float, float]]] = {}
    for x, event in evaluated:
        value = event["metrics"].get(name)
        if value is not None:
            out.setdefault(event["part"], []).append((x, value))
    return out


def _phases(stepped: list[tuple[int, Event]]) -> list[str]:
    return list(dict.fromkeys(event["phase"] for _, event in stepped))


def _warned(events: Sequence[Event]) -> list[str]:
    return list(dict.fromkeys(event["message"] for event in events if event.get("event") == "warned"))
