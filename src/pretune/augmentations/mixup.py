"""Mixup (Zhang et al. 2018): train on weighted means of two examples and of their targets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch

from pretune.augmentations._base import BatchAugmentation
from pretune.augmentations._mixing import draw_shares, mixed
from pretune.config import Within

if TYPE_CHECKING:
    from pretune.types import Batch


@dataclass(frozen=True, kw_only=True)
class Mixup(BatchAugmentation):
    """Mixes each image or sound with a random other one of the batch, by a share of its own."""

    modalities: ClassVar[frozenset[str]] = frozenset({"image", "audio"})
    mixes: ClassVar[bool] = True
    moves: ClassVar[bool | None] = False

    alpha: Annotated[float, Within(0, 10)] = 0.2
    """Shares are Beta(alpha, alpha): 0 mixes nothing, 1 is uniform."""
    probability: Annotated[float, Within(0, 1)] = 1.0
    """Fraction of the examples that are mixed."""

    def apply(self, batch: Batch, generator: torch.Generator, classes: int | None) -> Batch:
        """Return mixed images (B, C, H, W), rounded to uint8, or clips (B, T), and targets mixed by the same shares."""
        x = batch.inputs.tensor
        share_B = draw_shares(len(x), self.alpha, self.probability, generator)
        partner_B = torch.randperm(len(x), generator=generator)
        blend = torch.lerp(x[partner_B].float(), x.float(), share_B.view(-1, *[1] * (x.ndim - 1)))
        blend = blend if x.is_floating_point() else blend.round_().to(x.dtype)
        mask = batch.inputs.mask
        if mask is not None:  # as long as the longer of the two
            mask = mask | (mask[partner_B] & (share_B < 1)[:, None])
        labels = mixed(batch.labels, partner_B, share_B, classes)
        return replace(batch, inputs=replace(batch.inputs, tensor=blend, mask=mask), labels=labels)
