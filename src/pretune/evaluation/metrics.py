"""Metrics of one labelled part, as plain dicts; what cannot be computed is None, never 0.

A class without examples in the targets has recall None and is left out of the mean of recalls; macro-F1 counts it as 0 where it
is predicted, as scikit-learn does, and leaves out what is neither present nor predicted (`zero_division=nan`). All figures
are fractions in [0, 1] except losses and errors in the user's units. Numpy only: importing scikit-learn costs more than
the whole evaluation; the tests compare every figure with it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.errors import TrainingError
from pretune.evaluation import calibration, ranking
from pretune.evaluation.direction import is_error

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]


def better(name: str, value: float, than: float) -> bool:
    """Return whether `value` of the metric `name` is strictly better than `than`."""
    return value < than if is_error(name) else value > than


def classification(probabilities: Floats, targets: Ints, classes: list[str]) -> dict[str, Any]:
    """Return the metrics of single-label predictions.

    Args:
        probabilities: (N, C), rows summing to 1.
        targets: (N,) class indices.
        classes: C names, in the order of the columns.

    Returns:
        accuracy; balanced_accuracy (mean recall of the classes present) and macro_f1 (over the classes present or predicted);
        log_loss (nats), ece, mean_confidence; top5 where C > 5 (of classes that tie for the last places, each has an equal
        chance of one); auroc and average_precision of the second class
        where C = 2; per_class {name: {recall, precision, f1, support}}; confusion (C rows: true, columns: predicted).

    Raises:
        TrainingError: a probability is not a finite number.
    """
    refuse_nan(probabilities)
    size, width = probabilities.shape
    predicted = probabilities.argmax(1)
    confusion = confusion_matrix(predicted, targets, width)
    hits, support, claimed = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    recall, precision, f1 = _ratio(hits, support), _ratio(hits, claimed), _ratio(2 * hits, support + claimed)
    confidence = probabilities.max(1)
    out: dict[str, Any] = {
        "accuracy": _number(hits.sum() / size) if size else None,
        "balanced_accuracy": _mean(recall),
        "macro_f1": _mean(f1),
        "log_loss": calibration.log_loss(probabilities, targets),
        "ece": calibration.ece(confidence, predicted == targets),
        "mean_confidence": _mean(confidence),
    }
    if width > 5:
        out["top5"] = _mean(_in_top(probabilities, targets, 5))
    if width == 2:
        out["auroc"] = ranking.auroc(probabilities[:, 1], targets == 1)
        out["average_precision"] = ranking.average_precision(probabilities[:, 1], targets == 1)
    out["per_class"] = _per_class(classes, recall=recall, precision=precision, f1=f1, support=support)
    out["confusion"] = confusion.tolist()
    return out


def multilabel(
    probabilities: Floats, targets: NDArray[Any], classes: list[str], thresholds: Floats | float | None = None
) -> dict[str, Any]:
    """Return the metrics of multilabel predictions.

    Args:
        probabilities: (N, C), each in [0, 1].
        targets: (N, C) of 0 and 1.
        classes: C names, in the order of the columns.
        thresholds: probability from which a class is predicted, one or (C,); None for one half. Choose them with
            `thresholds.choose` on data that is not measured here.

    Returns:
        macro_f1 (mean over the classes present or predicted), micro_f1, subset_accuracy (all C right), mean_average_precision,
        per_class {name: {recall, precision, f1, average_precision, threshold, support}}.

    Raises:
        TrainingError: a probability is not a finite number.
    """
    refuse_nan(probabilities)
    size, width = probabilities.shape
    cut = np.broadcast_to(np.asarray(0.5 if thresholds is None else thresholds, dtype=float), (width,))
    truth, chosen = targets > 0.5, probabilities >= cut
    hits, support, claimed = (truth & chosen).sum(0), truth.sum(0), chosen.sum(0)
    recall, precision, f1 = _ratio(hits, support), _ratio(hits, claimed), _ratio(2 * hits, support + claimed)
    average = np.array([_nan(ranking.average_precision(probabilities[:, c], truth[:, c])) for c in range(width)])
    micro = _ratio(2 * hits.sum(keepdims=True), support.sum(keepdims=True) + claimed.sum(keepdims=True))
    return {
        "macro_f1": _mean(f1),
        "micro_f1": _mean(micro),
        "subset_accuracy": _number((truth == chosen).all(1).mean()) if size else None,
        "mean_average_precision": _mean(average),
        "per_class": _per_class(
            classes, recall=recall, precision=precision, f1=f1, average_precision=average, threshold=cut, support=support
        ),
    }


def regression(predictions: Floats, targets: Floats) -> dict[str, Any]:
    """Return the errors of predicted numbers (N,) against true ones (N,), in the targets' own units.

    Returns:
        mae, rmse, median_ae, r2 (None where the targets do not vary by more than rounding), spearman (None where either does not vary).

    Raises:
        TrainingError: a prediction is not a finite number.
    """
    refuse_nan(predictions)
    if not len(targets):
        return dict.fromkeys(("mae", "rmse", "median_ae", "r2", "spearman"))
    wanted = np.asarray(targets, dtype=float)
    error = np.asarray(predictions, dtype=float) - wanted
    spread = 0.0 if is_constant(wanted) else ((wanted - wanted.mean()) ** 2).sum()
    return {
        "mae": _number(np.abs(error).mean()),
        "rmse": _number(np.sqrt((error**2).mean())),
        "median_ae": _number(np.median(np.abs(error))),
        "r2": _number(1 - (error**2).sum() / spread) if spread > 0 else None,
        "spearman": ranking.spearman(predictions, wanted),
    }


def is_constant(values: NDArray[Any]) -> bool:
    """Return whether numbers (N,) are all the same, or differ by rounding only: their spread then says nothing."""
    return len(values) == 0 or bool(np.ptp(values) <= 8 * np.finfo(float).eps * np.abs(values).max())


def confusion_matrix(predicted: Ints, targets: Ints, classes: int) -> NDArray[np.int64]:
    """Return counts (C, C), rows true and columns predicted."""
    cells = np.asarray(targets, dtype=np.int64) * classes + predicted
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def scalars(metrics: dict[str, Any]) -> dict[str, float]:
    """Return the single numbers among metrics, without per-class tables, matrices and what is None."""
    return {k: v for k, v in metrics.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def _in_top(probabilities: Floats, targets: Ints, count: int) -> Floats:
    """Return the chance (N,) that the true class is among the `count` most probable, those that tie being sampled at random."""
    true = probabilities[np.arange(len(targets)), targets][:, None]
    above, tied = (probabilities > true).sum(1), (probabilities == true).sum(1)
    return np.clip((count - above) / tied, 0.0, 1.0)


def _per_class(classes: list[str], *, support: Ints, **columns: Floats) -> dict[str, dict[str, Any]]:
    out = {}
    for c, name in enumerate(classes):
        out[name] = {key: _number(values[c]) for key, values in columns.items()} | {"support": int(support[c])}
    return out


def refuse_nan(values: Floats) -> None:
    """Refuse outputs of which one is not a finite number; infinity is one only where a logarithm is meant."""
    bad = ~np.isfinite(values)
    if bad.any():
        rows = int(bad.reshape(len(values), -1).any(1).sum())
        raise TrainingError(
            f"the model gave no finite output for {rows} of {len(values)} examples, so nothing can be measured. "
            "Training diverged: try a ten times lower lr."
        )


def _ratio(above: NDArray[Any], below: NDArray[Any]) -> NDArray[np.float64]:
    """Divide; NaN where there is nothing to divide by."""
    return np.divide(above, below, out=np.full(np.shape(below), np.nan), where=np.asarray(below) > 0)


def _mean(values: NDArray[Any]) -> float | None:
    known = values[~np.isnan(values)] if values.dtype.kind == "f" else values
    return float(known.mean()) if len(known) else None


def _number(value: float | np.floating) -> float | None:
    return None if np.isnan(value) else float(value)


def _nan(value: float | None) -> float:
    return np.nan if value is None else value
