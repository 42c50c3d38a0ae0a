"""What a result means and what to do next, in sentences a person can act on; most important first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pretune.evaluation.history import by_phase
from pretune.evaluation.metrics import LOWER_IS_BETTER, better

Tree = Mapping[str, Any]

_GAP = 0.1
"""Train above the score by this much, and outside its interval, is over-fitting."""
_WIDE = 0.15
"""An interval wider than this (in accuracy) decides little."""
_IMBALANCED = 10
"""Largest class over smallest, from which classes are said to be imbalanced."""
_FEW = 10
"""Fewer training items of a class than this are too few."""
_ECE = 0.1
_ECE_ITEMS = 100
"""Fewer items make the expected calibration error itself unreliable."""


def diagnose(history: Sequence[Tree], metrics: Tree, floors: Mapping[str, Tree], counts: Tree) -> list[str]:
    """Return what a person should know about a run, as sentences; empty where there is nothing to say.

    Args:
        history: events of the run in order, as `events.jsonl` has them; stepped and evaluated are read. What is said of the course of
            training is of the last phase, and names it where there are several: only its weights are the model's.
        metrics: primary {name, value, split}, strategy, and for each split {metric: value, interval: {metric: [low, high]}, per_class}.
        floors: name -> {what, value}.
        counts: train, val, test: items; per_class {class: {split: items}}.
    """
    primary = metrics.get("primary") or {}
    name, split = primary.get("name", ""), primary.get("split", "val")
    train, held = metrics.get("train") or {}, metrics.get(split) or {}
    phases = by_phase(history)
    course = list(phases.values())[-1] if phases else []
    phase = f"phase {list(phases)[-1]!r}" if len(phases) > 1 else ""
    losses = _losses(course)
    start = next((loss for events in phases.values() for loss in _losses(events)), math.nan)
    diverged = _diverging(losses, start, course, phase)
    losses = [loss for loss in losses if math.isfinite(loss)]
    sentences = [
        diverged,
        _below_floor(name, held, floors),
        _overfitting(name, train, held, split, metrics.get("strategy", "")),
        "" if diverged else _underfitting(name, train, held, losses, phase),
        _past_its_best(course, name, phase),
        _uncertain(name, held, split, counts),
        _few_per_class(counts),
        _imbalance(held, counts),
        _never_predicted(held, split),
        _miscalibrated(held, split, counts),
    ]
    return [sentence for sentence in sentences if sentence]


def verdict(name: str, held: Tree, floors: Mapping[str, Tree]) -> tuple[bool, str] | None:
    """Return whether the score clears its highest floor, and the sentence that says so; None without a floor."""
    value, best = held.get(name), _best_floor(name, floors)
    if value is None or best is None:
        return None
    label, floor = best
    figures = f"{words(name)} {show(name, value)} against {show(name, floor['value'])}"
    if value == floor["value"]:
        return False, f"It only equals the {label} floor: {figures}."
    if not better(name, value, floor["value"]):
        return False, f"It does not beat the {label} floor: {figures}."
    low, high = (held.get("interval") or {}).get(name) or (value, value)
    if low <= floor["value"] <= high:
        return True, f"It beats the {label} floor, but by less than the score is uncertain: {figures}."
    return True, f"It beats the {label} floor: {figures}."


def words(name: str) -> str:
    """Return a metric's name as people write it."""
    known = {
        "mae": "mean absolute error",
        "rmse": "root mean squared error",
        "median_ae": "median absolute error",
        "r2": "R²",
        "ece": "calibration error",
        "auroc": "AUROC",
        "macro_f1": "macro-F1",
        "micro_f1": "micro-F1",
        "f1": "F1",
        "top5": "top-5 accuracy",
        "spearman": "rank correlation (Spearman)",
    }
    return known.get(name, name.replace("_", " "))


def show(name: str, value: float | None) -> str:
    """Return a metric's value as people write it: accuracies in percent, other shares with three decimals, errors with four digits."""
    if value is None:
        return "–"
    if "accuracy" in name:
        return f"{100 * value:.1f} %"
    if name in LOWER_IS_BETTER - {"ece"} or abs(value) >= 10:
        return f"{value:.4g}"
    return f"{value:.3f}"


def span(name: str, ends: Sequence[float]) -> str:
    """Return an interval as people write it."""
    low, high = (show(name, end) for end in ends)
    joint = " to " if ends[0] < 0 else "–"
    return f"{low.removesuffix(' %')}{joint}{high}"


