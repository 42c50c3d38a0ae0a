"""Gaussian blur of some images, each by its own width (SimCLR, Chen et al. 2020)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from pretune.augmentations._base import BatchAugmentation
from pretune.config import Within

if TYPE_CHECKING:
    from pretune.types import Batch

_REACH = 2.5
"""Standard deviations after which the kernel ends."""
_LEAST = 0.05
"""Smallest width, as a share of the largest."""


@dataclass(frozen=True, kw_only=True)
class Blur(BatchAugmentation):
    """Takes away fine detail; widths go with the image's size, so small images keep what little they have."""

    modalities: ClassVar[frozenset[str]] = frozenset({"image"})
    moves: ClassVar[bool | None] = False

    probability: Annotated[float, Within(0, 1)] = 0.5
    """Fraction of the images that are changed."""
    width: Annotated[float, Within(0, 0.1, above=True)] = 0.009
    """Maximum standard deviation, as a fraction of the shorter side: 2 of 224 pixels."""

    def apply(self, batch: Batch, generator: torch.Generator, classes: int | None) -> Batch:
        """Return the batch with some of its images (B, C, H, W) uint8 blurred."""
        x_BCHW = batch.inputs.tensor
        draws_2B = torch.rand(2, len(x_BCHW), generator=generator)
        chosen_B = draws_2B[0] < self.probability
        if not chosen_B.any():
            return batch
        most = self.width * min(x_BCHW.shape[2:])
        sigma_b = most * (_LEAST + (1 - _LEAST) * draws_2B[1][chosen_B])
        out = x_BCHW.clone()
        blurred = _blurred(x_BCHW[chosen_B].float(), sigma_b, max(1, math.ceil(_REACH * most)))
        out[chosen_B] = blurred.round_().clamp_(0, 255).to(out.dtype)
        return replace(batch, inputs=batch.inputs.with_tensor(out))


def _blurred(x_BCHW: Tensor, sigma_B: Tensor, radius: int) -> Tensor:
    """Return float images convolved down, then across; edges are continued by their last pixel."""
    distance_K = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel_BK = torch.exp(-0.5 * (distance_K / sigma_B[:, None]).square())
    kernel_BK = kernel_BK / kernel_BK.sum(1, keepdim=True)
    padded = F.pad(x_BCHW, (radius, radius, radius, radius), mode="replicate")
    down = sum(kernel_BK[:, k, None, None, None] * padded[:, :, k : k + x_BCHW.shape[2]] for k in range(2 * radius + 1))
    assert isinstance(down, Tensor)
    across = sum(kernel_BK[:, k, None, None, None] * down[..., k : k + x_BCHW.shape[3]] for k in range(2 * radius + 1))
    assert isinstance(across, Tensor)
    return across
