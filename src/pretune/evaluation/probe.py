"""The linear head of frozen features, solved exactly: L2-regularised, its strength chosen by cross-validation.

A probe is convex: descending it step by step with AdamW ends near a training loss of zero, at a worse separator that is
too sure of itself. Here the solver is L-BFGS (Liu & Nocedal 1989) on a path of strengths, each started from the one before,
which ends when the held-out loss has risen twice. Features are centred and divided by one number, the root mean square
length of a row; dividing each column by its own deviation was worse on small data (docs/log.md has the table).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pretune.evaluation.folds import by_turns
from pretune.evaluation.links import LinkName
from pretune.evaluation.solver import LINKS, Dense, Link, fit, one_thread, outputs

STRENGTHS = tuple(float(10 ** (exponent / 2)) for exponent in range(-3, 10))
"""Inverse penalties C of the path, strongest penalty first; rows have a length of about 1, and C multiplies their summed loss."""
FOLDS = 5
_MOST_ROWS = 3_000
"""Rows by which the strength is chosen at most."""
_FOLD_ROWS = 6_000
"""Rows of all folds together: of many rows not every fold is held out."""
_PATIENCE = 2
_SMALL = 4_000_000
"""Numbers in the features below which one thread is quicker: two wait for each other after every product."""
_TOLERANCE_OF_CHOICE, _TOLERANCE = 1e-5, 1e-6


@dataclass(frozen=True, kw_only=True)
class Solution:
    """A head, and how it was found."""

    mean: Tensor
    """(D,) that is taken from features."""
    scale: float
    """That they are multiplied by then."""
    weight: Tensor
    """(C, D)."""
    bias: Tensor
    """(C,)."""
    strength: float
    loss: float
    """Mean held-out loss at this strength; NaN where nothing could be held out."""
    held_out: int
    """Examples that it is of."""
    folds: int


def solve(
    kind: LinkName, x_ND: Tensor, y_NC: Tensor, folds: NDArray[np.int64] | None = None, pause: Callable[[], None] = lambda: None
) -> Solution:
    """Return the regularised linear head.

    Args:
        kind: softmax for one class, sigmoid for several, squared for numbers.
        x_ND: (N, D) pooled features of the training examples.
        y_NC: (N, C) one-hot or multi-hot targets, or (N, 1) numbers.
        folds: (N,) fold of each example; None deals them out class by class.
        pause: called before each fit; may raise where the person asked to stop.
    """
    link = LINKS[kind]
    threads = one_thread() if x_ND.numel() < _SMALL else nullcontext()
    with torch.no_grad(), threads:
        x_ND = x_ND.float()
        mean = x_ND.mean(0)
        centred = x_ND - mean
        scale = float(1 / centred.square().sum(1).mean().sqrt().clamp(min=1e-12))
        rows, basis = _rotated(centred * scale)
        goal = y_NC.to(rows.dtype)
        dealt = by_turns(y_NC.numpy(), FOLDS) if folds is None else folds
        chosen = _choose(link, rows, goal, dealt, pause)
        pause()
        weight = fit(link, Dense(rows), goal, chosen.strength, chosen.start, _TOLERANCE)
        return Solution(
            mean=mean,
            scale=scale,
            weight=(basis @ weight[:-1]).T.float(),
            bias=weight[-1].float(),
            strength=chosen.strength,
            loss=chosen.loss,
            held_out=chosen.held_out,
            folds=chosen.folds,
        )


def _rotated(x_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows (N, R) and a basis (D, R) with x = rows · basisᵀ: with fewer rows than columns, products are smaller so."""
    if len(x_ND) >= x_ND.shape[1]:
        return x_ND, torch.eye(x_ND.shape[1])
    basis, triangle = torch.linalg.qr(x_ND.T)
    return triangle.T, basis


@dataclass(frozen=True, kw_only=True)
class _Choice:
    """The strength of the lowest held-out loss."""

    strength: float
    loss: float = float("nan")
    held_out: int = 0
    folds: int = 0
    start: Tensor | None = None
    """The mean of the folds' weights at this strength: where the fit on all rows begins."""


def _choose(link: Link, rows: Tensor, goal: Tensor, folds: NDArray[np.int64], pause: Callable[[], None]) -> _Choice:
    """Follow the path of strengths until the held-out loss has risen twice."""
    pairs = _splits(folds)
    best = _Choice(strength=STRENGTHS[len(STRENGTHS) // 2])
    if not pairs:
        return best
    weights: list[Tensor | None] = [None] * len(pairs)
    lowest, worse = float("inf"), 0
    count = sum(len(held) for _, held in pairs)
    for strength in STRENGTHS:
        total = 0.0
        for place, (train, held) in enumerate(pairs):
            pause()
            weight = fit(link, Dense(rows[train]), goal[train], strength, weights[place], _TOLERANCE_OF_CHOICE)
            total += len(held) * float(link(outputs(Dense(rows[held]), weight), goal[held])[0])
            weights[place] = weight
        if total / count < lowest:
            lowest, worse = total / count, 0
            start = torch.stack([weight for weight in weights if weight is not None]).mean(0)
            best = _Choice(strength=strength, loss=lowest, held_out=count, folds=len(pairs), start=start)
        else:
            worse += 1
            if worse == _PATIENCE:
                break
    return best


def _splits(folds: NDArray[np.int64]) -> list[tuple[Tensor, Tensor]]:
    """Return (train, held out) row numbers; of many rows a sample, and not every fold."""
    rows = np.arange(len(folds))
    if len(rows) > _MOST_ROWS:
        rows = np.sort(np.random.default_rng(0).choice(rows, _MOST_ROWS, replace=False))
    dealt = folds[rows]
    pairs = [(rows[dealt != fold], rows[dealt == fold]) for fold in np.unique(dealt)]
    whole = [(torch.from_numpy(train), torch.from_numpy(held)) for train, held in pairs if len(train)]
    return whole[: max(1, _FOLD_ROWS // max(1, len(rows)))]


def held_out(
    kind: LinkName,
    x_ND: Tensor,
    y_NC: Tensor,
    solution: Solution,
    pairs: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
    pause: Callable[[], None] = lambda: None,
) -> Tensor:
    """Return the scores (H, C) of held-out rows under heads that did not learn from them, fold after fold.

    Args:
        kind: softmax for one class, sigmoid for several, squared for numbers.
        x_ND: (N, D) pooled features.
        y_NC: (N, C) targets.
        solution: whose strength and scaling are taken.
        pairs: (training rows, held-out rows) of each fold.
        pause: called before each fit; may raise where the person asked to stop.
    """
    out = [y_NC[:0].float()]
    with torch.no_grad(), one_thread() if x_ND.numel() < _SMALL else nullcontext():
        for train, held in pairs:
            pause()
            rows, basis = _rotated((x_ND[train].float() - solution.mean) * solution.scale)
            weight = fit(LINKS[kind], Dense(rows), y_NC[train].float(), solution.strength, None, _TOLERANCE_OF_CHOICE)
            out.append(outputs(Dense((x_ND[held].float() - solution.mean) * solution.scale @ basis), weight))
    return torch.cat(out)
