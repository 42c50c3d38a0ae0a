"""The linear head of frozen features, solved exactly: L2-regularised, its strength and its features chosen by cross-validation.

A probe is convex: descending it step by step with AdamW ends near a training loss of zero, at a worse separator that is
too sure of itself. Which features it is best solved on depends on how far the data are from what the network was trained
on: the means of the last stage for photographs, statistics of earlier stages for what looks different. Features are centred,
and each block of them (one statistic of one stage) is divided by one number, the root mean square length of its rows; dividing
each column by its own deviation was worse on small data. docs/log.md has the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pretune.evaluation import path
from pretune.evaluation.folds import by_turns
from pretune.evaluation.links import LOSSES, MODELS, LinkName
from pretune.evaluation.path import Choice, Principal
from pretune.evaluation.solver import LINKS, Dense, Link, fit, one_thread, outputs

STRENGTHS = tuple(float(10 ** (exponent / 2)) for exponent in range(-3, 10))
"""Inverse penalties C of the path, strongest penalty first; rows have a length of about 1, and C multiplies their summed loss."""
FOLDS = 5
_MOST_ROWS = 1_500
"""Rows by which the strength is chosen at most."""
_MOST_ROWS_TO_COMPARE = 800
"""Rows by which the features are chosen at most."""
_BETTER = 0.99
"""Share of a simpler candidate's loss that a wider one must come below, by more than the standard error of the difference."""
_SMALL = 4_000_000
"""Numbers in the features below which one thread is quicker: two wait for each other after every product."""
_TOLERANCE = 1e-6

Columns = Sequence[tuple[int, int]]
"""Start and stop of each block of columns."""
_WORDS = {
    "mean": "the means of the last stage",
    "mean_std": "the means and deviations of the last stage",
    "last4_mean_std": "the means and deviations of the last four stages",
    "layers": "the means of all stages",
    "layers_mean_std": "the means and deviations of all stages",
}
"""What a head is on, by pooling."""


@dataclass(frozen=True, kw_only=True)
class Solution:
    """A head, and how it was found."""

    candidate: str
    """Name of the features it takes."""
    columns: Tensor
    """(K,) which of all columns those are."""
    mean: Tensor
    """(K,) that is taken from features."""
    scale: Tensor
    """(K,) that they are multiplied by then."""
    weight: Tensor
    """(C, K)."""
    bias: Tensor
    """(C,)."""
    strength: float
    loss: float
    """Mean held-out loss at this strength; NaN where nothing could be held out."""
    held_out: int
    """Examples that it is of."""
    folds: int
    curvature: float = 1.0
    """Mean second derivative of the loss by a score."""
    tried: Mapping[str, float] = field(default_factory=dict)
    """Held-out loss of each candidate on the same examples; empty where there was one."""


def solve(
    kind: LinkName,
    x_ND: Tensor,
    y_NC: Tensor,
    folds: NDArray[np.int64] | None = None,
    pause: Callable[[], None] = lambda: None,
    candidates: Mapping[str, Columns] | None = None,
) -> Solution:
    """Return the regularised linear head.

    Args:
        kind: softmax for one class, sigmoid for several, squared for numbers.
        x_ND: (N, D) pooled features of the training examples.
        y_NC: (N, C) one-hot or multi-hot targets, or (N, 1) numbers.
        folds: (N,) fold of each example; None deals them out class by class.
        pause: called before each fit; may raise where the person asked to stop.
        candidates: by name, the blocks of columns that one set of features consists of, the simplest first; None for all columns.
    """
    link, options = LINKS[kind], candidates or {"": [(0, x_ND.shape[1])]}
    with torch.no_grad(), one_thread() if x_ND.numel() < _SMALL else nullcontext():
        x_ND, goal = x_ND.float(), y_NC.float()
        dealt = by_turns(y_NC.numpy(), FOLDS) if folds is None else folds
        scaled = _Scaled.of(x_ND, options)
        name, strengths, tried = (
            _compare(link, x_ND, goal, dealt, scaled, pause) if len(options) > 1 else (next(iter(options)), STRENGTHS, {})
        )
        chosen = scaled[name]
        rows = chosen.of_rows(x_ND)
        weight, choice = _solved(link, rows, goal, dealt, strengths, pause)
        return Solution(
            candidate=name,
            columns=chosen.columns,
            mean=chosen.mean,
            scale=chosen.scale,
            weight=weight[:-1].T.contiguous(),
            bias=weight[-1],
            strength=choice.strength,
            loss=choice.loss,
            held_out=choice.held_out,
            folds=choice.folds,
            curvature=choice.curvature,
            tried=tried,
        )


@dataclass(frozen=True, kw_only=True)
class _Scaled:
    """Columns of one candidate, centred, each block brought to one length."""

    columns: Tensor
    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, x_ND: Tensor, candidates: Mapping[str, Columns]) -> dict[str, _Scaled]:
        """Return how each candidate is centred and scaled, by all rows; a block that never varies is silenced."""
        mean = x_ND.mean(0)
        length = {block: _length(x_ND[:, slice(*block)], mean[slice(*block)]) for blocks in candidates.values() for block in blocks}
        out = {}
        for name, blocks in candidates.items():
            columns = torch.cat([torch.arange(*block) for block in blocks])
            scale = torch.cat([torch.full((stop - start,), length[start, stop]) for start, stop in blocks]) / len(blocks) ** 0.5
            out[name] = cls(columns=columns, mean=mean[columns], scale=scale)
        return out

    def of_rows(self, x_ND: Tensor) -> Tensor:
        """Return (N, K)."""
        taken = x_ND if len(self.columns) == x_ND.shape[1] else x_ND[:, self.columns]
        return (taken - self.mean).mul_(self.scale)


