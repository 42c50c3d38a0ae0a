"""Some images in grey, so that colour alone does not tell what belongs together (SimCLR, Chen et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch

from pretune.augmentations._base import BatchAugmentation
from pretune.config import Within

if TYPE_CHECKING:
    from pretune.types import Batch

_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True, kw_only=True)
class Grey(BatchAugmentation):
    """Gives all three channels of some images their luma."""

    modalities: ClassVar[frozenset[str]] = frozenset({"image"})
    moves: ClassVar[bool | None] = False

    probability: Annotated[float, Within(0, 1)] = 0.2
    """Fraction of the images that are changed."""

    def apply(self, batch: Batch, generator: torch.Generator, classes: int | None) -> Batch:
        """Return the batch with some of its images (B, 3, H, W) uint8 grey."""
        x_BCHW = batch.inputs.tensor
        chosen_B = torch.rand(len(x_BCHW), generator=generator) < self.probability
        if not chosen_B.any():
            return batch
        out = x_BCHW.clone()
        luma_bHW = torch.einsum("bchw,c->bhw", x_BCHW[chosen_B].float(), torch.tensor(_LUMA))
        out[chosen_B] = luma_bHW.round_().clamp_(0, 255).to(out.dtype)[:, None].expand(-1, 3, -1, -1)
        return replace(batch, inputs=batch.inputs.with_tensor(out))
