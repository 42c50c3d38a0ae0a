"""Mirror images left to right, or top to bottom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch

from pretune.augmentations._base import BatchAugmentation
from pretune.config import Within
from pretune.geometry import Geometry

if TYPE_CHECKING:
    from pretune.types import Batch


@dataclass(frozen=True, kw_only=True)
class Flip(BatchAugmentation):
    """Mirrors each image by its own draws, one for each axis."""

    modalities: ClassVar[frozenset[str]] = frozenset({"image"})
    moves: ClassVar[bool | None] = True

    horizontal: Annotated[float, Within(0, 1)] = 0.5
    """Fraction of the images mirrored left to right."""
    vertical: Annotated[float, Within(0, 1)] = 0.0
    """Fraction of the images mirrored top to bottom."""

    def apply(self, batch: Batch, generator: torch.Generator, classes: int | None) -> Batch:
        """Return the batch with some of its images (B, C, H, W) mirrored."""
        draws_2B = torch.rand(2, batch.size, generator=generator)
        for axis, share, draw_B in ((0, self.horizontal, draws_2B[0]), (1, self.vertical, draws_2B[1])):  # x, y
            chosen_B = draw_B < share
            if chosen_B.any():
                x_BCHW = batch.inputs.tensor
                flipped = torch.where(chosen_B[:, None, None, None], x_BCHW.flip(-1 - axis), x_BCHW)
                mirror = Geometry.mirror(chosen_B, axis, x_BCHW.shape[-1 - axis], axes=2)
                batch = batch.moved(batch.inputs.with_tensor(flipped), mirror)
        return batch
