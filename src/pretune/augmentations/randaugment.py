"""RandAugment (Cubuk et al. 2020): a few operations sampled per image, all at one magnitude."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from torch import Tensor

from pretune.augmentations._base import BatchAugmentation
from pretune.config import Within
from pretune.geometry import Geometry

if TYPE_CHECKING:
    from pretune.types import Batch

Pair = tuple[float, float]
Operation = Callable[[Tensor, float, int], Tensor]
"""(images (G, 3, H, W) uint8, magnitude 0..1, sign ±1) -> images."""


@dataclass(frozen=True, kw_only=True)
class RandAugment(BatchAugmentation):
    """Applies `operations` random ones of 14 to each image; images that drew alike are changed together."""

    modalities: ClassVar[frozenset[str]] = frozenset({"image"})
    moves: ClassVar[bool | None] = True

    operations: Annotated[int, Within(0, 10)] = 2
    """Operations per image, one after another (N)."""
    magnitude: Annotated[float, Within(0, 10)] = 3.0
    """Strength of each, of 10 (M)."""

    def apply(self, batch: Batch, generator: torch.Generator, classes: int | None) -> Batch:
        """Return the batch with its images (B, 3, H, W) uint8 changed."""
        m = self.magnitude / 10
        for _ in range(self.operations):
            x_BCHW = batch.inputs.tensor
            which_B = torch.randint(2 * len(OPERATIONS), (len(x_BCHW),), generator=generator)
            out, linear_B22, shift_B2 = torch.empty_like(x_BCHW), torch.eye(2).repeat(len(x_BCHW), 1, 1), torch.zeros(len(x_BCHW), 2)
            for which in which_B.unique().tolist():
                chosen_B, operation, sign = which_B == which, OPERATIONS[which // 2], 1 if which % 2 else -1
                out[chosen_B] = operation(x_BCHW[chosen_B], m, sign)
                if isinstance(operation, _Affine):
                    linear_B22[chosen_B], shift_B2[chosen_B] = operation.map(m * sign, x_BCHW.shape[-2:])
            warp = Geometry.about(linear_B22, (x_BCHW.shape[-1] / 2, x_BCHW.shape[-2] / 2), shift_B2)
            batch = batch.moved(batch.inputs.with_tensor(out), warp)
        return batch


@dataclass(frozen=True)
class _Affine:
    """Turns, moves and shears at magnitude 1; what comes in from outside is mid-grey."""

    angle: float = 0.0
    """Degrees, clockwise."""
    translate: Pair = (0.0, 0.0)
    """Shares of width and height."""
    shear: Pair = (0.0, 0.0)
    """Degrees along x and y."""

    def __call__(self, x: Tensor, m: float, sign: int) -> Tensor:
        from torchvision.transforms.v2 import InterpolationMode
        from torchvision.transforms.v2 import functional as TF

        by = m * sign
        moved = [by * self.translate[0] * x.shape[-1], by * self.translate[1] * x.shape[-2]]
        shear = [by * degrees for degrees in self.shear]
        return TF.affine(x, by * self.angle, moved, 1.0, shear, interpolation=InterpolationMode.BILINEAR, fill=[128.0, 128.0, 128.0])

    def map(self, by: float, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return what it does to (x, y) about the centre of images (H, W): a matrix (2, 2) and a shift (2,)."""
        turn, across, along = (math.radians(by * degrees) for degrees in (self.angle, *self.shear))
        rotation = torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        vertical = torch.tensor([[1.0, 0.0], [-math.tan(along), 1.0]])
        horizontal = torch.tensor([[1.0, -math.tan(across)], [0.0, 1.0]])
        return rotation @ vertical @ horizontal, torch.tensor([by * self.translate[0] * shape[1], by * self.translate[1] * shape[0]])


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
    _Affine(angle=30),
    _Affine(shear=(_SHEAR, 0.0)),
    _Affine(shear=(0.0, _SHEAR)),
    _Affine(translate=(0.45, 0.0)),
    _Affine(translate=(0.0, 0.45)),
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
