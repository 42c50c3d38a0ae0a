"""The top of the report: the score beside its baselines, and what the baseline goes by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pretune.evaluation.direction import is_error
from pretune.evaluation.verdict import compared, opponents, verdict
from pretune.evaluation.wording import show, span, words


def headline(metrics: Mapping[str, Any], scores: Mapping[str, Any]) -> dict[str, Any]:
    """Return the score beside its baselines."""
    primary, floors = metrics["primary"], opponents(metrics.get("floors") or {}, model_of(metrics))
    name, value = primary["name"], primary["value"]
    found = verdict(name, scores, floors)
    ends = (scores.get("interval") or {}).get(name)
    return {
        "value": show(name, value),
        "words": words(name),
        "split": primary["split"],
        "examples": scores.get("examples") or (metrics.get("counts") or {}).get(primary["split"]),  # texts are written for some of them
        "interval": span(name, ends) if ends else "",
        "outcome": found.outcome if found else "",
        "verdict": found.sentence if found else "",
        "bars": _bars(name, value, ends, metrics, floors),
        "lower": is_error(name),
    }


def _bars(
    name: str, value: float | None, ends: Sequence[float] | None, metrics: Mapping[str, Any], floors: Mapping[str, Any]
) -> list[dict[str, Any]]:
    network = ((metrics.get("network") or {}).get(metrics["primary"]["split"]) or {}).get(name)
    values = [v for v in (value, network, *(floor.get("value") for floor in floors.values()), *(ends or ())) if v is not None]
    top = max(values, default=1.0) if is_error(name) else 1.0

    def width(v: float | None) -> float:
        return round(100 * min(max((v or 0.0) / (top or 1.0), 0.0), 1.0), 1)

    def bar(label: str, what: str, v: float | None, kind: str) -> dict[str, Any]:
        return {"label": label, "what": what, "value": show(name, v), "width": width(v), "kind": kind, "range": None}

    what = f"{metrics.get('backbone', '')}, {metrics.get('strategy', '')}"
    own = model_of(metrics)
    model = bar("this model", what if own == "network" else f"the classical baseline: {metrics['baseline']['what']}", value, "model")
    if ends:
        model["range"] = (width(ends[0]), round(width(ends[1]) - width(ends[0]), 1))
    beside = [] if own == "network" else [bar("the network", what, network, "")]
    return [
        model,
        *beside,
        *(bar(f"baseline: {label}", floor["what"], floor.get("value"), "") for label, floor in reversed(list(floors.items()))),
    ]


def model_of(metrics: Mapping[str, Any]) -> str:
    """Return which model the run's figures are of; runs made before there was a choice have the network."""
    return metrics.get("model", "network")


def tiles(metrics: Mapping[str, Any], scores: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the other metrics of the score's part, with intervals and what baselines reach, and the primary one on train."""
    primary, floors = metrics["primary"]["name"], opponents(metrics.get("floors") or {}, model_of(metrics))
    intervals = scores.get("interval") or {}
    out = []
    for name, value in scores.items():
        if isinstance(value, int | float) and name not in (primary, "mean_confidence", "examples"):
            ends = intervals.get(name)
            beside = [f"{label} {show(name, floor[name])}" for label, floor in floors.items() if floor.get(name) is not None]
            interval = "; ".join([*([span(name, ends)] if ends else []), *([f"baselines: {', '.join(beside)}"] if beside else [])])
            out.append({"words": words(name), "value": show(name, value), "range": interval, "outcome": _outcome(name, scores, floors)})
    seen = (metrics.get("train") or {}).get(primary)
    if seen is not None:
        out.append({"words": f"{words(primary)} on train", "value": show(primary, seen), "range": _learned(metrics), "outcome": ""})
    return out


def _outcome(name: str, scores: Mapping[str, Any], floors: Mapping[str, Any]) -> str:
    """Return how a metric lies to the best baseline: better, uncertain (within the interval), worse; '' without one or an interval."""
    values = [floor[name] for floor in floors.values() if floor.get(name) is not None]
    if not values or name not in (scores.get("interval") or {}):
        return ""
    return compared(name, scores, min(values) if is_error(name) else max(values))


def _learned(metrics: Mapping[str, Any]) -> str:
    """Return which training examples were measured."""
    all_of, measured = (metrics.get("counts") or {}).get("train"), (metrics.get("measured") or {}).get("train")
    return "the training set" if measured in (None, all_of) else f"{measured:,} examples of the training set"


def terms(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the terms that the saved baseline goes by, of each class."""
    found: Mapping[str, Sequence[str]] = (metrics.get("baseline") or {}).get("terms") or {}
    rows = [{"name": name, "terms": " · ".join(listed)} for name, listed in found.items() if listed]
    return {"what": metrics["baseline"]["what"], "rows": rows} if rows else None
