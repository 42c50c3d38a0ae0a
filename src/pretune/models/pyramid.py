"""Maps of several stages at once, for heads that look for small things in fine maps and for large ones in coarse maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

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
    """Name of the stage that returns it."""
    channels: int
    size: int
    """Height and width."""
    stride: int
    """Pixels of the input for each place."""


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
    pieces = pyramid_BP.split([level.channels * level.size**2 for level in levels], 1)
    return [piece.unflatten(1, (level.channels, level.size, level.size)) for piece, level in zip(pieces, levels, strict=True)]


@torch.no_grad()
def levels_of(backbone: Backbone) -> tuple[Level, ...]:
    """Return which stages make the pyramid of a backbone: the last at each stride, the coarsest three; found by running an empty image.

    Raises:
        SettingError: it is no network of images whose maps become coarser.
    """
    image = backbone.modality
    if not isinstance(image, Image) or backbone.layout != "map":
        raise SettingError(f"{backbone.builder.id} returns no maps, which detection needs. Choose a convolutional network.")
    mode = backbone.training
    features = Features(tensor=torch.zeros(1, 3, image.size, image.size), layout="map")
    found: dict[int, Level] = {}
    try:
        backbone.eval()
        for name, stage in backbone.stages.items():
            features = stage(features)
            if features.layout != "map":
                break
            channels, height, width = features.tensor.shape[1:]
            stride = round(image.size / width)
            if height == width and FINEST <= stride <= COARSEST:
                found[stride] = Level(stage=name, channels=channels, size=width, stride=stride)
    finally:
        backbone.train(mode)
    if not found:
        raise SettingError(
            f"{backbone.builder.id} has no map at strides of {FINEST} to {COARSEST} pixels, which detection needs. Choose another network."
        )
    return tuple(found[stride] for stride in sorted(found)[-MOST:])
