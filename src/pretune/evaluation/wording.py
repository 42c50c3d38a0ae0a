"""Metrics as people write them."""

from __future__ import annotations

from collections.abc import Sequence

from pretune.evaluation.direction import is_error


def words(name: str) -> str:
    """Return a metric's name as people write it."""
    known = {
        "wer": "word error rate",
        "cer": "character error rate",
        "exact_accuracy": "clips without an error",
        "empty": "clips without a word",
        "mae": "mean absolute error",
        "rmse": "root mean squared error",
        "median_ae": "median absolute error",
        "r2": "R²",
        "ece": "calibration error (ECE)",
        "auroc": "AUROC",
        "macro_f1": "macro-F1",
        "micro_f1": "micro-F1",
        "f1": "F1",
        "entity_f1": "entity F1",
        "top5": "top-5 accuracy",
        "map": "mAP",
        "ap": "AP",
        "ap50": "AP50",
        "ap75": "AP75",
        "ar100": "average recall",
        "rouge1": "ROUGE-1",
        "rouge2": "ROUGE-2",
        "rougeL": "ROUGE-L",
        "bleu": "BLEU",
        "chrf": "chrF",
        "copied": "copied word for word",
        "spearman": "rank correlation (Spearman)",
    }
    return known.get(name, name.replace("_", " "))


def split_name(split: str) -> str:
    """Return what people call a split."""
    return {"held": "held-out"}.get(split, split)


def show(name: str, value: float | None) -> str:
    """Return a metric's value as people write it: accuracies in percent, other shares with three decimals, errors with four digits."""
    if value is None:
        return "–"
    if "accuracy" in name or name == "top5":
        return f"{100 * value:.1f} %"
    if (is_error(name) and name != "ece") or abs(value) >= 10:
        return f"{value:.4g}"
    return f"{value:.3f}"


def span(name: str, ends: Sequence[float]) -> str:
    """Return an interval as people write it."""
    low, high = (show(name, end) for end in ends)
    joint = " to " if ends[0] < 0 else "–"
    return f"{low.removesuffix(' %')}{joint}{high}"


def duration(seconds: float) -> str:
    """Return a time that is about so long, as people write it: 8 s, 3 min, 1.5 h."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.2g} h"
