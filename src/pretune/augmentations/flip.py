"""Mirror images left to right, or top to bottom."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch

from pretune.config import Within

if TYPE_CHECKING:
    from pretune.types import Batch


@dataclass(frozen=True, kw_only=True)
class Flip:
    """Mirrors each image by its own draws, one for each axis."""

    component: ClassVar[bool] = True
    modalities: ClassVar[frozenset[str]] = frozenset({"image"})
    acts: ClassVar[Literal["view", "batch"]] = "batch"

    horizontal: Annotated[float, Within(0, 1)] = 0.5
    """Fraction of the images mirrored left to right."""
    vertical: Annotated[float, Within(0, 1)] = 0.0
    """Fraction of the images mirrored top to bottom."""

    def apply(self, batch: Batch, generator: torch.Generator, classes: int | None) -> Batch:
        """Return the batch with some of its images (B, C, H, W) mirrored."""
        x_BCHW = batch.inputs.tensor
        draws_2B = torch.rand(2, len(x_BCHW), generator=generator)
        for axis, share, draw_B in ((-1, self.horizontal, draws_2B[0]), (-2, self.vertical, draws_2B[1])):
            chosen_B111 = (draw_B < share)[:, None, None, None]
            if chosen_B111.any():
                x_BCHW = torch.where(chosen_B111, x_BCHW.flip(axis), x_BCHW)
        return replace(batch, inputs=batch.inputs.with_tensor(x_BCHW))