def _best_floor(name: str, floors: Mapping[str, Tree]) -> tuple[str, Tree] | None:
    best: tuple[str, Tree] | None = None
    for label, floor in floors.items():
        value = floor.get("value")
        if value is not None and (best is None or better(name, value, best[1]["value"])):
            best = (label, floor)
    return best


def _below_floor(name: str, held: Tree, floors: Mapping[str, Tree]) -> str:
    found, best = verdict(name, held, floors), _best_floor(name, floors)
    if found is None or found[0] or best is None:
        return ""
    if held[name] == best[1]["value"]:
        return f"{found[1]} The floor is {best[1]['what']}: on these items the network gains nothing over it."
    return (
        f"{found[1]} The floor is {best[1]['what']}. Do not use this model yet: try strategy=full or partial, another backbone, "
        "or more training items; if items come in groups (one person, one object, one recording), check that group= keeps them together."
    )


def _overfitting(name: str, train: Tree, held: Tree, split: str, strategy: str) -> str:
    seen, score = train.get(name), held.get(name)
    if seen is None or score is None:
        return ""
    low, high = (held.get("interval") or {}).get(name) or (score, score)
    is_error = name in LOWER_IS_BETTER
    if not (score > 2 * seen and seen < low if is_error else seen - score > _GAP and seen > high):
        return ""
    cures = "a larger weight_decay or fewer epochs"
    if strategy != "linear_probe":
        cures = "stronger augmentation, a larger weight_decay, fewer epochs, or strategy=linear_probe"
    figures = f"{words(name)} is {show(name, seen)} on train and {show(name, score)} on {split}"
    return f"Over-fitting: {figures}. More data helps most; then {cures}."


def _losses(events: Sequence[Tree]) -> list[float]:
    return [math.nan if event["loss"] is None else event["loss"] for event in events if event["event"] == "stepped"]


def _underfitting(name: str, train: Tree, held: Tree, losses: Sequence[float], phase: str) -> str:
    seen = train.get(name)
    still = _still_falling(losses)
    is_high = seen is not None and (train.get("r2", 1.0) or 0.0) > 0.9 if name in LOWER_IS_BETTER else (seen or 0.0) > 0.9
    if still and not is_high:
        end = f"the end of {phase}" if phase else "the end"
        return f"Under-fitting: the training loss was still falling at {end} ({still}). Train longer: raise epochs or time."
    score = held.get(name)
    if name in LOWER_IS_BETTER or seen is None or score is None or seen >= 0.75 or seen > score + _GAP:
        return ""
    return (
        f"Under-fitting: {words(name)} is only {show(name, seen)} on the training items themselves. "
        "The model cannot express the task: try strategy=partial or full, a larger backbone, or a higher lr; check the labels."
    )


