"""Shrink images and put them somewhere in their own frame (Liu et al., "SSD: Single Shot MultiBox Detector", 2016)."""

from __future__ import annotations

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
class ZoomOut(BatchAugmentation):
    """Makes what images show smaller; around it lies their mean colour."""

    modalities: ClassVar[frozenset[str]] = frozenset({"image"})
    moves: ClassVar[bool | None] = True

    most: Annotated[float, Within(1, 4)] = 2.0
    """Largest factor by which sides become smaller."""
    probability: Annotated[float, Within(0, 1)] = 0.5
    """Fraction of the images that are shrunk."""

    def apply(self, batch: Batch, generator: torch.Generator, classes: int | None) -> Batch:
        """Return the batch with some of its images (B, C, H, W) uint8 shrunk, each by its own factor."""
        x_BCHW = batch.inputs.tensor
        count, (height, width) = len(x_BCHW), x_BCHW.shape[-2:]
        chosen_B = torch.rand(count, generator=generator) < self.probability
        factor_B = 1 + torch.rand(count, generator=generator) * (self.most - 1)
        scale_B = torch.where(chosen_B, 1 / factor_B, 1.0)
        share_B2 = torch.rand(count, 2, generator=generator) * (1 - scale_B[:, None])  # where the image begins, in shares of the frame
        mean_BC11 = x_BCHW.float().mean((2, 3), keepdim=True)
        grid_BHW2 = F.affine_grid(_back(scale_B, share_B2), list(x_BCHW.shape), align_corners=False)
        shrunk = F.grid_sample(x_BCHW.float() - mean_BC11, grid_BHW2, align_corners=False) + mean_BC11
        shrunk = torch.where(chosen_B.view(-1, 1, 1, 1), shrunk.round_().clamp_(0, 255).to(x_BCHW.dtype), x_BCHW)
        linear_B22 = scale_B.double().view(-1, 1, 1) * torch.eye(2, dtype=torch.float64)
        offset_B2 = share_B2.double() * torch.tensor([width, height], dtype=torch.float64)
        return batch.moved(batch.inputs.with_tensor(shrunk), Geometry(torch.cat([linear_B22, offset_B2[..., None]], -1)))


def _back(scale_B: torch.Tensor, share_B2: torch.Tensor) -> torch.Tensor:
    """Return (B, 2, 3) maps from output to input coordinates, both in [-1, 1]."""
    offset_B2 = -(2 * share_B2 + scale_B[:, None] - 1) / scale_B[:, None]
    linear_B22 = torch.eye(2) / scale_B.view(-1, 1, 1)
    return torch.cat([linear_B22, offset_B2[..., None]], -1)
