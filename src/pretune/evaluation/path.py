"""The regularisation path of a linear model: from the strongest penalty to the weakest, all folds at once.

Folds differ in which rows count and share every product with the features. The rows are rotated to their principal
components, where the curvature of the loss is nearly diagonal; dividing by its root (a diagonal preconditioner) takes
L-BFGS a tenth of the steps.

Shapes: N rows, D columns, R principal components, C outputs, F folds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pretune.evaluation.lbfgs import minimise
from pretune.evaluation.solver import Link, as_one, as_two, sigmoid, softmax, squared

TOLERANCE = 3e-4
"""Of the solver while strengths are compared."""
_NOTHING = 1e-10
"""Share of the largest principal component below which one is rounding."""
_SMALL = 4_000_000
"""Numbers up to which components are found in float64."""


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Rows in the basis of their principal components."""

    rows: Tensor
    """(N, R), not centred again."""
    back: Tensor
    """(D, R): rows of D columns times this are rows of R."""

    @classmethod
    def of(cls, x_ND: Tensor) -> Principal:
        """Return the components of rows (N, D), by the eigenvectors of the smaller of the two products."""
        x_ND = x_ND.double() if x_ND.numel() <= _SMALL else x_ND
        few_rows = len(x_ND) <= x_ND.shape[1]
        values, vectors = torch.linalg.eigh((x_ND @ x_ND.T if few_rows else x_ND.T @ x_ND).double())
        nothing = _NOTHING if x_ND.dtype == torch.float64 else 1e-6
        kept = values > nothing * values[-1].clamp(min=1e-30)
        root, basis = values[kept].sqrt(), vectors[:, kept]
        if not few_rows:
            back = basis.to(x_ND.dtype)
            return cls(rows=(x_ND @ back).float(), back=back.float())
        return cls(rows=(basis * root).float(), back=(x_ND.T @ (basis / root).to(x_ND.dtype)).float())


def preconditioner(principal: Principal, choice: Choice, count: int) -> Callable[[Tensor], Tensor]:
    """Return a symmetric map of weights (D, C) under which the loss on `count` rows curves alike in all directions.

    The principal components of a sample stand for those of all rows: they are shrunk by the root of their curvature, and
    what the sample does not span by that of its least component.
    """
    penalty = 1 / (choice.strength * count)
    units_R = 1 / (choice.curvature * principal.rows.square().mean(0) + penalty).sqrt()
    rest = float(units_R.max()) if len(units_R) else penalty**-0.5

    def apply(weight_DC: Tensor) -> Tensor:
        return rest * weight_DC + principal.back @ ((units_R - rest)[:, None] * (principal.back.T @ weight_DC))

    return apply


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The strength with the lowest loss on rows that were held out."""

    strength: float
    loss: float = float("nan")
    """Mean held-out loss; NaN where nothing could be held out."""
    losses: Tensor | None = None
    """(N,) that it is the mean of."""
    held_out: int = 0
    folds: int = 0
    start: Tensor | None = None
    """(R + 1, C) mean of the folds' weights: where a fit on all rows begins."""
    curvature: float = 1.0
    """Mean second derivative of the loss by a score, there."""