def _still_falling(losses: Sequence[float]) -> str:
    """Return the figures where the last quarter of training brought more than 15 % of the whole fall."""
    if len(losses) < 20:
        return ""
    part = max(len(losses) // 20, 1)
    first, late, last = (_mean(losses[a:b]) for a, b in ((0, part), (-6 * part, -5 * part), (-part, len(losses))))
    if first <= last or (late - last) < 0.15 * (first - last):
        return ""
    return f"{late:.3g} → {last:.3g} over the last quarter"


def _diverging(losses: Sequence[float], start: float, course: Sequence[Tree], phase: str) -> str:
    """Say where the loss of a phase rose or was lost; `start` is the first loss of the run, beside which a rise has to be seen."""
    lr = max((event.get("lr") or 0.0 for event in course if event["event"] == "stepped"), default=0.0)
    cure = f"Lower lr (it was {lr:.2g}; try {lr / 10:.2g})." if lr else "Lower lr tenfold."
    what = f"Training diverged in {phase}" if phase else "Training diverged"
    part = max(len(losses) // 10, 1)
    if any(not math.isfinite(loss) for loss in losses[-part:]):
        return f"{what}: the loss became infinite or not a number. {cure}"
    if len(losses) < 10:
        return ""
    first, last = _mean(losses[:part]), _mean(losses[-part:])
    if first > 0 and last > 1.5 * first and not last - first < 0.1 * start:  # after a probe that fits, the loss begins near zero
        return f"{what}: the loss rose from {first:.3g} to {last:.3g}. {cure}"
    return ""


def _past_its_best(course: Sequence[Tree], name: str, phase: str) -> str:
    """Say where the metric of a held-out part peaked early in a phase and then fell."""
    seen = [event for event in course if event["event"] == "evaluated" and event["metrics"].get(name) is not None]
    part = min((event["part"] for event in seen), key=lambda p: p != "select", default="")
    points = [event for event in seen if event["part"] == part]
    if len(points) < 4:
        return ""
    values = [event["metrics"][name] for event in points]
    at = values.index(min(values) if name in LOWER_IS_BETTER else max(values))
    fall = abs(values[-1] - values[at])
    if at >= len(values) * 0.6 or fall < (0.1 * abs(values[at]) if name in LOWER_IS_BETTER else 0.03):
        return ""
    is_kept = any(event.get("best") for event in points)
    cure = (
        "The best weights were kept; fewer epochs would have done."
        if is_kept
        else "Set patience=3 to stop there and keep the best weights."
    )
    return (
        f"Epoch {points[at]['epoch']}{f' of {phase}' if phase else ''} was the best on {part} ({words(name)} {show(name, values[at])}); "
        f"at the end it was {show(name, values[-1])}. {cure}"
    )


def _uncertain(name: str, held: Tree, split: str, counts: Tree) -> str:
    ends = (held.get("interval") or {}).get(name)
    if ends is None or name in LOWER_IS_BETTER or ends[1] - ends[0] <= _WIDE:
        return ""
    size = counts.get(split)
    items = f" on {size} items" if size else ""
    return (
        f"The score is uncertain: the 95 % interval of {words(name)} is {span(name, ends)}{items}. "
        f"Differences smaller than that are noise; a larger {split} part would tell more."
    )


def _few_per_class(counts: Tree) -> str:
    sizes = _train_sizes(counts)
    few = sorted((size, name) for name, size in sizes.items() if size < _FEW)
    if not few:
        return ""
    shown = ", ".join(f"{name} ({size})" for size, name in few[:5]) + (f" and {len(few) - 5} more" if len(few) > 5 else "")
    plural = "class has" if len(few) == 1 else "classes have"
    return f"Too little data: {len(few)} {plural} fewer than {_FEW} training items: {shown}. Add items there first."


def _imbalance(held: Tree, counts: Tree) -> str:
    sizes = {name: size for name, size in _train_sizes(counts).items() if size}
    if len(sizes) < 2:
        return ""
    small, large = min(sizes, key=lambda k: sizes[k]), max(sizes, key=lambda k: sizes[k])
    if sizes[large] < _IMBALANCED * sizes[small]:
        return ""
    flattered = ""
    accuracy, balanced = held.get("accuracy"), held.get("balanced_accuracy")
    if accuracy is not None and balanced is not None and accuracy - balanced > 0.05:
        flattered = f" Accuracy ({show('accuracy', accuracy)}) flatters: read balanced accuracy ({show('accuracy', balanced)})."
    figures = f"{large} has {sizes[large]} training items, {small} {sizes[small]}"
    return f"Imbalance: {figures}.{flattered} Try class_weights=true, or add to the small classes."


def _never_predicted(held: Tree, split: str) -> str:
    per_class = held.get("per_class") or {}
    never = [name for name, row in per_class.items() if row.get("support") and row.get("precision") is None]
    if not never:
        return ""
    shown = ", ".join(never[:5]) + (f" and {len(never) - 5} more" if len(never) > 5 else "")
    return f"Never predicted on {split}, though present: {shown}. Look at their training items and labels; class_weights=true may help."


def _miscalibrated(held: Tree, split: str, counts: Tree) -> str:
    ece, accuracy, confidence = held.get("ece"), held.get("accuracy"), held.get("mean_confidence")
    if ece is None or accuracy is None or confidence is None or ece <= _ECE or (counts.get(split) or 0) < _ECE_ITEMS:
        return ""
    how, cure = (
        ("over-confident", "label_smoothing or fewer epochs help") if confidence > accuracy else ("under-confident", "more epochs help")
    )
    return (
        f"Its probabilities are {how}: {100 * confidence:.0f} % sure on average, right {100 * accuracy:.0f} % of the time (ECE {ece:.2f}). "
        f"Rank by them, but do not read them as chances; {cure}."
    )


def _train_sizes(counts: Tree) -> dict[str, int]:
    return {name: int(row.get("train", 0)) for name, row in (counts.get("per_class") or {}).items()}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
