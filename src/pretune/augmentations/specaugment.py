"""Stretches of time and bands of frequency taken out of each clip (SpecAugment, Park et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from torch import Tensor

from pretune.augmentations._base import BatchAugmentation
from pretune.config import Within

if TYPE_CHECKING:
    from pretune.types import Batch

_LOW = 100.0
"""Bands are sampled evenly in log(1 + frequency / this share of the spectrum), much as on a mel scale."""


@dataclass(frozen=True, kw_only=True)
class SpecAugment(BatchAugmentation):
    """Silences the sound itself instead of its spectrogram, so that it acts before every front end, waveforms included."""

    modalities: ClassVar[frozenset[str]] = frozenset({"audio"})
    moves: ClassVar[bool | None] = False

    times: Annotated[int, Within(0, 20)] = 2
    """Time masks per clip."""
    time: Annotated[float, Within(0, 1)] = 0.1
    """Maximum width of a time mask, as a fraction of the clip."""
    bands: Annotated[int, Within(0, 20)] = 2
    """Frequency masks per clip."""
    band: Annotated[float, Within(0, 1)] = 0.15
    """Maximum width of a frequency mask, as a fraction of the spectrum on a mel-like scale."""

    def apply(self, batch: Batch, generator: torch.Generator, classes: int | None) -> Batch:
        """Return the batch, raw (B, T), with parts of each clip silenced."""
        x_BT, mask_BT = batch.inputs.tensor, batch.inputs.mask
        length_B = torch.full((len(x_BT),), float(x_BT.shape[1])) if mask_BT is None else mask_BT.sum(1).float()
        for _ in range(self.bands):
            x_BT = self._without_band(x_BT, generator)
        for _ in range(self.times):
            begin_B1, end_B1 = _stretch(len(x_BT), self.time, generator)
            place_T = torch.arange(x_BT.shape[1])
            x_BT = x_BT.masked_fill((place_T >= begin_B1 * length_B[:, None]) & (place_T < end_B1 * length_B[:, None]), 0.0)
        if mask_BT is not None:
            x_BT = x_BT * mask_BT  # a filter rings on
        return replace(batch, inputs=batch.inputs.with_tensor(x_BT))

    def _without_band(self, x_BT: Tensor, generator: torch.Generator) -> Tensor:
        spectrum_BK = torch.fft.rfft(x_BT)
        scale_K = torch.log1p(torch.linspace(0, 1, spectrum_BK.shape[1]) * _LOW) / torch.log1p(torch.tensor(_LOW))
        begin_B1, end_B1 = _stretch(len(x_BT), self.band, generator)
        return torch.fft.irfft(spectrum_BK.masked_fill((scale_K >= begin_B1) & (scale_K < end_B1), 0), n=x_BT.shape[1])


def _stretch(count: int, most: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return begin and end, (B, 1), of random stretches of 0..1 that are at most `most` long."""
    length_B1 = torch.rand(count, 1, generator=generator) * most
    begin_B1 = torch.rand(count, 1, generator=generator) * (1 - length_B1)
    return begin_B1, begin_B1 + length_B1