def _length(x_NK: Tensor, mean_K: Tensor) -> float:
    """Return one over the root mean square length of rows; 0 where what is left of a constant is rounding."""
    length = float((x_NK - mean_K).square().sum(1).mean().sqrt())
    return 1 / length if length > 1e-6 * float(mean_K.norm()) + 1e-12 else 0.0


def _compare(
    link: Link,
    x_ND: Tensor,
    goal: Tensor,
    folds: NDArray[np.int64],
    scaled: Mapping[str, _Scaled],
    pause: Callable[[], None],
) -> tuple[str, Sequence[float], dict[str, float]]:
    """Return the features of the lowest held-out loss, the strengths around their best one, and the losses of all."""
    some = _sample(len(folds), _MOST_ROWS_TO_COMPARE)
    best, lowest = Choice(strength=0.0), ""
    tried: dict[str, float] = {}
    for name, candidate in scaled.items():
        rows = Principal.of(candidate.of_rows(x_ND[some])).rows
        found = path.choose(link, rows, goal[some], folds[some.numpy()], STRENGTHS[::2], pause, patience=1)
        tried[name] = found.loss
        if not lowest or _is_better(found, best):
            best, lowest = found, name
    if not best.held_out:
        return lowest, STRENGTHS, {}
    place = STRENGTHS.index(best.strength)
    return lowest, STRENGTHS[max(0, place - 2) : place + 3], tried


def _is_better(wider: Choice, simpler: Choice) -> bool:
    """Return whether the loss on the same held-out rows is lower by more than chance."""
    if wider.losses is None or simpler.losses is None:
        return False
    gains = simpler.losses - wider.losses
    return wider.loss < _BETTER * simpler.loss and float(gains.mean()) > float(gains.std() / len(gains) ** 0.5)


def _solved(
    link: Link, rows: Tensor, goal: Tensor, folds: NDArray[np.int64], strengths: Sequence[float], pause: Callable[[], None]
) -> tuple[Tensor, Choice]:
    """Return weight and bias, (K + 1, C), of all rows, at the strength that some of them chose."""
    some = _sample(len(rows), _MOST_ROWS)
    principal = Principal.of(rows[some])
    choice = path.choose(link, principal.rows, goal[some], folds[some.numpy()], strengths, pause)
    pause()
    if len(some) == len(rows):
        weight = path.fit(link, principal.rows, goal, choice.strength, choice.start, _TOLERANCE)
        return torch.cat([principal.back @ weight[:-1], weight[-1:]]), choice
    start = None if choice.start is None else torch.cat([principal.back @ choice.start[:-1], choice.start[-1:]])
    even = path.preconditioner(principal, choice, len(rows))
    return fit(link, Dense(rows), goal, choice.strength, start, _TOLERANCE, even), choice


def held_out(
    kind: LinkName,
    x_NK: Tensor,
    y_NC: Tensor,
    solution: Solution,
    pairs: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
    pause: Callable[[], None] = lambda: None,
) -> Tensor:
    """Return the scores (H, C) of held-out rows under heads that did not learn from them, fold after fold.

    Args:
        kind: softmax for one class, sigmoid for several, squared for numbers.
        x_NK: the columns of pooled features that the solution takes.
        y_NC: targets.
        solution: whose strength and scaling are taken.
        pairs: (training rows, held-out rows) of each fold.
        pause: called before each fit; may raise where the person asked to stop.
    """
    link, goal = LINKS[kind], y_NC.float()
    if not pairs:
        return goal[:0]
    with torch.no_grad(), one_thread() if x_NK.numel() < _SMALL else nullcontext():
        rows = (x_NK.float() - solution.mean) * solution.scale
        principal = Principal.of(rows[_sample(len(rows), _MOST_ROWS)])
        if len(principal.rows) == len(rows):
            return path.held_out(link, principal.rows, goal, pairs, solution.strength)
        out = []
        for train, test in pairs:
            pause()
            even = path.preconditioner(principal, Choice(strength=solution.strength, curvature=solution.curvature), len(train))
            weight = fit(link, Dense(rows[train]), goal[train], solution.strength, None, path.TOLERANCE, even)
            out.append(outputs(Dense(rows[test]), weight))
        return torch.cat(out)


def _sample(count: int, most: int) -> Tensor:
    """Return row numbers: all, or a random sample of `most`, in order."""
    if count <= most:
        return torch.arange(count)
    return torch.from_numpy(np.sort(np.random.default_rng(0).choice(count, most, replace=False)))


def sentence(link: LinkName, solution: Solution) -> str:
    """Return what a person reads: the model, its features and regularisation, and what those were chosen by."""
    model = MODELS[link] if link == "squared" else f"L2-regularised {MODELS[link]}"
    found = f"head: {model} on {_WORDS.get(solution.candidate, 'the features')}, C = {solution.strength:.3g}"
    if not solution.held_out:
        return f"{found} (too few examples for cross-validation)"
    others = ", ".join(f"{name} {loss:.3g}" for name, loss in solution.tried.items())
    return (
        f"{found}, chosen by {solution.folds}-fold cross-validation "
        f"({LOSSES[link]} {solution.loss:.3g} on {solution.held_out:,} training examples"
        f"{f'; by pooling: {others}' if others else ''})"
    )
