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
from pretune.evaluation.links import LinkName
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
class LinearModel:
    """scores = (features - mean) · weight + bias: logits of classes or labels, or one number in the user's units.

    Numbers are float32, so that a saved model is the same model; they are multiplied in float64.
    """

    weight: NDArray[np.float32]
    """(D, C)."""
    bias: NDArray[np.float32]
    """(C,)."""
    mean: NDArray[np.float32] | None = None
    """(D,) that is taken from dense features."""

    def scores(self, x: Any) -> NDArray[np.float64]:
        """Return the scores (M, C) of features (M, D), dense or sparse."""
        rows = x if self.mean is None else x.astype(np.float64) - self.mean
        return np.asarray(rows @ self.weight.astype(np.float64)) + self.bias

    def outputs(self, kind: LinkName, x: Any) -> NDArray[np.float64]:
        """Return probabilities (M, C), or numbers (M, 1), of features (M, D)."""
        return _finish(kind, torch.from_numpy(self.scores(x))).numpy()


@dataclass(frozen=True, kw_only=True)
class LinearFit:
    """A fitted linear model, and what choosing its strength showed."""

    model: LinearModel
    strength: float
    pairs: tuple[tuple[NDArray[np.int64], NDArray[np.int64]], ...]
    """(training rows, held-out rows) of each fold by which the strength was chosen; none where there were too few rows."""
    outputs: NDArray[np.floating]
    """(H, C) probabilities or (H, 1) numbers of all held-out rows in the folds' order, at this strength."""

    @property
    def held_out(self) -> NDArray[np.int64]:
        """The held-out rows (H,) of all folds, in order."""
        return np.concatenate([np.zeros(0, dtype=np.int64), *(test for _, test in self.pairs)])


def fit_linear(kind: LinkName, x: Any, y: NDArray[Any], folds: NDArray[np.int64] | None = None, strength: float | None = None) -> LinearFit:
    """Fit on training features.

    Args:
        kind: softmax for one class, sigmoid for several, squared for numbers.
        x: (N, D) dense array, or SciPy sparse matrix.
        y: (N, C) one-hot or multi-hot targets, or (N, 1) numbers.
        folds: (N,) number of the inner fold of each training row; None for folds by turns.
        strength: inverse penalty; chosen by the folds where None.
    """
    link = LINKS[kind]
    centre, scale = (y.mean(0), y.std(0) + 1e-12) if kind == "squared" else (0.0, 1.0)
    with warnings.catch_warnings(), torch.no_grad(), one_thread():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        columns = Standardizer.of(x) if isinstance(x, np.ndarray) else None
        rows = _Sparse(x) if columns is None else columns.rows(x)
        goal = torch.from_numpy(np.ascontiguousarray((y - centre) / scale, dtype=np.float64))
        pairs, held_out = [], goal[:0]
        if strength is None:
            pairs = _inner_splits(by_turns(y, FOLDS) if folds is None else folds, _CHOICE_ROWS if columns else _CHOICE_ROWS_SPARSE)
            strength, held_out = _choose(link, rows, goal, pairs)
        weight = fit(link, rows, goal, strength)
        weight = (weight if columns is None else columns.unrotated(weight)).numpy() * scale
        weight[-1] += centre
        model = LinearModel(
            weight=(weight[:-1] if columns is None else weight[:-1] * columns.factor.numpy()[:, None]).astype(np.float32),
            bias=weight[-1].astype(np.float32),
            mean=None if columns is None else columns.mean.numpy().astype(np.float32),
        )
        finished = _finish(kind, held_out).numpy() * scale + centre
        return LinearFit(model=model, strength=strength, pairs=tuple(pairs), outputs=finished)


def _finish(kind: LinkName, scores: Tensor) -> Tensor:
    return {"softmax": scores.softmax(1), "sigmoid": scores.sigmoid(), "squared": scores}[kind]


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


@dataclass(frozen=True, kw_only=True)
class Standardizer:
    """How dense columns are standardised, and rotated where there are fewer rows than columns."""

    mean: Tensor
    """(D,)."""
    factor: Tensor
    """(D,) 1 / deviation, and rows are brought to a length of about 1; 0 for constant columns."""
    basis: Tensor | None
    """(D, R) that standardised rows are multiplied by."""

    @classmethod
    def of(cls, x: NDArray[Any]) -> Standardizer:
        """Return what training features (N, D) come to."""
        train = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float64))
        mean, deviation = train.mean(0), train.std(0, correction=0)
        varies = deviation > 1e-5 * mean.abs()  # what rounding leaves of a constant column is not variation
        factor = torch.where(varies, 1 / deviation, torch.zeros((), dtype=torch.float64)) / max(int(varies.sum()), 1) ** 0.5
        if len(train) > min(1024, train.shape[1] // 2):
            return cls(mean=mean, factor=factor, basis=None)
        # The solution lies in the span of the rows: an (N, N) rotation of them gives the same model from smaller products.
        train = (train - mean) * factor
        values, vectors = torch.linalg.eigh(train @ train.T)
        kept = values > 1e-7 * values.max()
        return cls(mean=mean, factor=factor, basis=train.T @ (vectors[:, kept] / values[kept].sqrt()))

    def rows(self, x: NDArray[Any]) -> Dense:
        """Return features (N, D) as the solver takes them."""
        rows = (torch.from_numpy(np.ascontiguousarray(x, dtype=np.float64)) - self.mean) * self.factor
        return Dense(rows if self.basis is None else rows @ self.basis)

    def unrotated(self, weight: Tensor) -> Tensor:
        """Return weight and bias (D + 1, C) of standardised columns from those of rows that the solver took."""
        return weight if self.basis is None else torch.cat([self.basis @ weight[:-1], weight[-1:]])


# --- fitting -------------------------------------------------------------------------------------


def _choose(
    link: Link, rows: Dense | _Sparse, goal: Tensor, pairs: list[tuple[NDArray[np.int64], NDArray[np.int64]]]
) -> tuple[float, Tensor]:
    """Return the strength that does best on held-out rows, and their scores."""
    if not pairs:
        return STRENGTHS[1], goal[:0]
    wanted_test = goal[torch.from_numpy(np.concatenate([test for _, test in pairs]))]
    taken = [(rows.take(train), goal[torch.from_numpy(train)], rows.take(test)) for train, test in pairs]
    weights: list[Tensor | None] = [None] * len(pairs)
    tried: list[Tensor] = []
    for strength in STRENGTHS:
        fitted = [
            fit(link, part, wanted, strength, start, _TOLERANCE_OF_CHOICE) for (part, wanted, _), start in zip(taken, weights, strict=True)
        ]
        tried.append(torch.cat([outputs(test, weight) for (_, _, test), weight in zip(taken, fitted, strict=True)]))
        weights = [*fitted]
    best = _best(link, tried, wanted_test)
    return STRENGTHS[best], tried[best]


def _best(link: Link, tried: list[Tensor], goal: Tensor) -> int:
    """Return the candidate of lowest loss; for single labels, among those within a standard error of the best accuracy.

    On few rows accuracy alone is a lottery, and the loss alone prefers a penalty that is too strong.
    """
    losses = np.array([float(link(scores, goal)[0].mean()) for scores in tried])
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
