"""Convolutions over a sequence, the first of which may join neighbouring positions, before the outputs: what recognises speech by CTC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch.nn.functional as F
from torch import Tensor, nn

from pretune.config import Within
from pretune.errors import SettingError
from pretune.models.heads._base import Head, HeadModule
from pretune.types import Features


@dataclass(frozen=True, kw_only=True)
class Convolution(Head):
    """A convolutional head for tasks that predict a sequence."""

    hidden: Annotated[int, Within(1)] = 256
    """Channels of each convolution."""
    layers: Annotated[int, Within(1, 8)] = 1
    """Convolutions."""
    width: Annotated[int, Within(1, 65)] = 5
    """Positions that an output of one convolution is made of; odd."""
    stride: Annotated[int, Within(1, 8)] = 2
    """Positions that become one output: of 50 positions a second, 2 makes 25."""
    dropout: Annotated[float, Within(0, 0.95)] = 0.1
    """Fraction of the inputs of each layer dropped in training."""

    def __post_init__(self) -> None:
        if self.width % 2 == 0:
            raise SettingError(f"head.width must be odd, so that outputs stand where their inputs do. Got {self.width}.")

    def build(self, width: int, outputs: int) -> ConvolutionModule:
        """Return the head; its last layer starts at zero."""
        return ConvolutionModule(self, width, outputs)


class ConvolutionModule(HeadModule):
    """Sequence (B, T, D) -> outputs (B, ceil(T / stride), C)."""

    def __init__(self, sizes: Convolution, width: int, outputs: int) -> None:
        last = nn.Linear(sizes.hidden, outputs)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        super().__init__(width, last)
        self.stride = sizes.stride
        self.dropout = sizes.dropout
        self.convolutions = nn.ModuleList(
            nn.Conv1d(sizes.hidden if i else width, sizes.hidden, sizes.width, 1 if i else sizes.stride, sizes.width // 2)
            for i in range(sizes.layers)
        )

    def real(self, mask_BT: Tensor) -> Tensor:
        """Return which outputs stand at a real position."""
        return mask_BT[:, :: self.stride]

    def forward(self, features: Features) -> Tensor:
        """Return outputs in float32; what is padding is zero for its neighbours."""
        x_BTD = (features.tensor.float() - self.mean) * self.scale
        if features.mask is not None and not features.attends_padding:
            x_BTD = x_BTD.masked_fill(~features.mask[..., None], 0.0)
        x_BDT = x_BTD.transpose(1, 2)
        for convolution in self.convolutions:
            x_BDT = F.gelu(convolution(F.dropout(x_BDT, self.dropout, self.training)))
        return self.layers(F.dropout(x_BDT, self.dropout, self.training).transpose(1, 2))
