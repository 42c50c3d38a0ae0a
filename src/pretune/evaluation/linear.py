"""A regularised linear model on classical features: the honest opponent of a deep network.

One solver (L-BFGS, Liu & Nocedal 1989) for three losses: softmax for single labels, sigmoid for several, squared for
numbers; the L2 penalty is chosen by cross-validation on the training part alone. Dense features are standardised;
sparse ones (TF-IDF rows) are taken as they are. All is computed in float64, in which the solver can converge.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Link = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(scores (N, C), targets (N, C)) -> mean loss, residual (N, C) whose product with the features is the gradient."""

STRENGTHS = (0.3, 3.0, 30.0, 300.0)
"""Inverse penalties C that are tried, strongest penalty first; rows of features have a length of about 1."""
FOLDS = 5
_CHOICE_ROWS = 1_500
"""Dense rows that the fits of one candidate strength may add up to: fewer rows, and fewer folds, where there are more."""
_CHOICE_ROWS_SPARSE = 5_000
_MOST_STEPS = 3_000
"""Steps of the solver at most; it has mostly converged after a hundred."""
_TOLERANCE = 1e-9
"""It has converged when a step lowers its objective by less than this share: probabilities are then within 1e-3 of scikit-learn's."""
_TOLERANCE_OF_CHOICE = 1e-5
"""The same where strengths are compared, which needs no more."""


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
    link = {"classification": _softmax_link, "multilabel": _sigmoid_link, "regression": _squared_link}[kind]
    centre, scale = (y.mean(0), y.std(0) + 1e-12) if kind == "regression" else (0.0, 1.0)
    with warnings.catch_warnings(), torch.no_grad(), _one_thread():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        rows, rows_eval = _dense(x, x_eval) if isinstance(x, np.ndarray) else (_Sparse(x), _Sparse(x_eval))
        goal = torch.from_numpy(np.ascontiguousarray((y - centre) / scale, dtype=np.float64))
        strength, index, held_out = _choose(link, rows, goal, _by_turns(y) if folds is None else folds)
        weight = _fit(link, rows, goal, strength)
        finish = lambda scores: _finish(kind, scores).numpy().astype(float) * scale + centre  # noqa: E731
        return Fitted(outputs=finish(_scores(rows_eval, weight)), held_out=(index, finish(held_out)), strength=strength)


@contextmanager
def _one_thread() -> Generator[None]:
    """Compute on one thread: the products are small, and on a busy machine waiting for a second thread took ten times longer."""
    many = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(many)


# --- losses --------------------------------------------------------------------------------------


