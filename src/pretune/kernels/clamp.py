"""A clamp whose backward pass reads its output: where that is at a bound, no gradient flows; the input is not kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pretune.kernels._shortcut import Shortcut


def clamp(x: Tensor, low: float, high: float, *, inplace: bool = False) -> Tensor:
    """Return x limited to low … high, of the same shape; it keeps its output for the gradient, and nothing else.

    Args:
        x: any shape.
        low: smallest value.
        high: largest value.
        inplace: write the result into `x`.
    """
    return cast("Tensor", _Clamp.apply(x, low, high, inplace))


class _Clamp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float, inplace: bool) -> Tensor:
        if inplace:
            ctx.mark_dirty(x)
        y = x.clamp_(low, high) if inplace else x.clamp(low, high)
        ctx.save_for_backward(y)
        ctx.bounds = (low, high)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (y,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(gradient, y, *ctx.bounds), None, None, None


def _trial(dtype: torch.dtype) -> Iterator[tuple[Tensor, Tensor]]:
    x = torch.linspace(-3, 9, 25).to(dtype)
    for inplace in (False, True):
        short, reference = x.clone().requires_grad_(), x.float().requires_grad_()
        out, expected = clamp(short * 1, 0.0, 6.0, inplace=inplace), torch.nn.functional.hardtanh(reference * 1, 0.0, 6.0)
        yield out, expected
        yield torch.autograd.grad(out.square().sum(), short)[0], torch.autograd.grad(expected.square().sum(), reference)[0]


output_clamp = Shortcut(name="clamp that keeps its output", trial=_trial)
