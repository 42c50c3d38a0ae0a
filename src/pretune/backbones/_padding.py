"""Where an image lies in a padded input, for detectors that were trained with a mask of what is real."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from pretune.backbones._maps import KeptMaps
from pretune.types import Features


class KeptMapsWithContent(KeptMaps):
    """Keeps all maps of a network, and after them where the image lies in the input: (B, 4) x1, y1, x2, y2 in pixels."""

    steps: Tensor

    def __init__(self, network: nn.Module, maps: Callable[[Any], Sequence[Tensor]], std: Sequence[float]) -> None:
        super().__init__(network, maps)
        self.register_buffer("steps", 1 / (255 * torch.tensor(std)), persistent=False)

    def forward(self, features: Features) -> Features:
        """Return the last map, with all of them and the rectangle as levels."""
        kept = super().forward(features)
        return replace(kept, levels=(*kept.levels, content(features.tensor, self.steps)))


def content(x_BCHW: Tensor, steps_C: Tensor) -> Tensor:
    """Return the rectangle around what is not padding, (B, 4) float32 x1, y1, x2, y2 in pixels; all of an input that is nothing else.

    Args:
        x_BCHW: normalised images, whose padding is the mean colour rounded to 8 bits.
        steps_C: what one step of 8 bits is in each normalised channel.
    """
    real_BHW = (x_BCHW.abs() > 0.51 * steps_C[:, None, None]).any(1)
    edges = []
    for axis in (2, 1):  # what columns hold, then rows
        real_BL = real_BHW.any(3 - axis)
        length = real_BL.shape[1]
        first_B, last_B = real_BL.float().argmax(1), length - real_BL.flip(1).float().argmax(1)
        edges.append((first_B, last_B))
    (left_B, right_B), (top_B, bottom_B) = edges
    return torch.stack([left_B, top_B, right_B, bottom_B], 1).float()


def at_origin(maps: Sequence[Tensor], content_B4: Tensor, size: int) -> tuple[list[Tensor], Tensor]:
    """Return maps (B, C, H, W) with each image at the top left corner, where such detectors expect it, and the rectangles that moved there.

    They begin at a whole place of the coarsest map.

    Args:
        maps: of the padded inputs.
        content_B4: where images lie in them, in pixels.
        size: height and width of the input in pixels.
    """
    places = min(one.shape[-1] for one in maps)
    stride = -(-size // places)
    origin_B2 = (content_B4[:, :2] / stride).floor().long()
    moved = []
    for x_BCHW in maps:
        steps_B2 = origin_B2 * round(x_BCHW.shape[-1] / places)
        moved.append(
            torch.stack([one.roll((-down, -across), (1, 2)) for one, (across, down) in zip(x_BCHW, steps_B2.tolist(), strict=True)])
        )
    return moved, torch.cat([(origin_B2 * stride).to(content_B4), content_B4[:, 2:]], 1)


def mask(content_B4: Tensor, size: int) -> Tensor:
    """Return (B, size, size) int64, 1 where a rectangle's width and height reach from the top left corner."""
    places_S = torch.arange(size, device=content_B4.device)
    across_B, down_B = (content_B4[:, 2:] - content_B4[:, :2]).unbind(1)
    return ((places_S < down_B[:, None])[:, :, None] & (places_S < across_B[:, None])[:, None]).long()
