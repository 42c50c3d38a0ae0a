"""Mosaic (Bochkovskiy et al., "YOLOv4", 2020): four images of a batch in the quarters of one, with all that is in them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from torch.nn import functional as F

from pretune.augmentations._base import BatchAugmentation
from pretune.config import Within
from pretune.errors import SettingError
from pretune.geometry import Geometry, scaling

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from pretune.types import Batch

_QUARTERS = ((0, 0), (0, 1), (1, 0), (1, 1))
"""(row, column)."""


@dataclass(frozen=True, kw_only=True)
class Mosaic(BatchAugmentation):
    """Puts an image and three others of the batch, each at half its size, into one.

    Each image is seen whole, so no object is cut. Labels that locate something come together; there is no one map from a file
    to the result, so the batch has no geometry afterwards.
    """

    modalities: ClassVar[frozenset[str]] = frozenset({"image"})
    moves: ClassVar[bool | None] = True

    probability: Annotated[float, Within(0, 1)] = 0.5
    """Fraction of the images that become a quarter of a mosaic."""

    def apply(self, batch: Batch, generator: torch.Generator, classes: int | None) -> Batch:
        """Return the batch with some of its images (B, C, H, W) uint8 replaced by mosaics.

        Raises:
            SettingError: the labels are of whole images, which a mosaic of several has no one of.
        """
        if batch.labels is not None and not batch.labels.located:
            raise SettingError("mosaic joins images with the objects in them, and these labels are of whole images. Leave mosaic out.")
        x_BCHW = batch.inputs.tensor
        count = len(x_BCHW)
        chosen_B = torch.rand(count, generator=generator) < self.probability
        others_B3 = torch.randint(count, (count, 3), generator=generator)
        members_B4 = torch.cat([torch.arange(count)[:, None], others_B3], 1)
        members_B4 = members_B4.gather(1, torch.rand(count, 4, generator=generator).argsort(1))
        joined = torch.where(chosen_B.view(-1, 1, 1, 1), _mosaics(x_BCHW, members_B4), x_BCHW)
        labels = batch.labels
        if labels is not None:
            size = x_BCHW.shape[-2:]
            pairs = zip(members_B4.tolist(), chosen_B.tolist(), strict=True)
            parts = [_parts(at, members, chosen, size) for at, (members, chosen) in enumerate(pairs)]
            index = torch.tensor([at for one in parts for at, _ in one])
            moved = labels.take(index).moved(Geometry.of([matrix for one in parts for _, matrix in one]))
            labels = moved.grouped(torch.tensor([len(one) for one in parts]))
        return replace(batch, inputs=batch.inputs.with_tensor(joined), labels=labels, geometry=None)


def _mosaics(x_BCHW: Tensor, members_B4: Tensor) -> Tensor:
    """Return the mosaics of four members each."""
    out = torch.empty_like(x_BCHW)
    for quarter, (row, column) in enumerate(_QUARTERS):
        (top, height), (left, width) = (_half(length, at) for length, at in zip(x_BCHW.shape[-2:], (row, column), strict=True))
        small = F.interpolate(x_BCHW.float(), size=(height, width), mode="bilinear", antialias=True, align_corners=False)
        small = small.round_().clamp_(0, 255).to(x_BCHW.dtype)
        out[..., top : top + height, left : left + width] = small[members_B4[:, quarter]]
    return out


def _parts(at: int, members: list[int], chosen: bool, size: tuple[int, ...]) -> list[tuple[int, NDArray[np.float64]]]:
    """Return the examples that one is made of, each with where its coordinates lie in the result: (2, 3)."""
    if not chosen:
        return [(at, scaling((1, 1), (0, 0)))]
    out = []
    for member, (row, column) in zip(members, _QUARTERS, strict=True):
        (top, height), (left, width) = _half(size[0], row), _half(size[1], column)
        out.append((member, scaling((width / size[1], height / size[0]), (left, top))))
    return out


def _half(length: int, second: int) -> tuple[int, int]:
    """Return start and length of the first or second half of a side."""
    return (length // 2, length - length // 2) if second else (0, length // 2)
