"""Samples as 256 classes whose steps grow with loudness (ITU-T G.711's curve with mu = 255)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

CLASSES = 256
_MU = CLASSES - 1


def mu_law(x: Tensor) -> Tensor:
    """Return int64 classes 0..255 of samples in [-1, 1], of the same shape; louder ones are clipped."""
    x = x.float().clamp(-1, 1)
    curved = x.sign() * (x.abs() * _MU).log1p() / math.log1p(_MU)
    return ((curved + 1) / 2 * _MU).round().long()


def from_mu_law(classes: Tensor) -> Tensor:
    """Return the float32 sample in the middle of each class."""
    curved = classes.float() / _MU * 2 - 1
    return curved.sign() * torch.expm1(curved.abs() * math.log1p(_MU)) / _MU
