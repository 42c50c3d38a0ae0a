"""Classical features of clips for the floor: mean and deviation over time of log-mel bands, loudness taken out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pretune.modalities.transforms.spectrum import Bank, Spectrum
from pretune.types import Features

_MELS = 40
_RANGE = 8.0 * np.log(10)
"""Nepers below a clip's maximum that are distinguished: 80 dB."""
_SAMPLES = 1 << 20
"""Samples analysed at once, padding included."""


def describe(arrays: list[NDArray[np.float16]], sample_rate: int) -> NDArray[np.float32]:
    """Return (N, 80) features of whole clips, whatever their lengths."""
    spectrum = Spectrum(Bank(sample_rate=sample_rate, fft=1 << (sample_rate // 40).bit_length(), mels=_MELS), max(1, sample_rate // 100))
    out = np.empty((len(arrays), 2 * _MELS), np.float32)
    for index in _alike(np.array([len(array) for array in arrays])):
        out[index] = _describe([arrays[i] for i in index], spectrum).numpy()
    return out


def _alike(lengths: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield indices of clips of like length that are analysed together."""
    order = np.argsort(lengths, kind="stable")[::-1]
    start = 0
    while start < len(order):
        count = max(1, _SAMPLES // int(lengths[order[start]]))
        yield order[start : start + count]
        start += count


@torch.inference_mode()
def _describe(clips: list[NDArray[np.float16]], spectrum: Spectrum) -> Tensor:
    lengths = torch.tensor([len(clip) for clip in clips])
    samples = torch.zeros(len(clips), int(lengths.max()))
    for row, clip in zip(samples, clips, strict=True):
        row[: len(clip)] = torch.from_numpy(clip.astype(np.float32))
    done = spectrum(Features(tensor=samples, layout="raw", mask=torch.arange(samples.shape[1]) < lengths[:, None]))
    assert done.mask is not None
    log_BFM = done.tensor.clamp(min=1e-10).log()
    log_BFM = torch.maximum(log_BFM, log_BFM.amax((1, 2), keepdim=True) - _RANGE)
    weight_BF1 = (done.mask / done.mask.sum(1, keepdim=True))[..., None]
    log_BFM = log_BFM - (log_BFM * weight_BF1).sum((1, 2), keepdim=True) / _MELS
    mean_BM = (log_BFM * weight_BF1).sum(1)
    variance_BM = ((log_BFM - mean_BM[:, None]).square() * weight_BF1).sum(1)
    return torch.cat([mean_BM, variance_BM.sqrt()], 1)
