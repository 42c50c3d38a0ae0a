"""A regularised linear model on classical features: the honest opponent of a deep network.

One solver (L-BFGS, Liu & Nocedal 1989) for three losses: softmax for single labels, sigmoid for several, squared for
numbers; the L2 penalty is chosen by cross-validation on the training part alone. Dense features are standardised;
sparse ones (TF-IDF rows) are taken as they are. All is computed in float64, in which the solver can converge.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pretune.evaluation.folds import by_turns
from pretune.evaluation.solver import LINKS, Dense, Link, fit, one_thread, outputs, softmax

STRENGTHS = (0.3, 3.0, 30.0, 300.0)
"""Inverse penalties C that are tried, strongest penalty first; rows of features have a length of about 1."""
FOLDS = 5
_CHOICE_ROWS = 1_500
"""Dense rows that the fits of one candidate strength may add up to: fewer rows, and fewer folds, where there are more."""
_CHOICE_ROWS_SPARSE = 5_000
_TOLERANCE_OF_CHOICE = 1e-5
"""Of the solver, where strengths are compared."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """Outputs of a fitted linear model."""

    outputs: NDArray[np.floating]
    """(M, C) probabilities or (M, 1) numbers of the evaluation rows."""
    held_out: tuple[NDArray[np.int64], NDArray[np.floating]]
    """Training rows that were held out while the strength was chosen, and their outputs."""
    strength: float


def fit_predict(kind: str, x: Any, y: NDArray[Any], x_eval: Any, folds: NDArray[np.int64] | None = None) -> Fitted:
    """Fit on training features and return the outputs of the evaluation features.

    Args:
        kind: 'classification', 'multilabel' or 'regression'.
        x: (N, D) dense array, or SciPy sparse matrix.
        y: (N, C) one-hot or multi-hot targets, or (N, 1) numbers.
        x_eval: (M, D), of the same kind as `x`.
        folds: (N,) number of the inner fold of each training row; None for folds by turns.
    """
    link = LINKS[kind]
    centre, scale = (y.mean(0), y.std(0) + 1e-12) if kind == "regression" else (0.0, 1.0)
    with warnings.catch_warnings(), torch.no_grad(), one_thread():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        rows, rows_eval = _dense(x, x_eval) if isinstance(x, np.ndarray) else (_Sparse(x), _Sparse(x_eval))
        goal = torch.from_numpy(np.ascontiguousarray((y - centre) / scale, dtype=np.float64))
        strength, index, held_out = _choose(link, rows, goal, by_turns(y, FOLDS) if folds is None else folds)
        weight = fit(link, rows, goal, strength)
        finish = lambda scores: _finish(kind, scores).numpy().astype(float) * scale + centre  # noqa: E731
        return Fitted(outputs=finish(outputs(rows_eval, weight)), held_out=(index, finish(held_out)), strength=strength)


def _finish(kind: str, scores: Tensor) -> Tensor:
    return {"classification": scores.softmax(1), "multilabel": scores.sigmoid(), "regression": scores}[kind]


# --- features ------------------------------------------------------------------------------------


class _Sparse:
    """A CSR matrix with its transpose, so that both products are row-wise."""

    def __init__(self, matrix: Any) -> None:
        self.source = matrix.tocsr()
        self.forward, self.backward = _csr(self.source), _csr(self.source.T.tocsr())
        self.shape = self.source.shape

    def __matmul__(self, weight: Tensor) -> Tensor:
        return self.forward @ weight

    def transposed_times(self, residual: Tensor) -> Tensor:
        return self.backward @ residual

    def take(self, index: NDArray[np.int64]) -> _Sparse:
        return _Sparse(self.source[index])


def _csr(matrix: Any) -> Tensor:
    parts = (torch.from_numpy(np.asarray(part, dtype=kind)) for part, kind in _parts(matrix))
    return torch.sparse_csr_tensor(*parts, size=matrix.shape, check_invariants=False)


def _parts(matrix: Any) -> list[tuple[Any, Any]]:
    return [(matrix.indptr, np.int64), (matrix.indices, np.int64), (matrix.data, np.float64)]


def _dense(x: NDArray[Any], x_eval: NDArray[Any]) -> tuple[Dense, Dense]:
    """Standardise by the training rows and bring rows to a length of about 1; rotate where there are fewer rows than columns."""
    train, held = (torch.from_numpy(np.ascontiguousarray(a, dtype=np.float64)) for a in (x, x_eval))
    mean, deviation = train.mean(0), train.std(0, correction=0)
    varies = deviation > 1e-5 * mean.abs()  # what rounding leaves of a constant column is not variation
    factor = torch.where(varies, 1 / deviation, torch.zeros((), dtype=torch.float64)) / max(int(varies.sum()), 1) ** 0.5
    train, held = (train - mean) * factor, (held - mean) * factor
    if len(train) > min(1024, train.shape[1] // 2):
        return Dense(train), Dense(held)
    # The solution lies in the span of the rows: an (N, N) rotation of them gives the same model from smaller products.
    values, vectors = torch.linalg.eigh(train @ train.T)
    kept = values > 1e-7 * values.max()
    root, basis = values[kept].sqrt(), vectors[:, kept]
    return Dense(basis * root), Dense(held @ (train.T @ (basis / root)))


# --- fitting -------------------------------------------------------------------------------------


def _choose(link: Link, rows: Dense | _Sparse, goal: Tensor, folds: NDArray[np.int64]) -> tuple[float, NDArray[np.int64], Tensor]:
    """Return the strength that does best on held-out rows, those rows, and their scores."""
    pairs = _inner_splits(folds, _CHOICE_ROWS if isinstance(rows, Dense) else _CHOICE_ROWS_SPARSE)
    if not pairs:
        return STRENGTHS[1], np.zeros(0, dtype=np.int64), goal[:0]
    index = np.concatenate([held for _, held in pairs])
    wanted_held = goal[torch.from_numpy(index)]
    taken = [(rows.take(train), goal[torch.from_numpy(train)], rows.take(held)) for train, held in pairs]
    weights: list[Tensor | None] = [None] * len(pairs)
    tried: list[Tensor] = []
    for strength in STRENGTHS:
        fitted = [
            fit(link, part, wanted, strength, start, _TOLERANCE_OF_CHOICE) for (part, wanted, _), start in zip(taken, weights, strict=True)
        ]
        tried.append(torch.cat([outputs(held, weight) for (_, _, held), weight in zip(taken, fitted, strict=True)]))
        weights = [*fitted]
    best = _best(link, tried, wanted_held)
    return STRENGTHS[best], index, tried[best]


def _best(link: Link, tried: list[Tensor], goal: Tensor) -> int:
    """Return the candidate of lowest loss; for single labels, among those within a standard error of the best accuracy.

    On few rows accuracy alone is a lottery, and the loss alone prefers a penalty that is too strong.
    """
    losses = np.array([float(link(scores, goal)[0]) for scores in tried])
    if link is softmax:
        accuracy = np.array([float((scores.argmax(1) == goal.argmax(1)).double().mean()) for scores in tried])
        top = accuracy.max()
        losses[accuracy < top - (top * (1 - top) / len(goal)) ** 0.5] = np.inf
    return int(losses.argmin())


def _inner_splits(folds: NDArray[np.int64], most: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return (train, held out) rows: each of few rows is held out once; of many, a sample of `most`, and not every fold."""
    rows = np.arange(len(folds))
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(0).choice(rows, most, replace=False))
    chosen = folds[rows]
    pairs = [(rows[chosen != fold], rows[chosen == fold]) for fold in np.unique(chosen)]
    return [pair for pair in pairs if len(pair[0])][: max(1, most // max(len(rows), 1))]
