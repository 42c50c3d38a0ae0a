"""L-BFGS (Liu & Nocedal 1989) for several smooth convex problems of one shape at once.

All fits of a cross-validation differ in which rows count, and share every product with the features: together they cost
little more than one. The two-loop recursion runs on inner products, as of Chen, Wang & Zhou, "Large-scale L-BFGS using
MapReduce" (2014), which needs two products with the memory instead of forty small operations.

Not `torch.optim.LBFGS`: constructing any torch optimizer imports torch's compiler, 1-3 s that a baseline need not cost.

Shapes: F problems, P parameters, M remembered steps.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Objective = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Parameters (F, P) -> values (F,) and gradients (F, P)."""

_MEMORY = 8
_MOST_STEPS = 3_000
"""Steps at most; it has mostly converged after a hundred."""
_MOST_HALVINGS = 20
_TINY = 1e-300


def minimise(objective: Objective, x_FP: Tensor, tolerance: float) -> Tensor:
    """Return the minimum of each problem, (F, P), by L-BFGS with backtracking.

    Args:
        objective: what is minimised.
        x_FP: where to start.
        tolerance: a problem is done when a step lowers its value by less than this share.
    """
    value_F, slope_FP = objective(x_FP)
    memory = _Memory(x_FP)
    live_F = slope_FP.any(1)
    for _ in range(_MOST_STEPS):
        if not live_F.any():
            break
        direction_FP = memory.descent(slope_FP)
        step_F, new_FP, new_value_F, new_slope_FP = _line_search(objective, x_FP, value_F, slope_FP, direction_FP, live_F)
        gained_F = value_F - new_value_F
        memory.add(new_FP - x_FP, new_slope_FP - slope_FP)
        live_F = live_F & (step_F > 0) & (gained_F >= tolerance * value_F.abs().clamp(min=1e-3))
        x_FP, value_F, slope_FP = new_FP, new_value_F, new_slope_FP
    return x_FP


def _line_search(
    objective: Objective, x_FP: Tensor, value_F: Tensor, slope_FP: Tensor, direction_FP: Tensor, live_F: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Halve the step of each problem until its value falls enough (Armijo); one that never does stays where it is."""
    promised_F = 1e-4 * (slope_FP * direction_FP).sum(1)
    step_F = live_F.to(x_FP.dtype)
    for halving in range(_MOST_HALVINGS + 1):
        new_FP = x_FP + step_F[:, None] * direction_FP
        new_value_F, new_slope_FP = objective(new_FP)
        failed_F = live_F & ~(new_value_F <= value_F + step_F * promised_F)
        if not failed_F.any():
            break
        step_F = torch.where(failed_F, step_F / 2 if halving < _MOST_HALVINGS - 1 else 0.0, step_F)
    return step_F, new_FP, new_value_F, new_slope_FP


class _Memory:
    """The last steps and changes of slope of each problem, with all their inner products."""

    def __init__(self, x_FP: Tensor) -> None:
        count, width = x_FP.shape
        self.vectors = x_FP.new_zeros(count, 2 * _MEMORY, width)
        """(F, 2 M, P): steps, then changes of slope; a slot is written over when all are full."""
        self.products = np.zeros((count, 2 * _MEMORY, 2 * _MEMORY))
        self.slots: list[int] = []
        """Oldest first."""

    def add(self, step_FP: Tensor, bend_FP: Tensor) -> None:
        """Remember a step and how the slope changed over it."""
        slot = self.slots.pop(0) if len(self.slots) == _MEMORY else len(self.slots)
        self.slots.append(slot)
        self.vectors[:, slot], self.vectors[:, _MEMORY + slot] = step_FP, bend_FP
        added = torch.bmm(self.vectors, torch.stack([step_FP, bend_FP], 2)).double().numpy()
        for column, place in enumerate((slot, _MEMORY + slot)):
            self.products[:, :, place] = self.products[:, place, :] = added[:, :, column]

    def descent(self, slope_FP: Tensor) -> Tensor:
        """Return minus the slope times the inverse curvature that past steps have shown, (F, P)."""
        if not self.slots:
            return -slope_FP / slope_FP.norm(dim=1, keepdim=True).clamp(min=1)
        weights_FM, of_slope_F = self._recursion(torch.bmm(self.vectors, slope_FP[:, :, None])[:, :, 0].double().numpy())
        weights, of_slope = torch.from_numpy(weights_FM).to(slope_FP), torch.from_numpy(of_slope_F).to(slope_FP)
        direction_FP = torch.bmm(weights[:, None], self.vectors)[:, 0] + of_slope[:, None] * slope_FP
        uphill_F = (direction_FP * slope_FP).sum(1) >= 0  # rounding near the minimum
        return torch.where(uphill_F[:, None], -slope_FP, direction_FP)

    def _recursion(self, with_slope: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the direction as weights of the remembered vectors and of the slope: the two-loop recursion on inner products.

        A step over which the slope did not bend upwards, as of a problem that is done, is left out.
        """
        count = len(with_slope)
        weights, of_slope = np.zeros((count, 2 * _MEMORY)), -np.ones(count)
        bends = {slot: self.products[:, slot, _MEMORY + slot] for slot in self.slots}
        shares: dict[int, NDArray[np.float64]] = {}
        for slot in reversed(self.slots):
            along = of_slope * with_slope[:, slot] + np.einsum("fk,fk->f", weights, self.products[:, slot])
            shares[slot] = np.where(bends[slot] > _TINY, along / np.maximum(bends[slot], _TINY), 0.0)
            weights[:, _MEMORY + slot] -= shares[slot]
        newest = self.slots[-1]
        curvature = self.products[:, _MEMORY + newest, _MEMORY + newest]
        scale = np.where(bends[newest] > _TINY, bends[newest] / np.maximum(curvature, _TINY), 1.0)
        weights *= scale[:, None]
        of_slope *= scale
        for slot in self.slots:
            across = of_slope * with_slope[:, _MEMORY + slot] + np.einsum("fk,fk->f", weights, self.products[:, _MEMORY + slot])
            back = np.where(bends[slot] > _TINY, across / np.maximum(bends[slot], _TINY), 0.0)
            weights[:, slot] += np.where(bends[slot] > _TINY, shares[slot] - back, 0.0)
        return weights, of_slope
