"""Random brightness, contrast, saturation and hue, as one affine map of colours per image."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from torch import Tensor

from pretune.augmentations._base import BatchAugmentation
from pretune.config import Within

if TYPE_CHECKING:
    from pretune.types import Batch

_LUMA = (0.299, 0.587, 0.114)
# RGB -> YIQ (NTSC 1953): one axis of brightness and two of colour, so that a change of hue is a rotation.
_YIQ = (_LUMA, (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135))


@dataclass(frozen=True, kw_only=True)
class Colour(BatchAugmentation):
    """Jitters colours; all four changes are linear in RGB, so they cost one small matrix product a pixel.

    Hue is a rotation about the grey axis (YIQ), not HSV's shift: it keeps the luma.
    """

    modalities: ClassVar[frozenset[str]] = frozenset({"image"})
    moves: ClassVar[bool | None] = False

    brightness: Annotated[float, Within(0, 1)] = 0.2
    """Largest relative change: values are multiplied by 1 ± this."""
    contrast: Annotated[float, Within(0, 1)] = 0.2
    """Largest relative change of the distance from the image's mean grey."""
    saturation: Annotated[float, Within(0, 1)] = 0.2
    """Largest relative change of the distance from grey."""
    hue: Annotated[float, Within(0, 0.5)] = 0.02
    """Largest turn of the colour circle, in turns."""

    def apply(self, batch: Batch, generator: torch.Generator, classes: int | None) -> Batch:
        """Return the batch with its images (B, 3, H, W) uint8 recoloured."""
        x_BCHW = batch.inputs.tensor
        draws_4B1 = torch.rand(4, len(x_BCHW), 1, generator=generator) * 2 - 1
        brightness, contrast, saturation = 1 + torch.tensor([self.brightness, self.contrast, self.saturation]).view(3, 1, 1) * draws_4B1[:3]
        matrix_BCC = (brightness * contrast)[:, :, None] * _hue(self.hue * draws_4B1[3]) @ _saturation(saturation)
        x_BCN = x_BCHW.flatten(2).float()
        grey_B1 = (x_BCN.mean(2) @ torch.tensor(_LUMA)).unsqueeze(1)
        offset_B11 = ((1 - contrast) * brightness * grey_B1)[:, :, None]
        out_BCN = torch.baddbmm(offset_B11, matrix_BCC, x_BCN)
        return replace(batch, inputs=batch.inputs.with_tensor(out_BCN.round_().clamp_(0, 255).to(x_BCHW.dtype).view_as(x_BCHW)))


def _saturation(factor_B1: Tensor) -> Tensor:
    """Return (B, 3, 3): towards or away from each pixel's own luma."""
    factor_B11 = factor_B1[:, :, None]
    return factor_B11 * torch.eye(3) + (1 - factor_B11) * torch.tensor(_LUMA).expand(3, 3)


def _hue(turns_B1: Tensor) -> Tensor:
    """Return (B, 3, 3): rotations of the colour plane, the luma kept."""
    angle_B = turns_B1[:, 0] * 2 * math.pi
    turn_BCC = torch.eye(3).repeat(len(angle_B), 1, 1)
    turn_BCC[:, 1, 1] = turn_BCC[:, 2, 2] = angle_B.cos()
    turn_BCC[:, 1, 2], turn_BCC[:, 2, 1] = -angle_B.sin(), angle_B.sin()
    yiq_CC = torch.tensor(_YIQ)
    return torch.linalg.inv(yiq_CC) @ turn_BCC @ yiq_CC
