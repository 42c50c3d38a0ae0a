"""Muon: momentum whose steps are orthogonal matrices, for what lies between hidden layers; AdamW for all else.

K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; scaled to AdamW's root mean square
as in J. Liu et al., "Muon is Scalable for LLM Training", 2025, so that one learning rate serves both. torch.optim.Muon
takes the matrices one by one; here those of one shape go through the iteration together, which small networks need.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pretune.kernels import processor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_STEPS = 5
_RMS = 0.2
"""Root mean square of AdamW's steps, by which an orthogonal one is scaled."""


class Muon(torch.optim.Optimizer):
    """Groups with `hidden` set take orthogonal steps; the others are AdamW's."""

    def __init__(
        self,
        groups: list[dict[str, Any]],
        *,
        lr: float,
        momentum: float,
        betas: tuple[float, float],
        rest: Callable[..., torch.optim.Optimizer],
    ) -> None:
        """Make the optimizer.

        Args:
            groups: tables of parameters, each with `hidden`, `lr` and `weight_decay`.
            lr: default learning rate.
            momentum: decay of the matrices' momentum.
            betas: AdamW's.
            rest: makes the AdamW of the other groups.
        """
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": 0.0})
        others = [group for group in self.param_groups if not group["hidden"]]
        self.rest = rest([dict(group) for group in others], lr=lr, betas=betas, fused=True) if others else None
        if self.rest is not None:
            for mine, its in zip(others, self.rest.param_groups, strict=True):
                mine.update({key: value for key, value in its.items() if key not in mine})
                mine["betas"] = betas
            self.rest.param_groups = others
            self.rest.state = self.state

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take one step; a closure, if given, computes the loss anew and is what this returns."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            if group["hidden"]:
                self._step_hidden(group)
        if self.rest is not None:
            self.rest.state = self.state
            self.rest.step()
        return loss

    def _step_hidden(self, group: dict[str, Any]) -> None:
        params = [p for p in group["params"] if p.grad is not None]
        if not params:
            return
        momenta = [self._momentum(p) for p in params]
        grads = [p.grad for p in params]
        torch._foreach_lerp_(momenta, grads, 1 - group["momentum"])
        updates = torch._foreach_lerp(grads, momenta, group["momentum"])  # Nesterov's
        if group["weight_decay"]:
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        shapes: dict[tuple[int, int], list[int]] = defaultdict(list)
        for position, p in enumerate(params):
            rows, columns = wide(p).shape
            shapes[rows, columns].append(position)
        for (rows, columns), positions in shapes.items():
            stacked = params[positions[0]].new_empty((len(positions), rows, columns), dtype=iterated_in(params[positions[0]].device))
            torch._foreach_copy_(stacked.unbind(), [wide(updates[i]) for i in positions])
            rate = group["lr"] * _RMS * columns**0.5
            for i, step in zip(positions, orthogonal(stacked), strict=True):
                matrix = params[i].flatten(1)
                matrix.add_(step if matrix.shape == step.shape else step.t(), alpha=-rate)

    def _momentum(self, p: Tensor) -> Tensor:
        state = self.state[p]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(p)
        return state["momentum_buffer"]


def wide(matrix: Tensor) -> Tensor:
    """Return a matrix, or a kernel as one, with no more rows than columns, so that more of them share a shape."""
    matrix = matrix.flatten(1)
    return matrix.t() if matrix.shape[0] > matrix.shape[1] else matrix


def iterated_in(device: torch.device) -> torch.dtype:
    """Return the dtype of the iterations: bfloat16 is exact enough, and quicker where the processor has it."""
    return torch.bfloat16 if processor.has_native_bfloat16(device) else torch.float32


def orthogonal(matrices_NRC: Tensor) -> Tensor:
    """Return the nearest matrices with singular values near 1, by five Newton-Schulz iterations; R <= C."""
    a, b, c = _COEFFICIENTS
    x = matrices_NRC.to(iterated_in(matrices_NRC.device))
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_STEPS):
        gram = x @ x.transpose(1, 2)
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x
