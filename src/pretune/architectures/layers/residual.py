"""Residual convolutions for encoders and decoders of codes; no norms, so that the loss's scale is the signal's own."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Residual(nn.Module):
    """A convolution of 3 and one of 1, each after an activation, added to the input; it begins as the identity."""

    def __init__(self, width: int, *, planar: bool) -> None:
        super().__init__()
        convolution = nn.Conv2d if planar else nn.Conv1d
        self.wide = convolution(width, width, 3, padding=1)
        self.narrow = convolution(width, width, 1)
        nn.init.zeros_(self.narrow.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return the same shape, (B, C, T) or (B, C, H, W)."""
        return x + self.narrow(F.gelu(self.wide(F.gelu(x))))
