"""Whether a score is better than what no network reaches: three outcomes, on the metric that leads and on those that can belie it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pretune.evaluation.metrics import better
from pretune.evaluation.wording import show, words

Tree = Mapping[str, Any]
Outcome = Literal["better", "uncertain", "worse"]

TRIVIAL = ("majority", "mean", "median", "lead")
"""Baselines that learn nothing of examples."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a score is worth beside its baselines."""

    outcome: Outcome
    """'better' only where the leading metric is clearly better and no other metric is worse than that of a trivial baseline;
    'worse' where all predictions are the same."""
    primary: Outcome
    """Of the leading metric alone."""
    sentence: str


def verdict(name: str, scores: Tree, floors: Mapping[str, Tree]) -> Verdict | None:
    """Return the verdict on a score; None without a baseline.

    Args:
        name: the leading metric.
        scores: {metric: value, interval: {metric: [low, high]}} of the score's split.
        floors: baseline -> {what, value, metric: value}.
    """
    value, best = scores.get(name), best_floor(name, floors)
    if value is None or best is None:
        return None
    label, floor = best
    figures = f"{words(name)} {show(name, value)} against {show(name, floor['value'])}"
    primary = compared(name, scores, floor["value"])
    sentence = {
        "better": f"It beats the {label} baseline: {figures}.",
        "uncertain": f"It cannot be told apart from the {label} baseline, which lies within the score's interval: {figures}.",
        "worse": f"It does not beat the {label} baseline: {figures}.",
    }[primary]
    if _too_few(scores):
        sentence = f"It was measured on too few examples to be told apart from the {label} baseline: {figures}."
    elif value == floor["value"]:
        sentence = f"It only equals the {label} baseline: {figures}."
    belied, same = _belied(name, scores, floors), collapsed(scores)
    outcome: Outcome = "worse" if same else "uncertain" if primary == "better" and belied else primary
    return Verdict(outcome=outcome, primary=primary, sentence=" ".join([sentence, *([same] if same else belied)]))


def opponents(floors: Mapping[str, Tree], model: str) -> dict[str, Tree]:
    """Return the baselines that a run's model is measured against: the classical one not where it is that model itself."""
    return {label: floor for label, floor in floors.items() if model != "baseline" or label in TRIVIAL}


def compared(name: str, scores: Tree, floor: float) -> Outcome:
    """Return how a metric's value and its interval lie to a baseline's value."""
    if _too_few(scores):
        return "uncertain"
    value = scores[name]
    low, high = (scores.get("interval") or {}).get(name) or (value, value)
    if low <= floor <= high:
        return "uncertain"
    return "better" if better(name, value, floor) else "worse"


def _too_few(scores: Tree) -> bool:
    """Return whether intervals were computed and none could be: one example, or one group, which decides nothing."""
    return scores.get("interval") == {}


def best_floor(name: str, floors: Mapping[str, Tree]) -> tuple[str, Tree] | None:
    """Return the best baseline by its leading metric."""
    best: tuple[str, Tree] | None = None
    for label, floor in floors.items():
        value = floor.get("value")
        if value is not None and (best is None or better(name, value, best[1]["value"])):
            best = (label, floor)
    return best


def collapsed(scores: Tree) -> str:
    """Return a sentence where every prediction is the same one although the targets differ; else nothing."""
    per_class: Mapping[str, Tree] = scores.get("per_class") or {}
    present = [name for name, row in per_class.items() if row.get("support")]
    claimed = [name for name, row in per_class.items() if row.get("precision") is not None]
    if "accuracy" in scores and len(present) > 1 and len(claimed) == 1:
        return f"Every example is predicted as {claimed[0]!r}: the model does not tell the classes apart."
    if "spearman" in scores and scores.get("r2") is not None and scores["spearman"] is None:
        return "The model predicts the same number for every example: it does not look at them."
    return ""


def _belied(name: str, scores: Tree, floors: Mapping[str, Tree]) -> list[str]:
    """Return sentences on metrics that are worse than those of a baseline that looks at no example."""
    out = []
    trivial = {label: floor for label, floor in floors.items() if label in TRIVIAL}
    losses = {label: floor["log_loss"] for label, floor in trivial.items() if floor.get("log_loss") is not None}
    if name != "log_loss" and scores.get("log_loss") is not None and losses:
        label = min(losses, key=lambda key: losses[key])
        if scores["log_loss"] >= losses[label]:
            figures = f"{show('log_loss', scores['log_loss'])} against {show('log_loss', losses[label])}"
            out.append(f"But its log loss is no better than that of the {label} baseline ({figures}): do not use its probabilities.")
    if name != "r2" and scores.get("r2") is not None and scores["r2"] <= 0:
        out.append(f"But its R² is {show('r2', scores['r2'])}: in squared error it is no better than always predicting the mean.")
    return out