class Path:
    """Fits of one penalty after the other, each from the one before."""

    def __init__(self, link: Link, rows_NR: Tensor, goal_NC: Tensor, train_FN: Tensor) -> None:
        """Begin at zero weights.

        Args:
            link: the loss.
            rows_NR: principal components.
            goal_NC: targets.
            train_FN: float; 1 where a row belongs to a fold's training part, else 0.
        """
        self.of_two = link is softmax and goal_NC.shape[1] == 2
        """Whether one column of a sigmoid stands for two of a softmax."""
        self.link, self.goal, self.counts_F = (
            (sigmoid, goal_NC[:, 1:], train_FN.sum(1)) if self.of_two else (link, goal_NC, train_FN.sum(1))
        )
        self.rows = torch.cat([rows_NR, torch.ones(len(rows_NR), 1)], 1)
        self.shares_NF = (train_FN / self.counts_F[:, None]).T
        self._normal_FRR: Tensor | None = None
        self._columns = rows_NR.new_zeros(len(train_FN), rows_NR.shape[1] + 1, self.goal.shape[1])
        share_C = self.goal.mean(0)
        self.curvature = 1.0 if link is squared else float((share_C * (1 - share_C)).mean().clamp(min=1e-3))
        """Mean second derivative of the loss by a score."""

    @property
    def weights(self) -> Tensor:
        """(F, R + 1, C) of the last fit, the bias last."""
        return as_two(self._columns) if self.of_two else self._columns

    def begin_at(self, weight: Tensor) -> None:
        """Let the next fit of every fold begin at a weight (R + 1, C)."""
        self._columns = (as_one(weight) if self.of_two else weight).expand(len(self._columns), -1, -1)

    def fit(self, strength: float, tolerance: float = TOLERANCE) -> Tensor:
        """Fit each fold at an inverse penalty and return the loss of every row under every fold, (N, F)."""
        if self.link is squared:
            return self._solve(strength)
        (folds, width, outputs), count = self._columns.shape, len(self.rows)
        penalty_F = 1 / ((2 * strength if self.of_two else strength) * self.counts_F)
        ridge_R = torch.full((width,), float(penalty_F.mean()))
        ridge_R[-1] = 0.0  # the bias is not penalised
        unit_R = (self.curvature * self.rows.square().mean(0) + ridge_R).sqrt()
        scaled_NR = self.rows / unit_R
        shrunk_R = unit_R**-2
        shrunk_R[-1] = 0.0

        def scores(x_FP: Tensor) -> Tensor:
            weight_RFC = x_FP.view(folds, width, outputs).transpose(0, 1)
            return (scaled_NR @ weight_RFC.reshape(width, -1)).view(count, folds, outputs)

        def objective(x_FP: Tensor) -> tuple[Tensor, Tensor]:
            loss_NF, residual_NFC = self.link(scores(x_FP), self.goal[:, None])
            pull_FP = ((penalty_F[:, None] * shrunk_R)[..., None] * x_FP.view(folds, width, outputs)).reshape(folds, -1)
            slope_RFC = (scaled_NR.T @ (residual_NFC * self.shares_NF[..., None]).view(count, -1)).view(width, folds, outputs)
            value_F = (loss_NF * self.shares_NF).sum(0) + 0.5 * (x_FP * pull_FP).sum(1)
            return value_F, slope_RFC.transpose(0, 1).reshape(folds, -1) + pull_FP

        x_FP = minimise(objective, (self._columns * unit_R[:, None]).reshape(folds, -1), tolerance)
        self._columns = x_FP.view(folds, width, outputs) / unit_R[:, None]
        loss_NF, residual_NFC = self.link(scores(x_FP), self.goal[:, None])
        probability = residual_NFC + self.goal[:, None]
        self.curvature = max(1e-4, float((probability * (1 - probability)).mean()))
        return loss_NF

    def _solve(self, strength: float) -> Tensor:
        """Fit squares in closed form: descent at a weak penalty stops long before the minimum where rows resemble each other."""
        rows, train_NF = self.rows.double(), (self.shares_NF > 0).double()
        if self._normal_FRR is None:
            self._normal_FRR = torch.stack([(rows * train_N[:, None]).T @ rows for train_N in train_NF.T])
        ridge_R = torch.full((rows.shape[1],), 1 / strength, dtype=torch.float64)
        ridge_R[-1] = 0.0  # the bias is not penalised
        wanted_FRC = torch.stack([rows.T @ (self.goal * train_N[:, None]) for train_N in train_NF.T])
        weight_FRC = torch.cholesky_solve(wanted_FRC, torch.linalg.cholesky(self._normal_FRR + ridge_R.diag()))
        self._columns = weight_FRC.to(self.rows.dtype)
        scores_NFC = (rows @ weight_FRC).transpose(0, 1).to(self.rows.dtype)
        return self.link(scores_NFC, self.goal[:, None])[0]


def choose(
    link: Link,
    rows_NR: Tensor,
    goal_NC: Tensor,
    folds: NDArray[np.int64],
    strengths: Sequence[float],
    pause: Callable[[], None],
    patience: int = 2,
) -> Choice:
    """Follow the path until the held-out loss has risen some times, and return its lowest point.

    Args:
        link: the loss.
        rows_NR: principal components.
        goal_NC: targets.
        folds: (N,) fold of each row, in which it is held out.
        strengths: inverse penalties, strongest penalty first.
        pause: called before each fit; may raise where the person asked to stop.
        patience: strengths after the lowest point before the path ends.
    """
    train_FN = torch.from_numpy(np.stack([folds != fold for fold in np.unique(folds)])).float()
    best = Choice(strength=strengths[len(strengths) // 2])
    if len(train_FN) < 2:
        return best
    path, worse = Path(link, rows_NR, goal_NC, train_FN), 0
    for strength in strengths:
        pause()
        losses_N = ((1 - train_FN.T) * path.fit(strength)).sum(1)
        loss = float(losses_N.mean())
        if not loss >= best.loss:  # the first is compared with NaN
            best = Choice(
                strength=strength,
                loss=loss,
                losses=losses_N,
                held_out=len(rows_NR),
                folds=len(train_FN),
                start=path.weights.mean(0),
                curvature=path.curvature,
            )
            worse = 0
            continue
        worse += 1
        if worse == patience:
            break
    return best


def fit(link: Link, rows_NR: Tensor, goal_NC: Tensor, strength: float, start: Tensor | None, tolerance: float) -> Tensor:
    """Return weight and bias, (R + 1, C), fitted on all rows."""
    path = Path(link, rows_NR, goal_NC, torch.ones(1, len(rows_NR)))
    if start is not None:
        path.begin_at(start)
    path.fit(strength, tolerance)
    return path.weights[0]


def held_out(
    link: Link, rows_NR: Tensor, goal_NC: Tensor, pairs: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]], strength: float
) -> Tensor:
    """Return the scores (H, C) of each pair's held-out rows under a fit on its training rows, pair after pair."""
    train_FN = torch.zeros(len(pairs), len(rows_NR))
    for row, (train, _) in zip(train_FN, pairs, strict=True):
        row[torch.from_numpy(train)] = 1
    path = Path(link, rows_NR, goal_NC, train_FN)
    path.fit(strength, TOLERANCE / 30)  # from nothing: at weak penalties it would stop early
    return torch.cat([path.rows[test] @ weight for (_, test), weight in zip(pairs, path.weights, strict=True)])
