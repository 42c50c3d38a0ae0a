"""What a result means and what to do next, in sentences a person can act on; most important first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pretune.evaluation.advice import Context, cures, listed
from pretune.evaluation.direction import is_error
from pretune.evaluation.embedded import undistinguished
from pretune.evaluation.history import by_phase, evaluations, peaked
from pretune.evaluation.metrics import better
from pretune.evaluation.undetected import undetected
from pretune.evaluation.unspoken import unspoken
from pretune.evaluation.verdict import TRIVIAL, best_floor, collapsed, opponents, verdict
from pretune.evaluation.wording import show, span, words

Tree = Mapping[str, Any]

_GAP = 0.1
"""Train above the score by this much, and outside its interval, is a gap worth a sentence."""
_WIDE = 0.15
"""An interval wider than this (in accuracy) decides little."""
_IMBALANCED = 10
"""Largest class over smallest, from which classes are said to be imbalanced."""
_FEW = 10
"""Fewer training examples of a class than this are too few."""
_ECE = 0.1
_FEWEST_LOSSES = 20
"""Fewer losses of a phase do not show that it diverged: single batches differ by more."""
_SHORT = 20
"""After fewer steps than this a network was not trained, whatever it can express."""
_SAVED = "The baseline is saved with the run: predict and evaluate use it with predictor=baseline."
_NOTHING = Context()
_ECE_ITEMS = 100
"""Fewer examples make the expected calibration error itself unreliable."""


def diagnose(history: Sequence[Tree], metrics: Tree, floors: Mapping[str, Tree], counts: Tree, context: Context = _NOTHING) -> list[str]:
    """Return what a person should know about a run, as sentences; empty where there is nothing to say.

    Args:
        history: events of the run in order, as `events.jsonl` has them; stepped and evaluated are read. Messages on the course of
            training describe the last phase, and name it where there are several: only its weights are the model's.
        metrics: primary {name, value, split}, and for each split {metric: value, interval: {metric: [low, high]}, per_class}.
        floors: name -> {what, value, metric: value}.
        counts: train, val, test: examples; per_class {class: {split: examples}}.
        context: what the run was, so that no advice is given that was followed already or cannot apply.
    """
    primary = metrics.get("primary") or {}
    name, split = primary.get("name", ""), primary.get("split", "val")
    floors = opponents(floors, context.model)
    train, scores = metrics.get("train") or {}, metrics.get(split) or {}
    phases = by_phase(history) if context.model == "network" else {}
    course = list(phases.values())[-1] if phases else []
    phase = f"phase {list(phases)[-1]!r}" if len(phases) > 1 else ""
    losses = _losses(course)
    start = next((loss for events in phases.values() for loss in _losses(events)), math.nan)
    diverged = _diverging(losses, start, course, phase, improved=_improved(name, phases))
    losses = [loss for loss in losses if math.isfinite(loss)]
    same = _collapsed(scores, split, context)
    context = replace(context, peaked=peaked(course, name))
    gap = _overfitting(name, train, scores, split, context)
    sentences = [
        _baseline_instead(name, metrics, split, context),
        _unknown_tokens(context),
        diverged,
        same or _below_floor(name, scores, floors, split, context),
        _undefined(scores, split),
        gap,
        "" if diverged or same or gap else _underfitting(name, train, scores, losses, phase, context),
        _past_its_best(course, name, phase),
        _uncertain(name, scores, split, counts),
        _few_per_class(counts),
        _imbalance(scores, counts, context),
        "" if same else _never_predicted(scores, split, context),
        *undetected(scores, train, losses, course, split),
        unspoken(name, scores, train, losses, split),
        undistinguished(scores, course, split),
        _miscalibrated(scores, split, counts, context),
    ]
    return [sentence for sentence in sentences if sentence]


def _below_floor(name: str, scores: Tree, floors: Mapping[str, Tree], split: str, context: Context) -> str:
    found, best = verdict(name, scores, floors), best_floor(name, floors)
    if found is None or best is None or found.outcome == "better":
        return ""
    sentence = f"{found.sentence} The baseline is {best[1]['what']}."
    if found.primary == "better":
        return sentence
    if scores[name] == best[1]["value"]:
        return f"{sentence} On these examples the model gains nothing over it; more {split} examples would decide it."
    is_offered = context.baseline_saved and best[0] not in TRIVIAL
    if found.primary == "uncertain":
        saved = f" {_SAVED}" if is_offered else ""
        if _is_perfect(name, scores[name]):
            return f"{sentence} More {split} examples would decide it."
        return f"{sentence} More {split} examples would decide it; to improve the model, try {listed(cures('baseline', context))}.{saved}"
    groups = "if examples come in groups (one person, one object, one recording), check that group= keeps them together"
    possible = f"try {listed(cures('baseline', context))}; {groups}."
    if not is_offered:
        return f"{sentence} Do not use this model yet: {possible}"
    return f"{sentence} {_SAVED} {_why_not(split, context)}To improve the network, {possible}"


def _is_perfect(name: str, score: float) -> bool:
    """Return whether no model can score better on these examples."""
    return score == (0 if is_error(name) else 1)


def _why_not(split: str, context: Context) -> str:
    """Report why the network stayed the run's model although it scored no better than the baseline."""
    if not context.chosen:
        return ""
    if context.compared:
        return f"It did not become the run's model, as {split} is the score and chooses nothing: {context.compared}. "
    return f"It did not become the run's model, as {split} is the score and chooses nothing; patience=… sets examples aside that do. "


