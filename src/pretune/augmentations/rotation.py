"""Turn images by a small random angle; corners are filled by reflection."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from torch.nn import functional as F

from pretune.augmentations._base import BatchAugmentation
from pretune.config import Within
from pretune.geometry import Geometry

if TYPE_CHECKING:
    from pretune.types import Batch


@dataclass(frozen=True, kw_only=True)
class Rotation(BatchAugmentation):
    """Turns each image about its centre, by one bilinear sampling of the whole batch."""

    modalities: ClassVar[frozenset[str]] = frozenset({"image"})
    moves: ClassVar[bool | None] = True

    degrees: Annotated[float, Within(0, 180)] = 15.0
    """Largest angle, either way."""

    def apply(self, batch: Batch, generator: torch.Generator, classes: int | None) -> Batch:
        """Return the batch with its images (B, C, H, W) uint8 turned, each by its own angle."""
        x_BCHW = batch.inputs.tensor
        angle_B = (torch.rand(len(x_BCHW), generator=generator) * 2 - 1) * math.radians(self.degrees)
        grid_BHW2 = F.affine_grid(_turns(angle_B, *x_BCHW.shape[-2:]), list(x_BCHW.shape), align_corners=False)
        turned = F.grid_sample(x_BCHW.float(), grid_BHW2, padding_mode="reflection", align_corners=False)
        cos_B, sin_B = angle_B.cos(), angle_B.sin()
        turn_B22 = torch.stack([torch.stack([cos_B, sin_B], 1), torch.stack([-sin_B, cos_B], 1)], 1)
        turn = Geometry.about(turn_B22, (x_BCHW.shape[-1] / 2, x_BCHW.shape[-2] / 2))
        return batch.moved(batch.inputs.with_tensor(turned.round_().clamp_(0, 255).to(x_BCHW.dtype)), turn)


def _turns(angle_B: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return (B, 2, 3) maps from output to input coordinates, both in [-1, 1] whatever the aspect."""
    cos_B, sin_B, zero_B = angle_B.cos(), angle_B.sin(), torch.zeros_like(angle_B)
    x_B3 = torch.stack([cos_B, -sin_B * (height / width), zero_B], 1)
    y_B3 = torch.stack([sin_B * (width / height), cos_B, zero_B], 1)
    return torch.stack([x_B3, y_B3], 1)
