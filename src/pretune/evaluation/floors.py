"""What a score is worth: the same metrics for no model at all and for a classical one, on the same split."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.evaluation import metrics
from pretune.evaluation.classical import Classical


def floors(
    task: str,
    train_targets: NDArray[Any],
    eval_targets: NDArray[Any],
    classes: list[str],
    model: tuple[Classical, NDArray[Any]] | None = None,
) -> dict[str, dict[str, Any]]:
    """Return the baselines of a split, each {"what": sentence, "value": primary metric, metric: value …}.

    Args:
        task: 'classification', 'multilabel' or 'regression'.
        train_targets: (N,) class indices, (N, C) of 0 and 1, or (N,) numbers, of all training examples.
        eval_targets: as `train_targets`, (M,) or (M, C).
        classes: C names; empty for numbers.
        model: the classical model of the training examples and its outputs for the held-out ones, (M, C) or (M,).

    Returns:
        'majority' (or 'mean' and 'median' for numbers) and 'classical'.
    """
    out = _trivial(task, train_targets, eval_targets, classes)
    if model is not None:
        classical, outputs = model
        out["classical"] = {"what": classical.what, **_measure(task, outputs, eval_targets, classes, classical.thresholds)}
    leading = metrics.PRIMARY[task]
    return {name: {"what": floor["what"], "value": floor.get(leading), **floor} for name, floor in out.items()}


def _trivial(task: str, train: NDArray[Any], held: NDArray[Any], classes: list[str]) -> dict[str, dict[str, Any]]:
    if task == "regression":
        constants = {"mean": float(np.mean(train)), "median": float(np.median(train))}
        return {
            name: {"what": f"always the {name} of the training targets, {value:.4g}", **_measure(task, np.full(len(held), value), held, [])}
            for name, value in constants.items()
        }
    if task == "multilabel":
        rows, count = np.unique(train > 0.5, axis=0, return_counts=True)
        common = rows[count.argmax()]
        names = ", ".join(name for name, yes in zip(classes, common, strict=True) if yes) or "no label"
        guess = np.tile(common.astype(float), (len(held), 1))
        return {
            "majority": {"what": f"always the most frequent set of labels in training: {names}", **_measure(task, guess, held, classes)}
        }
    share = np.bincount(train, minlength=len(classes)) / len(train)
    guess = np.tile(share, (len(held), 1))
    what = f"always the most frequent class in training, {classes[int(share.argmax())]}"
    return {"majority": {"what": what, **_measure(task, guess, held, classes)}}


def _measure(task: str, outputs: NDArray[Any], held: NDArray[Any], classes: list[str], cut: NDArray[Any] | None = None) -> dict[str, float]:
    if task == "regression":
        return metrics.scalars(metrics.regression(outputs, held))
    if task == "multilabel":
        return metrics.scalars(metrics.multilabel(outputs, held, classes, cut))
    return metrics.scalars(metrics.classification(outputs, held, classes))
