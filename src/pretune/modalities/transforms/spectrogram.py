"""A clip as an image for people: its mel spectrogram in colours that grow evenly brighter (after matplotlib's magma)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pretune.modalities.transforms.spectrum import Bank, LogMel
from pretune.types import Features

_COLOURS = np.array(
    [
        (0, 0, 4),
        (28, 16, 68),
        (79, 18, 123),
        (129, 37, 129),
        (181, 54, 122),
        (229, 80, 100),
        (251, 135, 97),
        (254, 194, 135),
        (252, 253, 191),
    ],
    np.float32,
)
"""Nine of magma's colours at equal distances, from silence to the loudest (S. van der Walt and N. Smith, CC0)."""


@torch.inference_mode()
def spectrogram(samples: NDArray[np.floating], sample_rate: int, *, height: int = 96, width: int = 192) -> NDArray[np.uint8]:
    """Return (height, width, 3) pixels: time to the right, frequency upwards on a mel scale, 80 dB from dark to bright.

    Args:
        samples: (T,), T > 0.
        sample_rate: Hz.
        height: of the image.
        width: of the image.
    """
    fft = 1 << (sample_rate // 30).bit_length()
    spectrum = LogMel(Bank(sample_rate=sample_rate, fft=fft, mels=min(height, 96)), max(1, len(samples) // width))
    waveform = torch.from_numpy(samples.astype(np.float32))[None]
    bands_FM: Tensor = spectrum(Features(tensor=waveform, layout="raw")).tensor[0]
    level_MF = ((bands_FM - bands_FM.max()) / 2 + 1).clamp(0, 1).T.flip(0)
    level_HW = F.interpolate(level_MF[None, None], (height, width), mode="bilinear", antialias=True)[0, 0].numpy()
    return coloured(level_HW)


def coloured(level_HW: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return (H, W, 3) colours of levels between 0 and 1."""
    place = np.clip(level_HW, 0, 1) * (len(_COLOURS) - 1)
    below = np.minimum(place.astype(np.intp), len(_COLOURS) - 2)
    share = (place - below)[..., None]
    return np.rint(_COLOURS[below] * (1 - share) + _COLOURS[below + 1] * share).astype(np.uint8)
