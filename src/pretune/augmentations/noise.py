"""White noise behind each clip, at a random distance below it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch

from pretune.augmentations._base import BatchAugmentation
from pretune.config import Within
from pretune.errors import SettingError

if TYPE_CHECKING:
    from pretune.types import Batch


@dataclass(frozen=True, kw_only=True)
class Noise(BatchAugmentation):
    """Adds Gaussian noise as long as the sound; the silence after it stays silence."""

    modalities: ClassVar[frozenset[str]] = frozenset({"audio"})
    moves: ClassVar[bool | None] = False

    decibels: tuple[float, ...] = (10.0, 40.0)
    """Minimum and maximum signal-to-noise ratio."""
    probability: Annotated[float, Within(0, 1)] = 0.5
    """Fraction of the clips that get noise."""

    def __post_init__(self) -> None:
        if len(self.decibels) != 2 or self.decibels[0] > self.decibels[1]:
            raise SettingError(f"noise.decibels must be two numbers, the smaller first; got {self.decibels}.")

    def apply(self, batch: Batch, generator: torch.Generator, classes: int | None) -> Batch:
        """Return the noisy batch, raw (B, T)."""
        x_BT, mask_BT = batch.inputs.tensor, batch.inputs.mask
        count = len(x_BT)
        low, high = self.decibels
        decibels_B1 = low + (high - low) * torch.rand(count, 1, generator=generator)
        chosen_B1 = torch.rand(count, 1, generator=generator) < self.probability
        real_BT = torch.ones_like(x_BT) if mask_BT is None else mask_BT.to(x_BT.dtype)
        power_B1 = x_BT.square().sum(1, keepdim=True) / real_BT.sum(1, keepdim=True)
        level_B1 = (power_B1 / 10 ** (decibels_B1 / 10)).sqrt() * chosen_B1
        noise_BT = torch.randn(x_BT.shape, generator=generator) * real_BT
        return replace(batch, inputs=batch.inputs.with_tensor(x_BT + level_B1 * noise_BT))
