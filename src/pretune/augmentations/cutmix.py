"""CutMix (Yun et al. 2019): paste a box of another image; targets mix by area."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch

from pretune.augmentations._base import BatchAugmentation
from pretune.augmentations._boxes import box_mask
from pretune.augmentations._mixing import draw_shares, mixed
from pretune.config import Within
from pretune.errors import SettingError

if TYPE_CHECKING:
    from torch import Tensor

    from pretune.labels import Labels
    from pretune.types import Batch


@dataclass(frozen=True, kw_only=True)
class CutMix(BatchAugmentation):
    """Pastes into each image a box of a random other one of the batch."""

    modalities: ClassVar[frozenset[str]] = frozenset({"image"})
    mixes: ClassVar[bool] = True
    moves: ClassVar[bool | None] = False

    alpha: Annotated[float, Within(0, 10)] = 1.0
    """Kept areas are Beta(alpha, alpha): 0 pastes nothing, 1 is uniform."""
    probability: Annotated[float, Within(0, 1)] = 1.0
    """Fraction of the images that get a box."""

    def apply(self, batch: Batch, generator: torch.Generator, classes: int | None) -> Batch:
        """Return the cut images (B, C, H, W) uint8 and targets mixed by the areas really pasted.

        Raises:
            SettingError: the targets are numbers; a part of an image has no part of a number.
        """
        if _are_numbers(batch.labels):
            raise SettingError("cutmix mixes classes by area and cannot mix numbers. For a regression take mixup.")
        x_BCHW = batch.inputs.tensor
        pasted_B1HW = self._boxes(x_BCHW, generator)
        partner_B = torch.randperm(len(x_BCHW), generator=generator)
        cut = torch.where(pasted_B1HW, x_BCHW[partner_B], x_BCHW)
        kept_B = 1 - pasted_B1HW.float().mean((1, 2, 3))
        return replace(batch, inputs=batch.inputs.with_tensor(cut), labels=mixed(batch.labels, partner_B, kept_B, classes))

    def _boxes(self, x_BCHW: Tensor, generator: torch.Generator) -> Tensor:
        """Return (B, 1, H, W) bool: boxes with the image's aspect about random centres, cut off at the border."""
        size, (height, width) = len(x_BCHW), x_BCHW.shape[-2:]
        side_B = (1 - draw_shares(size, self.alpha, self.probability, generator)).sqrt()
        height_B, width_B = (side_B * height).round().long(), (side_B * width).round().long()
        centre_2B = torch.rand(2, size, generator=generator)
        top_B, left_B = (centre_2B[0] * height).long() - height_B // 2, (centre_2B[1] * width).long() - width_B // 2
        return box_mask(top_B, left_B, height_B, width_B, (height, width))


def _are_numbers(labels: Labels | None) -> bool:
    """Return whether an example has one number to predict."""
    tensors = [] if labels is None else [labels.value]
    return any(isinstance(one, torch.Tensor) and one.ndim == 1 and one.is_floating_point() for one in tensors)