def _baseline_instead(name: str, metrics: Tree, split: str, context: Context) -> str:
    """Report where the classical baseline is the run's model."""
    if context.model != "baseline":
        return ""
    why = context.compared if context.chosen else f"predictor=baseline was set{f'; {context.compared}' if context.compared else ''}"
    value = ((metrics.get("network") or {}).get(split) or {}).get(name)
    beside = "" if value is None else f" On {split} the network has {words(name)} {show(name, value)}."
    use = "predict and evaluate use it; predictor=network uses the network."
    sentence = f"The run's model is the classical baseline, not the network: {why}.{beside} {use}"
    return f"{sentence} For a better network, try {listed(cures('baseline', context))}." if context.chosen else sentence


def _collapsed(scores: Tree, split: str, context: Context) -> str:
    """Report where all predictions are the same."""
    found = collapsed(scores)
    if not found:
        return ""
    lower = "a lower lr, " if context.trains and context.strategy != "linear_probe" else ""
    possible = listed(cures("baseline", context))
    if context.model == "baseline":
        return f"{found} Do not use this model: it has found nothing that tells the examples apart. Try {possible}."
    saved = f" {_SAVED}" if context.baseline_saved else ""
    return f"{found} Do not use this model: its features or its head have collapsed ({split}).{saved} Try {lower}{possible}."


def _unknown_tokens(context: Context) -> str:
    if not context.unknown_tokens or context.model == "baseline":
        return ""
    return f"{context.unknown_tokens} Words that are unknown are not seen by the model: all figures here are first of all the tokenizer's."


def _undefined(scores: Tree, split: str) -> str:
    """Report where R² does not exist."""
    if "r2" not in scores or scores["r2"] is not None or scores.get("mae") is None:
        return ""
    return f"R² is undefined on {split}: all targets there are the same number. Use examples whose targets differ."


def _overfitting(name: str, train: Tree, scores: Tree, split: str, context: Context) -> str:
    seen, score = train.get(name), scores.get(name)
    if seen is None or score is None:
        return ""
    low, high = (scores.get("interval") or {}).get(name) or (score, score)
    minimised = is_error(name)
    if not (score > 2 * seen and seen < low if minimised else seen - score > _GAP and seen > high):
        return ""
    figures = f"{words(name)} is {show(name, seen)} on train and {show(name, score)} on {split}"
    possible = cures("gap", context)
    then = f"; then {listed(possible)}" if possible else ""
    if not context.trains:  # nothing was fitted for too long or too freely: a gap is what few examples and many features leave
        how = "The strength of its penalty was chosen by cross-validation, for unseen examples. " if context.penalised else ""
        return f"The score is far below that on train: {figures}. {how}More training examples help most{then}."
    return f"Overfitting: {figures}. More training examples help most{then}."


