"""The classical model: a regularised linear model on features that need no network, fitted on training examples.

It is the baseline that a network is measured against, and it can be a run's model itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.evaluation import linear, thresholds
from pretune.evaluation.folds import of_groups
from pretune.evaluation.links import MODELS, LinkName

_MOST_ROWS = 10_000
_FEWEST_ROWS = 2_000
_MOST_WORK = 400_000_000
"""Rows x columns x classes beyond which the classical model is fitted on a sample."""


@dataclass(frozen=True, kw_only=True)
class ClassicalModel:
    """A fitted classical model."""

    link: LinkName
    fitted: linear.LinearFit
    rows: NDArray[np.int64]
    """(n,) the training examples, of N, that it was fitted on; the folds' rows count among these."""
    goal: NDArray[np.float64]
    """(n, C) one-hot or multi-hot targets, or (n, 1) numbers."""
    thresholds: NDArray[np.float64] | None
    """(C,) multilabel: probability from which a label is predicted, chosen on held-out training examples."""
    what: str
    """What it is, for people."""

    def outputs(self, x: Any) -> NDArray[np.float64]:
        """Return probabilities (M, C) or numbers (M,) of features (M, D)."""
        found = self.fitted.model.outputs(self.link, x)
        return found[:, 0] if self.link == "squared" else found


def fit(
    link: LinkName,
    x: Any,
    targets: NDArray[Any],
    classes: int,
    *,
    words: str,
    rows: NDArray[np.int64] | None = None,
    groups: NDArray[Any] | None = None,
    strength: float | None = None,
) -> ClassicalModel:
    """Return the classical model.

    Args:
        link: softmax for one class, sigmoid for several, squared for numbers.
        x: (n, D) features of training examples, dense or sparse.
        targets: (N,) class indices, (N, C) of 0 and 1, or (N,) numbers, of all training examples.
        classes: C; 0 for numbers.
        words: what the features are, for people.
        rows: (n,) the training examples that `x` describes; all N where None.
        groups: (N,) group of each training example, kept whole in the folds.
        strength: inverse penalty; by cross-validation where None.
    """
    there = np.arange(len(targets)) if rows is None else rows
    chosen = _sample(x, max(classes, 1)) if strength is None else np.arange(len(there))
    rows = there[chosen]
    goal = goals(link, targets[rows], classes)
    folds = None if groups is None else of_groups(groups[rows], goal, linear.FOLDS)
    fitted = linear.fit_linear(link, x[chosen], goal, folds, strength)
    cut = None
    if link == "sigmoid":
        cut = thresholds.choose(fitted.outputs, goal[fitted.held_out])
    sample = "" if len(rows) == len(targets) else f", fitted on {len(rows):,} of {len(targets):,} training examples"
    by = " by cross-validation" if fitted.pairs or strength is not None else ""
    what = f"{MODELS[link]} on {words} ({x.shape[1]:,} columns, C = {fitted.strength:g}{by}{sample})"
    return ClassicalModel(link=link, fitted=fitted, rows=rows, goal=goal, thresholds=cut, what=what)


def goals(link: LinkName, y: NDArray[Any], classes: int) -> NDArray[np.float64]:
    """Return targets (N, C): one-hot, multi-hot, or one number."""
    if link == "softmax":
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
