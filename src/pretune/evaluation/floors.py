"""What a score is worth: the same metrics for no model at all and for a classical one, on the same split."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.evaluation import metrics, thresholds

_MOST_ROWS = 10_000
_FEWEST_ROWS = 2_000
_MOST_WORK = 400_000_000
"""Rows x columns x classes beyond which the classical floor is fitted on a sample."""


def floors(
    task: str,
    train_features: Any,
    train_targets: NDArray[Any],
    eval_features: Any,
    eval_targets: NDArray[Any],
    classes: list[str],
    *,
    groups: NDArray[Any] | None = None,
    features: str = "classical features",
) -> dict[str, dict[str, Any]]:
    """Return the floors of a split, each {"what": sentence, "value": primary metric, metric: value …}.

    Args:
        task: 'classification', 'multilabel' or 'regression'.
        train_features: (N, D) array or SciPy sparse matrix; None leaves the classical floor out.
        train_targets: (N,) class indices, (N, C) of 0 and 1, or (N,) numbers.
        eval_features: (M, D), of the same kind.
        eval_targets: as `train_targets`, (M,) or (M, C).
        classes: C names; empty for numbers.
        groups: (N,) group of each training row, kept whole in the classical model's inner folds.
        features: what the features are, for the sentence.

    Returns:
        'majority' (or 'mean' and 'median' for numbers) and 'classical'.
    """
    out = _trivial(task, train_targets, eval_targets, classes)
    if train_features is not None and len(train_targets) > 1:
        out["classical"] = _classical(task, train_features, train_targets, eval_features, eval_targets, classes, groups, features)
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


def _classical(
    task: str,
    x: Any,
    y: NDArray[Any],
    x_eval: Any,
    y_eval: NDArray[Any],
    classes: list[str],
    groups: NDArray[Any] | None,
    features: str,
) -> dict[str, Any]:
    from pretune.evaluation import linear

    rows = _sample(x, y, max(len(classes), 1))
    goal = _goal(task, y[rows], len(classes))
    folds = None if groups is None else _group_folds(groups[rows], linear.FOLDS)
    fitted = linear.fit_predict(task, x[rows], goal, x_eval, folds)
    outputs = fitted.outputs[:, 0] if task == "regression" else fitted.outputs
    cut = None
    if task == "multilabel":
        index, held_out = fitted.held_out
        cut = thresholds.choose(held_out, goal[index])
    model = "ridge regression" if task == "regression" else "logistic regression"
    sample = "" if len(rows) == len(y) else f", fitted on {len(rows):,} of {len(y):,} training items"
    what = f"{model} on {features} ({x.shape[1]:,} columns, C = {fitted.strength:g} by cross-validation{sample})"
    return {"what": what, **_measure(task, outputs, y_eval, classes, cut)}


def _measure(task: str, outputs: NDArray[Any], held: NDArray[Any], classes: list[str], cut: NDArray[Any] | None = None) -> dict[str, float]:
    if task == "regression":
        return metrics.scalars(metrics.regression(outputs, held))
    if task == "multilabel":
        return metrics.scalars(metrics.multilabel(outputs, held, classes, cut))
    return metrics.scalars(metrics.classification(outputs, held, classes))


def _goal(task: str, y: NDArray[Any], classes: int) -> NDArray[np.float64]:
    if task == "classification":
        return np.eye(classes)[y]
    return np.asarray(y, dtype=float).reshape(len(y), -1)


def _sample(x: Any, y: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """Return the rows to fit on: all of them, or a fixed random sample where the work would be too much."""
    columns = x.shape[1] if isinstance(x, np.ndarray) else max(1, x.nnz // max(x.shape[0], 1))
    most = int(np.clip(_MOST_WORK // (columns * classes), _FEWEST_ROWS, _MOST_ROWS))
    if len(y) <= most:
        return np.arange(len(y))
    return np.sort(np.random.default_rng(0).choice(len(y), most, replace=False))


def _group_folds(groups: NDArray[Any], folds: int) -> NDArray[np.int64]:
    """Give whole groups to folds, the largest first, each to the fold that is smallest so far."""
    _, group, size = np.unique(groups, return_inverse=True, return_counts=True)
    fold_of, filled = np.zeros(len(size), dtype=np.int64), np.zeros(folds)
    for g in np.argsort(-size, kind="stable"):
        fold_of[g] = filled.argmin()
        filled[fold_of[g]] += size[g]
    return fold_of[group]
