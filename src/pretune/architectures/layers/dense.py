"""A head that detects objects at every point of a pyramid of maps: neck, towers, class scores and distances to four sides.

Tian et al., "FCOS: Fully Convolutional One-Stage Object Detection" (2019); a distance is a distribution over whole strides, of
which the mean counts (Li et al., "Generalized Focal Loss", 2020). The neck adds maps downwards and upwards (Liu et al.,
"Path Aggregation Network", 2018) as NanoDet does, whose head has this form.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PRIOR = 0.01
"""Probability of each class at each point that a new head begins with (Lin et al., "Focal Loss", 2017)."""
_NEVER = -20.0
"""Logit of a slot that no class fills."""


@dataclass(frozen=True, kw_only=True)
class DenseShape:
    """The sizes of a dense head."""

    channels: tuple[int, ...]
    """Of the maps it takes, the finest first."""
    strides: tuple[int, ...]
    """Pixels of the input that one place of each map stands for."""
    width: int = 128
    """Channels of neck and towers."""
    depth: int = 1
    """3x3 convolutions of a tower."""
    bins: int = 11
    """Distances, in strides, that a side's distribution is over: 0 to bins - 1."""
    slots: int = 1
    """Scores of each class, of which the largest counts: a class can be any of several that were learned before."""
    norm: bool = True
    """Group normalisation in the towers."""
    shared: bool = True
    """One tower for all maps."""


class DenseOutputs(NamedTuple):
    """What a dense head says at each of A points."""

    logits: Tensor
    """(B, A, C) of each class."""
    sides: Tensor
    """(B, A, 4, bins) logits of the distances to left, top, right and bottom, in strides."""
    points: Tensor
    """(A, 2) x and y in pixels of the input."""
    strides: Tensor
    """(A,) pixels."""

    def boxes(self) -> Tensor:
        """Return (B, A, 4) boxes x1, y1, x2, y2 in pixels of the input."""
        sides_BA4K = self.sides.float()
        bins_K = torch.arange(sides_BA4K.shape[-1], dtype=torch.float32, device=sides_BA4K.device)
        distance_BA4 = (sides_BA4K.softmax(-1) * bins_K).sum(-1) * self.strides[:, None]
        low_BA2, high_BA2 = self.points - distance_BA4[..., :2], self.points + distance_BA4[..., 2:]
        return torch.cat([low_BA2, high_BA2], -1)


class DenseHead(nn.Module):
    """Maps (B, C_l, H_l, W_l) of several strides -> `DenseOutputs`."""

    def __init__(self, shape: DenseShape, classes: int) -> None:
        super().__init__()
        self.shape, self.classes = shape, classes
        self.lateral = nn.ModuleList(nn.Conv2d(channels, shape.width, 1) for channels in shape.channels)
        count = 1 if shape.shared else len(shape.channels)
        self.towers = nn.ModuleList(_tower(shape) for _ in range(count))
        self.outputs = nn.ModuleList(nn.Conv2d(shape.width, classes * shape.slots + 4 * shape.bins, 1) for _ in range(count))
        self._begin()

    def _layers(self) -> list[nn.Conv2d]:
        return [layer for layer in self.outputs if isinstance(layer, nn.Conv2d)]

    @torch.no_grad()
    def _begin(self) -> None:
        for layer in self._layers():
            nn.init.normal_(layer.weight, 0.0, 0.01)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
            scores = layer.bias[: self.classes * self.shape.slots].view(self.classes, self.shape.slots)
            scores.fill_(_NEVER)
            scores[:, 0] = -math.log((1 - PRIOR) / PRIOR)

    def forward(self, maps: Sequence[Tensor]) -> DenseOutputs:
        """Return what is at each point of all maps, the finest first."""
        scores, sides, points, strides = [], [], [], []
        for level, x_BCHW in enumerate(self.neck(maps)):
            at = 0 if self.shape.shared else level
            out_BPO = self.outputs[at](self.towers[at](x_BCHW)).flatten(2).transpose(1, 2)
            count = self.classes * self.shape.slots
            scores.append(out_BPO[..., :count].unflatten(-1, (self.classes, self.shape.slots)).amax(-1))
            sides.append(out_BPO[..., count:].unflatten(-1, (4, self.shape.bins)))
            grid_P2 = grid(x_BCHW.shape[-2:], self.shape.strides[level], x_BCHW.device)
            points.append(grid_P2)
            strides.append(grid_P2.new_full((len(grid_P2),), self.shape.strides[level]))
        return DenseOutputs(torch.cat(scores, 1), torch.cat(sides, 1), torch.cat(points), torch.cat(strides))

    def neck(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return maps of `width` channels: each with what the coarser ones know added to it, then what the finer ones know."""
        out = [layer(x_BCHW) for layer, x_BCHW in zip(self.lateral, maps, strict=True)]
        for level in reversed(range(len(out) - 1)):
            out[level] = out[level] + _sized_as(out[level + 1], out[level])
        for level in range(1, len(out)):
            out[level] = out[level] + _sized_as(out[level - 1], out[level])
        return out

    @torch.no_grad()
    def take(self, other: DenseHead, sources: Sequence[Sequence[int]]) -> None:
        """Begin as another head of the same maps: class c scores as the best of the other's classes sources[c], if it has any.

        Args:
            other: with one slot a class.
            sources: for each class the other's classes that stand for it, at most `slots`; none leaves its scores as they are.
        """
        state = {name: tensor for name, tensor in other.state_dict().items() if not name.startswith("outputs.")}
        self.load_state_dict(state, strict=False)
        slots, known = self.shape.slots, other.classes
        for mine, theirs in zip(self._layers(), other._layers(), strict=True):
            assert mine.bias is not None
            assert theirs.bias is not None
            mine.weight[self.classes * slots :] = theirs.weight[known:]
            mine.bias[self.classes * slots :] = theirs.bias[known:]
            for name, stand_ins in enumerate(sources):
                for slot, source in enumerate(stand_ins[:slots]):
                    mine.weight[name * slots + slot] = theirs.weight[source]
                    mine.bias[name * slots + slot] = theirs.bias[source]


def grid(size: Sequence[int], stride: int, device: torch.device) -> Tensor:
    """Return the centres (H · W, 2), x and y in pixels, of a map's places."""
    ys, xs = (torch.arange(length, device=device, dtype=torch.float32) * stride + (stride - 1) / 2 for length in size)
    return torch.stack([xs.expand(len(ys), -1), ys[:, None].expand(-1, len(xs))], -1).flatten(0, 1)


def _tower(shape: DenseShape) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(shape.depth):
        layers.append(nn.Conv2d(shape.width, shape.width, 3, padding=1, bias=not shape.norm))
        if shape.norm:
            layers.append(nn.GroupNorm(math.gcd(32, shape.width), shape.width))
        layers.append(nn.LeakyReLU(0.1, inplace=True))
    return nn.Sequential(*layers)


def _sized_as(x_BCHW: Tensor, other_BCHW: Tensor) -> Tensor:
    return F.interpolate(x_BCHW, size=other_BCHW.shape[-2:], mode="bilinear", align_corners=False)
