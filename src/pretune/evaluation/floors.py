"""What a score is worth: the same metrics for no model at all and for a classical one, on the same split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.evaluation import metrics, thresholds
from pretune.evaluation.folds import of_groups

_MOST_ROWS = 10_000
_FEWEST_ROWS = 2_000
_MOST_WORK = 400_000_000
"""Rows x columns x classes beyond which the classical floor is fitted on a sample."""


@dataclass(frozen=True, kw_only=True)
class Described:
    """Classical features of training and held-out examples."""

    train: Any
    """(n, D) array or SciPy sparse matrix."""
    held: Any
    """(M, D), of the same kind."""
    words: str = "classical features"
    """What the features are, for people."""
    rows: NDArray[np.int64] | None = None
    """(n,) the training examples that `train` describes, where not all N are."""


def floors(
    task: str,
    described: Described | None,
    train_targets: NDArray[Any],
    eval_targets: NDArray[Any],
    classes: list[str],
    *,
    groups: NDArray[Any] | None = None,
) -> dict[str, dict[str, Any]]:
    """Return the baselines of a split, each {"what": sentence, "value": primary metric, metric: value …}.

    Args:
        task: 'classification', 'multilabel' or 'regression'.
        described: features for the classical baseline; None leaves it out.
        train_targets: (N,) class indices, (N, C) of 0 and 1, or (N,) numbers, of all training examples.
        eval_targets: as `train_targets`, (M,) or (M, C).
        classes: C names; empty for numbers.
        groups: (N,) group of each training example, kept whole in the classical model's inner folds.

    Returns:
        'majority' (or 'mean' and 'median' for numbers) and 'classical'.
    """
    out = _trivial(task, train_targets, eval_targets, classes)
    if described is not None and len(train_targets) > 1:
        out["classical"] = _classical(task, described, train_targets, eval_targets, classes, groups)
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
    task: str, described: Described, targets: NDArray[Any], y_eval: NDArray[Any], classes: list[str], groups: NDArray[Any] | None
) -> dict[str, Any]:
    from pretune.evaluation import linear

    x = described.train
    there = np.arange(len(targets)) if described.rows is None else described.rows
    chosen = _sample(x, max(len(classes), 1))
    rows = there[chosen]
    goal = _goal(task, targets[rows], len(classes))
    folds = None if groups is None else of_groups(groups[rows], goal, linear.FOLDS)
    fitted = linear.fit_predict(task, x[chosen], goal, described.held, folds)
    outputs = fitted.outputs[:, 0] if task == "regression" else fitted.outputs
    cut = None
    if task == "multilabel":
        index, held_out = fitted.held_out
        cut = thresholds.choose(held_out, goal[index])
    model = "ridge regression" if task == "regression" else "logistic regression"
    sample = "" if len(rows) == len(targets) else f", fitted on {len(rows):,} of {len(targets):,} training examples"
    what = f"{model} on {described.words} ({x.shape[1]:,} columns, C = {fitted.strength:g} by cross-validation{sample})"
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


def _sample(x: Any, classes: int) -> NDArray[np.int64]:
    """Return the rows of `x` to fit on: all of them, or a fixed random sample where the work would be too much."""
    count = x.shape[0]
    columns = x.shape[1] if isinstance(x, np.ndarray) else max(1, x.nnz // max(count, 1))
    most = int(np.clip(_MOST_WORK // (columns * classes), _FEWEST_ROWS, _MOST_ROWS))
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, most, replace=False))
