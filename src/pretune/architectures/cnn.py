"""A small residual network to train from scratch on images of 32 to 224 pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from pretune.architectures._base import Architecture, MapStage, Network
from pretune.config import Within
from pretune.types import Layout

_LARGE = 96
"""Pixels from which the stem reduces four times instead of not at all."""


@dataclass(frozen=True, kw_only=True)
class Cnn(Architecture):
    """Pre-activation residual blocks in stages, each of half the resolution and a larger width."""

    modality: ClassVar[str] = "image"
    width: Annotated[int, Within(8, 1024)] = 32
    """Channels of the first stage; each further one has twice as many."""
    stages: Annotated[int, Within(1, 6)] = 4
    """Stages after the stem."""
    depth: Annotated[int, Within(1, 32)] = 2
    """Residual blocks of each stage."""
    size: Annotated[int, Within(16, 1024)] = 64
    """Side of the images in pixels; from 96 on the stem reduces four times."""
    dropout: Annotated[float, Within(0, 0.9)] = 0.0
    """Share of channels dropped inside each block in training."""

    def preprocessing(self) -> dict[str, Any]:
        """Return image settings for a network that no weights bind to others."""
        return {"size": self.size, "resize": self.size, "interpolation": "bilinear"}

    def build(self) -> CnnNetwork:
        """Return the network with randomly initialised weights."""
        return CnnNetwork(self)


class ResidualBlock(nn.Module):
    """Norm, relu, 3x3 convolution, twice, added to the input (He et al. 2016, "Identity Mappings in Deep Residual Networks").

    The last convolution starts at zero, so that every block begins as the identity and deep stacks learn at once.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.dropout = nn.Dropout2d(dropout)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut = _shortcut(inputs, outputs, stride)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return (B, outputs, H / stride, W / stride)."""
        active_BCHW = torch.relu(self.norm1(x_BCHW))
        y_BCHW = self.conv2(self.dropout(torch.relu(self.norm2(self.conv1(active_BCHW)))))
        return y_BCHW + self.shortcut(x_BCHW)


class CnnNetwork(Network):
    """Stem, stages, and a last norm, as ordered `stages`."""

    layout: Layout = "map"

    def __init__(self, sizes: Cnn) -> None:
        super().__init__()
        widths = [sizes.width * 2**i for i in range(sizes.stages)]
        self.width = widths[-1]
        self.stages = nn.ModuleDict({"stem": _stem(widths[0], large=sizes.size >= _LARGE)})
        for i, (inputs, outputs) in enumerate(zip([widths[0], *widths], widths, strict=False)):
            first = ResidualBlock(inputs, outputs, 1 if i == 0 else 2, sizes.dropout)
            rest = [ResidualBlock(outputs, outputs, 1, sizes.dropout) for _ in range(sizes.depth - 1)]
            self.stages[f"stage{i + 1}"] = MapStage(first, *rest)
        self.stages["final"] = MapStage(nn.BatchNorm2d(self.width), nn.ReLU())


def _stem(width: int, *, large: bool) -> MapStage:
    """Return the first convolution; images of many pixels are reduced four times by two overlapping ones."""
    if not large:
        return MapStage(nn.Conv2d(3, width, 3, 1, 1, bias=False))
    half = nn.Conv2d(3, width // 2, 3, 2, 1, bias=False)
    return MapStage(half, nn.BatchNorm2d(width // 2), nn.ReLU(), nn.Conv2d(width // 2, width, 3, 2, 1, bias=False))


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Return the identity, or mean pooling and a 1x1 convolution where shapes differ (He et al. 2019, "Bag of Tricks")."""
    if inputs == outputs and stride == 1:
        return nn.Identity()
    pool = nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False) if stride > 1 else nn.Identity()
    return nn.Sequential(pool, nn.Conv2d(inputs, outputs, 1, bias=False))