def _softmax_link(scores: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
    log_p = scores.log_softmax(1)
    return -(goal * log_p).sum(1).mean(), log_p.exp() - goal


def _sigmoid_link(scores: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
    loss = torch.nn.functional.softplus(scores) - goal * scores
    return loss.sum(1).mean(), scores.sigmoid() - goal


def _squared_link(scores: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
    residual = scores - goal
    return 0.5 * residual.square().sum(1).mean(), residual


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


class _Dense:
    """A dense matrix with the same interface."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.shape = tuple(tensor.shape)

    def __matmul__(self, weight: Tensor) -> Tensor:
        return self.tensor @ weight

    def transposed_times(self, residual: Tensor) -> Tensor:
        return self.tensor.T @ residual

    def take(self, index: NDArray[np.int64]) -> _Dense:
        return _Dense(self.tensor[torch.from_numpy(index)])


def _csr(matrix: Any) -> Tensor:
    parts = (torch.from_numpy(np.asarray(part, dtype=kind)) for part, kind in _parts(matrix))
    return torch.sparse_csr_tensor(*parts, size=matrix.shape, check_invariants=False)


def _parts(matrix: Any) -> list[tuple[Any, Any]]:
    return [(matrix.indptr, np.int64), (matrix.indices, np.int64), (matrix.data, np.float64)]


def _dense(x: NDArray[Any], x_eval: NDArray[Any]) -> tuple[_Dense, _Dense]:
    """Standardise by the training rows and bring rows to a length of about 1; rotate where there are fewer rows than columns."""
    train, held = (torch.from_numpy(np.ascontiguousarray(a, dtype=np.float64)) for a in (x, x_eval))
    mean, deviation = train.mean(0), train.std(0, correction=0)
    varies = deviation > 1e-5 * mean.abs()  # what rounding leaves of a constant column is not variation
    factor = torch.where(varies, 1 / deviation, torch.zeros((), dtype=torch.float64)) / max(int(varies.sum()), 1) ** 0.5
    train, held = (train - mean) * factor, (held - mean) * factor
    if len(train) > min(1024, train.shape[1] // 2):
        return _Dense(train), _Dense(held)
    # The solution lies in the span of the rows: an (N, N) rotation of them gives the same model from smaller products.
    values, vectors = torch.linalg.eigh(train @ train.T)
    kept = values > 1e-7 * values.max()
    root, basis = values[kept].sqrt(), vectors[:, kept]
    return _Dense(basis * root), _Dense(held @ (train.T @ (basis / root)))


# --- fitting -------------------------------------------------------------------------------------


def _scores(rows: _Dense | _Sparse, weight: Tensor) -> Tensor:
    return rows @ weight[:-1] + weight[-1]


def _fit(
    link: Link, rows: _Dense | _Sparse, goal: Tensor, strength: float, start: Tensor | None = None, tolerance: float = _TOLERANCE
) -> Tensor:
    """Return weight and bias, (D + 1, C), that minimise mean loss + |weight|² / (2 · strength · N)."""
    if link is _squared_link and isinstance(rows, _Dense):
        return _ridge(rows.tensor, goal, 1 / strength)
    count, width = rows.shape
    penalty = 1 / (strength * count)

    def objective(weight: Tensor) -> tuple[float, Tensor]:
        loss, residual = link(_scores(rows, weight), goal)
        residual /= count
        slope = torch.cat([rows.transposed_times(residual) + penalty * weight[:-1], residual.sum(0, keepdim=True)])
        return float(loss + 0.5 * penalty * weight[:-1].square().sum()), slope

    return _minimise(objective, torch.zeros(width + 1, goal.shape[1], dtype=torch.float64) if start is None else start, tolerance)


def _ridge(x_ND: Tensor, y_NC: Tensor, penalty: float) -> Tensor:
    """Return the minimum of the squared loss in closed form: descent is slow where columns resemble each other."""
    middle_D, middle_C = x_ND.mean(0), y_NC.mean(0)
    centred = x_ND - middle_D
    normal = centred.T @ centred + penalty * torch.eye(x_ND.shape[1], dtype=x_ND.dtype)
    weight = torch.cholesky_solve(centred.T @ (y_NC - middle_C), torch.linalg.cholesky(normal))
    return torch.cat([weight, (middle_C - middle_D @ weight)[None]])


def _minimise(objective: Callable[[Tensor], tuple[float, Tensor]], x: Tensor, tolerance: float) -> Tensor:
    """Return the minimum of a smooth convex function by L-BFGS with backtracking.

    Not `torch.optim.LBFGS`: constructing any torch optimizer imports torch's compiler, 1-3 s that a floor need not cost.
    """
    value, slope = objective(x)
    memory: list[tuple[Tensor, Tensor]] = []
    for _ in range(_MOST_STEPS):
        if not slope.any():
            break
        direction = _descent(slope, memory)
        gain = float((slope * direction).sum())
        step = 1.0
        new_value, new_slope = objective(x + direction)
        while new_value > value + 1e-4 * step * gain and step > 1e-6:
            step /= 2
            new_value, new_slope = objective(x + step * direction)
        change, bend = step * direction, new_slope - slope
        if new_value > value or value - new_value < tolerance * max(abs(value), 1e-3):
            return x + change if new_value <= value else x
        if (change * bend).sum() > 0:
            memory = [*memory[-9:], (change, bend)]
        x, value, slope = x + change, new_value, new_slope
    return x


def _descent(slope: Tensor, memory: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Return minus the slope times the inverse curvature that past steps have shown (the two-loop recursion)."""
    if not memory:
        return -slope / slope.norm()
    direction, weights = -slope, []
    for change, bend in reversed(memory):
        weights.append((direction * change).sum() / (bend * change).sum())
        direction = direction - weights[-1] * bend
    change, bend = memory[-1]
    direction = direction * ((change * bend).sum() / bend.square().sum())
    for (change, bend), share in zip(memory, reversed(weights), strict=True):
        direction = direction + change * (share - (bend * direction).sum() / (bend * change).sum())
    return direction


def _choose(link: Link, rows: _Dense | _Sparse, goal: Tensor, folds: NDArray[np.int64]) -> tuple[float, NDArray[np.int64], Tensor]:
    """Return the strength that does best on held-out rows, those rows, and their scores."""
    pairs = _inner_splits(folds, _CHOICE_ROWS if isinstance(rows, _Dense) else _CHOICE_ROWS_SPARSE)
    if not pairs:
        return STRENGTHS[1], np.zeros(0, dtype=np.int64), goal[:0]
    index = np.concatenate([held for _, held in pairs])
    wanted_held = goal[torch.from_numpy(index)]
    taken = [(rows.take(train), goal[torch.from_numpy(train)], rows.take(held)) for train, held in pairs]
    weights: list[Tensor | None] = [None] * len(pairs)
    tried: list[Tensor] = []
    for strength in STRENGTHS:
        fitted = [
            _fit(link, part, wanted, strength, start, _TOLERANCE_OF_CHOICE) for (part, wanted, _), start in zip(taken, weights, strict=True)
        ]
        tried.append(torch.cat([_scores(held, weight) for (_, _, held), weight in zip(taken, fitted, strict=True)]))
        weights = [*fitted]
    best = _best(link, tried, wanted_held)
    return STRENGTHS[best], index, tried[best]


def _best(link: Link, tried: list[Tensor], goal: Tensor) -> int:
    """Return the candidate of lowest loss; for single labels, among those within a standard error of the best accuracy.

    On few rows accuracy alone is a lottery, and the loss alone prefers a penalty that is too strong.
    """
    losses = np.array([float(link(scores, goal)[0]) for scores in tried])
    if link is _softmax_link:
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


def _by_turns(y: NDArray[Any]) -> NDArray[np.int64]:
    """Deal rows to folds class by class (or by rising number), so that folds resemble each other."""
    order = np.lexsort(np.asarray(y, dtype=float).T)
    folds = np.empty(len(y), dtype=np.int64)
    folds[order] = np.arange(len(y)) % FOLDS
    return folds
