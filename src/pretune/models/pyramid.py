"""Maps of several stages at once, for heads that look for small things in fine maps and for large ones in coarse maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from pretune.architectures.layers.detector import LibraryLayers
from pretune.backbones import Backbone
from pretune.errors import SettingError
from pretune.modalities.image import Image
from pretune.types import Features

MOST, COARSEST, FINEST = 3, 32, 4
"""Maps of a pyramid at most, and the largest and smallest stride of one in pixels."""


@dataclass(frozen=True, kw_only=True)
class Level:
    """One map of a pyramid."""

    stage: str
    """Name of the stage that returns it; empty where a stage keeps several."""
    shape: tuple[int, ...]
    """Of one example: (channels, height, width), or what a detector of another library has in its place."""
    stride: int = 1
    """Pixels of the input for each place."""

    @property
    def channels(self) -> int:
        """Channels of a map."""
        return self.shape[0]

    @property
    def size(self) -> int:
        """Height and width of a map."""
        return self.shape[-1]


class Keeping(nn.Module):
    """A stage whose map is kept for the pyramid."""

    def __init__(self, stage: nn.Module) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, features: Features) -> Features:
        """Run the stage and keep its output too."""
        out = self.stage(features)
        return replace(out, levels=(*features.levels, out.tensor))


class Pyramid(nn.Module):
    """Puts the maps that were kept one after the other, so that they can be stored as one tensor."""

    def forward(self, features: Features) -> Features:
        """Return (B, P) float32, the finest map first."""
        tensor = torch.cat([level.float().flatten(1) for level in features.levels], 1)
        return Features(tensor=tensor, layout="pyramid")


def maps(pyramid_BP: Tensor, levels: Sequence[Level]) -> list[Tensor]:
    """Return the maps (B, C, H, W) of a pyramid."""
    pieces = pyramid_BP.split([math.prod(level.shape) for level in levels], 1)
    return [piece.unflatten(1, level.shape) for piece, level in zip(pieces, levels, strict=True)]


@torch.no_grad()
def levels_of(backbone: Backbone) -> tuple[Level, ...]:
    """Return which stages make the pyramid of a backbone, found by running an empty image.

    Those that its own detector takes; else the last stage at each stride, the coarsest three.

    Raises:
        SettingError: it is no network of images whose maps become coarser.
    """
    image, detector = backbone.modality, backbone.detector
    if not isinstance(image, Image) or (backbone.layout != "map" and not isinstance(detector, LibraryLayers)):
        raise SettingError(f"{backbone.builder.id} returns no maps, which detection needs. Choose a convolutional network.")
    mode = backbone.training
    try:
        backbone.eval()
        return _own(backbone, detector, image.size) if isinstance(detector, LibraryLayers) else _by_stride(backbone, image.size)
    finally:
        backbone.train(mode)


def _own(backbone: Backbone, detector: LibraryLayers, size: int) -> tuple[Level, ...]:
    """Return the maps that a detector of another library takes of its own backbone."""
    features, found = _empty(size), []
    for name, stage in backbone.stages.items():
        features = stage(features)
        if name in detector.stages:
            found.append(Level(stage=name, shape=tuple(features.tensor.shape[1:])))
    return (*found, *(Level(stage="", shape=tuple(one.shape[1:])) for one in features.levels))


def _by_stride(backbone: Backbone, size: int) -> tuple[Level, ...]:
    features = _empty(size)
    found: dict[int, Level] = {}
    for name, stage in backbone.stages.items():
        features = stage(features)
        if features.layout != "map":
            break
        height, width = features.tensor.shape[2:]
        stride = round(size / width)
        if height == width and FINEST <= stride <= COARSEST:
            found[stride] = Level(stage=name, shape=tuple(features.tensor.shape[1:]), stride=stride)
    if not found:
        raise SettingError(
            f"{backbone.builder.id} has no map at strides of {FINEST} to {COARSEST} pixels, which detection needs. Choose another network."
        )
    return tuple(found[stride] for stride in sorted(found)[-MOST:])


def _empty(size: int) -> Features:
    return Features(tensor=torch.zeros(1, 3, size, size), layout="map")
