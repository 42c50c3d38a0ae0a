"""Dropout at the price of a memory copy: sixteen random bits a value instead of one call of the generator.

torch draws a Bernoulli variable a value on one thread; on a small transformer that takes a tenth of a training step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function


def keep_mask(shape: torch.Size, dropout: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return 0 where a value is dropped, else 1 / (1 - dropout); the probability is exact to 2^-17."""
    count = shape.numel()
    bits = torch.empty((count + 3) // 4, dtype=torch.int64, device=device).random_(-(2**63), None).view(torch.int16)[:count]
    threshold = round(dropout * 2**16) - 2**15
    return (bits >= threshold).to(dtype).mul_(1 / (1 - dropout)).view(shape)


class _DropAdd(Function):
    """residual + x * mask in one pass; only the mask is kept for the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, residual: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(mask)
        return torch.addcmul(residual, x, mask)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (mask,) = ctx.saved_tensors
        return gradients[0] * mask, gradients[0], None


class DropAdd(nn.Module):
    """Adds a branch to the residual stream after dropping out some of its values."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """Return residual + dropout(x)."""
        if not self.training or self.dropout == 0:
            return residual + x
        if x.dtype != residual.dtype:
            x = x.to(residual.dtype)
        return _DropAdd.apply(x, residual, keep_mask(x.shape, self.dropout, x.dtype, x.device))

    def extra_repr(self) -> str:
        """Return the probability."""
        return f"dropout={self.dropout}"
