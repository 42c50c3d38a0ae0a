"""Each clip played a little faster or slower, pitch included (Ko et al. 2015, "Audio Augmentation for Speech Recognition")."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch

from pretune.augmentations._base import BatchAugmentation
from pretune.config import Within
from pretune.geometry import Geometry

if TYPE_CHECKING:
    from pretune.types import Batch


@dataclass(frozen=True, kw_only=True)
class Speed(BatchAugmentation):
    """Resamples each clip by a factor of its own: another voice says the same. Not where pitch or tempo is the label."""

    modalities: ClassVar[frozenset[str]] = frozenset({"audio"})
    moves: ClassVar[bool | None] = True

    most: Annotated[float, Within(1, 2)] = 1.2
    """Maximum factor; the minimum is 1 / most, and the logarithm of the factor is uniform."""

    def apply(self, batch: Batch, generator: torch.Generator, classes: int | None) -> Batch:
        """Return the batch, raw (B, T), at other speeds.

        What no longer fits into the window is cut off its end; where labels are of all that a clip holds, such as transcripts, clips are
        slowed down only as far as they fit.
        """
        import soxr

        x_BT, mask_BT = batch.inputs.tensor, batch.inputs.mask
        lengths = [x_BT.shape[1]] * len(x_BT) if mask_BT is None else mask_BT.sum(1).tolist()
        factors_B = ((2 * torch.rand(len(x_BT), generator=generator) - 1) * math.log(self.most)).exp()
        if batch.labels is not None and batch.labels.several:
            factors_B = torch.maximum(factors_B, torch.tensor(lengths) / x_BT.shape[1])
        y_BT, played = torch.zeros_like(x_BT), []
        for row, wave_T, length, factor in zip(y_BT, x_BT, lengths, factors_B.tolist(), strict=True):
            resampled = torch.from_numpy(soxr.resample(wave_T[:length].numpy(), factor, 1.0, quality="LQ"))[: len(row)]
            row[: len(resampled)] = resampled
            played.append(len(resampled))
        ends_B1 = torch.tensor(played)[:, None]
        whole = mask_BT is None and bool((ends_B1 == x_BT.shape[1]).all())
        mask = None if whole else torch.arange(x_BT.shape[1]) < ends_B1
        stretch = Geometry.about(1 / factors_B[:, None, None], (0,))
        return batch.moved(replace(batch.inputs, tensor=y_BT, mask=mask), stretch)
