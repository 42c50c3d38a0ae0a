"""RandAugment (Cubuk et al. 2020): a few operations drawn per image, all at one magnitude."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from torch import Tensor

from pretune.config import Within

if TYPE_CHECKING:
    from pretune.types import Batch

Pair = tuple[float, float]
Operation = Callable[[Tensor, float, int], Tensor]
"""(images (G, 3, H, W) uint8, magnitude 0..1, sign ±1) -> images."""


@dataclass(frozen=True, kw_only=True)
class RandAugment:
    """Applies `operations` random ones of 14 to each image; images that drew alike are changed together."""

    component: ClassVar[bool] = True
    modalities: ClassVar[frozenset[str]] = frozenset({"image"})
    acts: ClassVar[Literal["view", "batch"]] = "batch"

    operations: Annotated[int, Within(0, 10)] = 2
    """Operations per image, one after another (N)."""
    magnitude: Annotated[float, Within(0, 10)] = 3.0
    """Strength of each, of 10 (M)."""

    def apply(self, batch: Batch, generator: torch.Generator, classes: int | None) -> Batch:
        """Return the batch with its images (B, 3, H, W) uint8 changed."""
        x_BCHW = batch.inputs.tensor
        for _ in range(self.operations):
            which_B = torch.randint(2 * len(OPERATIONS), (len(x_BCHW),), generator=generator)
            out = torch.empty_like(x_BCHW)
            for which in which_B.unique().tolist():
                drew_B = which_B == which
                operation = OPERATIONS[which // 2]
                out[drew_B] = operation(x_BCHW[drew_B], self.magnitude / 10, 1 if which % 2 else -1)
            x_BCHW = out
        return replace(batch, inputs=batch.inputs.with_tensor(x_BCHW))


def _affine(x: Tensor, *, angle: float = 0.0, translate: Pair = (0.0, 0.0), shear: Pair = (0.0, 0.0)) -> Tensor:
    """Turn (degrees), move (shares of the size) and shear (degrees); what comes in from outside is mid-grey."""
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as TF

    moved = [translate[0] * x.shape[-1], translate[1] * x.shape[-2]]
    return TF.affine(x, angle, moved, 1.0, list(shear), interpolation=InterpolationMode.BILINEAR, fill=[128.0, 128.0, 128.0])


def _tone(name: str) -> Operation:
    """Return torchvision's `adjust_NAME` at a factor of 1 ± 0.9 m."""

    def operation(x: Tensor, m: float, sign: int) -> Tensor:
        from torchvision.transforms.v2 import functional as TF

        return getattr(TF, f"adjust_{name}")(x, 1 + sign * 0.9 * m)

    return operation


def _posterize(x: Tensor, m: float, sign: int) -> Tensor:
    from torchvision.transforms.v2 import functional as TF

    return TF.posterize(x, 8 - round(4 * m))


def _solarize(x: Tensor, m: float, sign: int) -> Tensor:
    """Invert what is brighter than 255 (1 - m); nothing at magnitude 0."""
    threshold = 255 * (1 - m)
    return torch.where(x > threshold, 255 - x, x)


def _autocontrast(x: Tensor, m: float, sign: int) -> Tensor:
    from torchvision.transforms.v2 import functional as TF

    return TF.autocontrast(x)


def _equalize(x: Tensor, m: float, sign: int) -> Tensor:
    from torchvision.transforms.v2 import functional as TF

    return TF.equalize(x)


_SHEAR = math.degrees(math.atan(0.3))
OPERATIONS: tuple[Operation, ...] = (
    lambda x, m, sign: x,
    lambda x, m, sign: _affine(x, angle=30 * m * sign),
    lambda x, m, sign: _affine(x, shear=(_SHEAR * m * sign, 0.0)),
    lambda x, m, sign: _affine(x, shear=(0.0, _SHEAR * m * sign)),
    lambda x, m, sign: _affine(x, translate=(0.45 * m * sign, 0.0)),
    lambda x, m, sign: _affine(x, translate=(0.0, 0.45 * m * sign)),
    _tone("brightness"),
    _tone("contrast"),
    _tone("saturation"),
    _tone("sharpness"),
    _posterize,
    _solarize,
    _autocontrast,
    _equalize,
)
"""The paper's search space; magnitudes 0 leave all but the last two as they were."""
