"""Each sound louder or softer by a random number of decibels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch

from pretune.config import Within

if TYPE_CHECKING:
    from pretune.types import Batch


@dataclass(frozen=True, kw_only=True)
class Gain:
    """Multiplies each sound by a factor of its own; log-mel features of one clip hardly notice, waveforms do."""

    component: ClassVar[bool] = True
    modalities: ClassVar[frozenset[str]] = frozenset({"audio"})
    acts: ClassVar[Literal["view", "batch"]] = "batch"
    moves: ClassVar[bool | None] = False

    decibels: Annotated[float, Within(0, 60)] = 6.0
    """Largest change, up or down."""

    def apply(self, batch: Batch, generator: torch.Generator, classes: int | None) -> Batch:
        """Return the batch with other loudnesses, raw (B, T)."""
        x_BT = batch.inputs.tensor
        decibels_B1 = (2 * torch.rand(len(x_BT), 1, generator=generator) - 1) * self.decibels
        return replace(batch, inputs=batch.inputs.with_tensor(x_BT * 10 ** (decibels_B1 / 20)))