def _losses(events: Sequence[Tree]) -> list[float]:
    return [math.nan if event["loss"] is None else event["loss"] for event in events if event["event"] == "stepped"]


def _underfitting(name: str, train: Tree, scores: Tree, losses: Sequence[float], phase: str, context: Context) -> str:
    seen = train.get(name)
    still = _still_falling(losses)
    is_high = seen is not None and (train.get("r2", 1.0) or 0.0) > 0.9 if is_error(name) else (seen or 0.0) > 0.9
    if still and not is_high:
        end = f"the end of {phase}" if phase else "the end"
        return (
            f"Underfitting: the training loss was still falling at {end} ({still}). Train longer: {listed(cures('unfinished', context))}."
        )
    score = scores.get(name)
    if is_error(name) or seen is None or score is None or seen >= 0.75 or seen > score + _GAP:
        return ""
    figures = f"{words(name)} is only {show(name, seen)} on the training examples themselves"
    if 0 < len(losses) < _SHORT:
        return f"Underfitting: {figures}, after {len(losses)} training steps. Train longer: {listed(cures('unfinished', context))}."
    return f"Underfitting: {figures}. Try {listed(cures('capacity', context))}."


def _still_falling(losses: Sequence[float]) -> str:
    """Return the figures where the last quarter of training brought more than 15 % of the whole fall."""
    if len(losses) < 20:
        return ""
    window = max(len(losses) // 20, 1)
    first, late, last = (_mean(losses[a:b]) for a, b in ((0, window), (-6 * window, -5 * window), (-window, len(losses))))
    if first <= last or (late - last) < 0.15 * (first - last):
        return ""
    return f"{late:.3g} → {last:.3g} over the last quarter"


def _diverging(losses: Sequence[float], start: float, course: Sequence[Tree], phase: str, *, improved: bool) -> str:
    """Report where the loss of a phase rose or was lost.

    Args:
        losses: of the phase, in order.
        start: the first loss of the run, beside which a rise has to be seen.
        course: the phase's events.
        phase: its name, for the sentence.
        improved: whether the held-out score got better in the phase: then no rise of the loss is a divergence.
    """
    lr = max((event.get("lr") or 0.0 for event in course if event["event"] == "stepped"), default=0.0)
    cure = f"Lower lr (it was {lr:.2g}; try {lr / 10:.2g})." if lr else "Lower lr tenfold."
    what = f"Training diverged in {phase}" if phase else "Training diverged"
    window = max(len(losses) // 10, 1)
    if any(not math.isfinite(loss) for loss in losses[-window:]):
        return f"{what}: the loss became infinite or not a number. {cure}"
    if len(losses) < _FEWEST_LOSSES or improved:
        return ""
    first, last = _mean(losses[:window]), _mean(losses[-window:])
    noise = _deviation(losses[-2 * window :]) / window**0.5
    if first > 0 and last > 1.5 * first and last - first > 3 * noise and not last - first < 0.1 * start:
        return f"{what}: the loss rose from {first:.3g} to {last:.3g}. {cure}"  # after a probe that fits, the loss begins near zero
    return ""


def _improved(name: str, phases: Mapping[str, Sequence[Tree]]) -> bool:
    """Return whether the best of the last phase, on the split that selects, is better than what it began with."""
    seen = [[event["metrics"][name] for event in evaluations(course, name)] for course in phases.values()]
    before = next((values[-1] for values in reversed(seen[:-1]) if values), seen[-1][0] if seen and seen[-1] else None)
    return before is not None and any(better(name, value, before) for value in seen[-1])


def probe_was_better(history: Sequence[Tree], name: str) -> bool | None:
    """Return whether a probe before the last phase was better than it, on the split that selects; None where both were not measured."""
    seen = [[event["metrics"][name] for event in evaluations(course, name)] for course in by_phase(history).values()]
    before = next((values[-1] for values in reversed(seen[:-1]) if values), None)
    if before is None or not seen[-1]:
        return None
    return all(better(name, before, value) for value in seen[-1])


def _past_its_best(course: Sequence[Tree], name: str, phase: str) -> str:
    """Report where the metric of the split that selects peaked early in a phase and then fell."""
    points = evaluations(course, name)
    if len(points) < 4:
        return ""
    values = [event["metrics"][name] for event in points]
    at = values.index(min(values) if is_error(name) else max(values))
    fall = abs(values[-1] - values[at])
    if at >= len(values) * 0.6 or fall < (0.1 * abs(values[at]) if is_error(name) else 0.03):
        return ""
    return (
        f"Epoch {points[at]['epoch']}{f' of {phase}' if phase else ''} was the best on select ({words(name)} {show(name, values[at])}); "
        f"at the end it was {show(name, values[-1])}. The best weights were kept; fewer epochs would have been enough."
    )


def _uncertain(name: str, scores: Tree, split: str, counts: Tree) -> str:
    ends = (scores.get("interval") or {}).get(name)
    if ends is None or is_error(name) or ends[1] - ends[0] <= _WIDE:
        return ""
    size = scores.get("examples") or counts.get(split)  # texts may have been written for some of them only
    items = f" on {size} examples" if size else ""
    return (
        f"The score is uncertain: the 95 % interval of {words(name)} is {span(name, ends)}{items}. "
        f"Differences smaller than that are noise; use a larger {split} set."
    )


def _few_per_class(counts: Tree) -> str:
    sizes = _train_sizes(counts)
    few = sorted((size, name) for name, size in sizes.items() if size < _FEW)
    if not few:
        return ""
    shown = ", ".join(f"{name} ({size})" for size, name in few[:5]) + (f" and {len(few) - 5} more" if len(few) > 5 else "")
    plural = "class has" if len(few) == 1 else "classes have"
    return f"Too little data: {len(few)} {plural} fewer than {_FEW} training examples: {shown}. Add examples there first."


def _imbalance(scores: Tree, counts: Tree, context: Context) -> str:
    sizes = {name: size for name, size in _train_sizes(counts).items() if size}
    if len(sizes) < 2:
        return ""
    small, large = min(sizes, key=lambda k: sizes[k]), max(sizes, key=lambda k: sizes[k])
    if sizes[large] < _IMBALANCED * sizes[small]:
        return ""
    flattered = ""
    accuracy, balanced = scores.get("accuracy"), scores.get("balanced_accuracy")
    if accuracy is not None and balanced is not None and accuracy - balanced > 0.05:
        flattered = f" Accuracy ({show('accuracy', accuracy)}) is misleading here: use balanced accuracy ({show('accuracy', balanced)})."
    figures = f"{large} has {sizes[large]} training examples, {small} {sizes[small]}"
    return f"Imbalance: {figures}.{flattered} Try {listed(cures('imbalance', context))}."


def _never_predicted(scores: Tree, split: str, context: Context) -> str:
    per_class = scores.get("per_class") or {}
    never = [name for name, row in per_class.items() if row.get("support") and (row.get("precision", 0) is None or row.get("found") == 0)]
    if not never:
        return ""
    shown = ", ".join(never[:5]) + (f" and {len(never) - 5} more" if len(never) > 5 else "")
    possible = listed(cures("imbalance", context))
    return f"Never predicted on {split}, though present: {shown}. Check their training examples and labels, or try {possible}."


def _miscalibrated(scores: Tree, split: str, counts: Tree, context: Context) -> str:
    ece, accuracy, confidence = scores.get("ece"), scores.get("accuracy"), scores.get("mean_confidence")
    if ece is None or accuracy is None or confidence is None or ece <= _ECE or (counts.get(split) or 0) < _ECE_ITEMS:
        return ""
    how, possible = "overconfident", cures("overconfident", context)
    if confidence < accuracy:
        how, possible = "underconfident", cures("underconfident", context)
    cure = f"; try {listed(possible)}" if possible else ""
    return (
        f"Its probabilities are {how}: on average {100 * confidence:.0f} % confident and {100 * accuracy:.0f} % accurate (ECE {ece:.2f}). "
        f"Use them for ranking, not as calibrated probabilities{cure}."
    )


def _train_sizes(counts: Tree) -> dict[str, int]:
    return {name: int(row.get("train", 0)) for name, row in (counts.get("per_class") or {}).items()}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _deviation(values: Sequence[float]) -> float:
    return (sum((value - _mean(values)) ** 2 for value in values) / len(values)) ** 0.5
