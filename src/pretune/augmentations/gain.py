"""Each clip louder or softer by a random number of decibels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch

from pretune.augmentations._base import BatchAugmentation
from pretune.config import Within

if TYPE_CHECKING:
    from pretune.types import Batch


@dataclass(frozen=True, kw_only=True)
class Gain(BatchAugmentation):
    """Multiplies each clip by a factor of its own; log-mel features of one clip hardly notice, waveforms do."""

    modalities: ClassVar[frozenset[str]] = frozenset({"audio"})
    moves: ClassVar[bool | None] = False

    decibels: Annotated[float, Within(0, 60)] = 6.0
    """Largest change, up or down."""

    def apply(self, batch: Batch, generator: torch.Generator, classes: int | None) -> Batch:
        """Return the batch with other loudnesses, raw (B, T)."""
        x_BT = batch.inputs.tensor
        decibels_B1 = (2 * torch.rand(len(x_BT), 1, generator=generator) - 1) * self.decibels
        return replace(batch, inputs=batch.inputs.with_tensor(x_BT * 10 ** (decibels_B1 / 20)))
