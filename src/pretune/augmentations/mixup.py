"""Mixup (Zhang et al. 2018): train on weighted means of two images and of their targets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch

from pretune.augmentations._mixing import draw_shares, mix_targets
from pretune.config import Within

if TYPE_CHECKING:
    from pretune.types import Batch


@dataclass(frozen=True, kw_only=True)
class Mixup:
    """Mixes each image with a random other one of the batch, by a share of its own."""

    component: ClassVar[bool] = True
    modalities: ClassVar[frozenset[str]] = frozenset({"image"})
    acts: ClassVar[Literal["view", "batch"]] = "batch"

    alpha: Annotated[float, Within(0, 10)] = 0.2
    """Shares are Beta(alpha, alpha): 0 mixes nothing, 1 is uniform."""
    probability: Annotated[float, Within(0, 1)] = 1.0
    """Share of images that are mixed."""

    def apply(self, batch: Batch, generator: torch.Generator, classes: int | None) -> Batch:
        """Return mixed images (B, C, H, W), rounded to uint8, and targets mixed by the same shares."""
        x_BCHW = batch.inputs.tensor
        share_B = draw_shares(len(x_BCHW), self.alpha, self.probability, generator)
        partner_B = torch.randperm(len(x_BCHW), generator=generator)
        mixed = torch.lerp(x_BCHW[partner_B].float(), x_BCHW.float(), share_B[:, None, None, None]).round_().to(x_BCHW.dtype)
        targets = mix_targets(batch.targets, partner_B, share_B, classes)
        return replace(batch, inputs=batch.inputs.with_tensor(mixed), targets=targets)
