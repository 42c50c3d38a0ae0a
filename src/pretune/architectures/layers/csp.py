"""The backbone of NanoDet-g: a small cross-stage-partial network of plain convolutions, 3.2 M parameters.

Wang et al., "CSPNet: A New Backbone that can Enhance Learning Capability of CNN" (2020), in the sizes of
github.com/RangiLyu/nanodet (NanoDet-g). The published weights have their batch norms folded in, so there are none here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pretune.architectures._base import MapStage

STAGES = ((32, 1), (64, 2), (128, 2), (256, 3))
"""Channels that enter each stage, and its residual blocks; a stage halves the size, but for the last, and doubles the channels."""


class ConvAct(nn.Sequential):
    """A 3x3 convolution with bias and leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1)
        self.act = nn.LeakyReLU(0.1, inplace=True)


class Block(nn.Module):
    """Half the channels, filtered twice, side by side."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvAct(channels, channels // 2)
        self.second = ConvAct(channels // 2, channels // 2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return (B, channels, H, W)."""
        first_BCHW = self.first(x_BCHW)
        return torch.cat([self.second(first_BCHW), first_BCHW], 1)


class PartialStage(nn.Module):
    """Residual blocks in a row, beside their input."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block(channels) for _ in range(blocks)))
        self.merge = ConvAct(channels, channels)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return (B, 2 · channels, H, W)."""
        return torch.cat([self.merge(self.blocks(x_BCHW)), x_BCHW], 1)


def stages() -> list[tuple[str, MapStage]]:
    """Return the network as stages: the last three return maps at strides of 8, 16 and 32 pixels."""
    stem = MapStage(ConvAct(3, 32, 2), nn.MaxPool2d(3, 2, 1), ConvAct(32, 32))
    out = [("stem", stem)]
    inputs = 32
    for number, (channels, blocks) in enumerate(STAGES, start=1):
        layers: list[nn.Module] = [ConvAct(inputs, channels, 2)] if number > 1 else []
        out.append((f"stage{number}", MapStage(*layers, PartialStage(channels, blocks))))
        inputs = 2 * channels
    return out
