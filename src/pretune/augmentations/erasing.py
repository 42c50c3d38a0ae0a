"""Random erasing (Zhong et al. 2020): a box of noise over a part of the image."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch

from pretune.augmentations._base import BatchAugmentation
from pretune.augmentations._boxes import box_mask
from pretune.config import Within
from pretune.errors import SettingError

if TYPE_CHECKING:
    from torch import Tensor

    from pretune.types import Batch

_ASPECT = 0.3
"""Boxes are between 0.3 and 1 / 0.3 times as wide as high, as in the paper."""


@dataclass(frozen=True, kw_only=True)
class Erasing(BatchAugmentation):
    """Covers a random box of some images with random pixels."""

    modalities: ClassVar[frozenset[str]] = frozenset({"image"})
    moves: ClassVar[bool | None] = False

    probability: Annotated[float, Within(0, 1)] = 0.25
    """Fraction of the images that are erased."""
    area: tuple[float, ...] = (0.02, 0.33)
    """Minimum and maximum fraction of the image's area."""

    def __post_init__(self) -> None:
        if len(self.area) != 2 or not 0 <= self.area[0] <= self.area[1] <= 1:
            raise SettingError(f"erasing.area must be two numbers in [0, 1], the smaller first; got {self.area}.")

    def apply(self, batch: Batch, generator: torch.Generator, classes: int | None) -> Batch:
        """Return the batch with boxes of noise over some of its images (B, C, H, W) uint8."""
        x_BCHW = batch.inputs.tensor
        erased_B1HW = self._boxes(x_BCHW, generator)
        # One image of noise serves the batch: the boxes differ, and drawing it for each image would cost more than all the rest.
        noise = torch.randint(256, x_BCHW.shape[1:], generator=generator, dtype=torch.uint8)
        return replace(batch, inputs=batch.inputs.with_tensor(torch.where(erased_B1HW, noise, x_BCHW)))

    def _boxes(self, x_BCHW: Tensor, generator: torch.Generator) -> Tensor:
        """Return (B, 1, H, W) bool, False everywhere for the images that are ignored."""
        size, (height, width) = len(x_BCHW), x_BCHW.shape[-2:]
        draws_5B = torch.rand(5, size, generator=generator)
        area_B = (self.area[0] + draws_5B[1] * (self.area[1] - self.area[0])) * height * width * (draws_5B[0] < self.probability)
        aspect_B = (math.log(_ASPECT) * (1 - 2 * draws_5B[2])).exp()
        height_B = (area_B / aspect_B).sqrt().round().long().clamp(max=height)
        width_B = (area_B * aspect_B).sqrt().round().long().clamp(max=width)
        top_B, left_B = (draws_5B[3] * (height - height_B + 1)).long(), (draws_5B[4] * (width - width_B + 1)).long()
        return box_mask(top_B, left_B, height_B, width_B, (height, width))
