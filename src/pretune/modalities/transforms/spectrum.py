"""What networks take of a clip, as modules (Features -> Features): waveform, mel, log-mel, MFCC, an image.

Each equals its published form. Shapes: B clips, T samples, F frames, K bins, M mel bands, N samples of a frame.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretune.types import Features

Scale = Literal["slaney", "htk", "kaldi"]


@dataclass(frozen=True, kw_only=True)
class Bank:
    """Triangular filters, evenly spaced on a mel scale."""

    sample_rate: int
    fft: int
    """Samples of a transform; fft // 2 + 1 bins."""
    mels: int
    low: float = 0.0
    """Hz."""
    high: float | None = None
    """Hz; None for half the sample rate."""
    scale: Scale = "slaney"
    """slaney: linear to 1 kHz, of equal area; htk: logarithmic, of equal height; kaldi: htk, triangular in mel instead of Hz."""

    def matrix(self) -> Tensor:
        """Return the filters, (fft // 2 + 1, mels) float32."""
        bins = torch.linspace(0, self.sample_rate / 2, self.fft // 2 + 1, dtype=torch.float64)
        ends = torch.tensor([self.low, self.high or self.sample_rate / 2], dtype=torch.float64)
        first, last = self._mel(ends).tolist()
        points = torch.linspace(first, last, self.mels + 2, dtype=torch.float64)
        if self.scale == "kaldi":
            bins = self._mel(bins)
        else:
            points = self._hertz(points)
        rising = (bins[:, None] - points[:-2]) / (points[1:-1] - points[:-2])
        falling = (points[2:] - bins[:, None]) / (points[2:] - points[1:-1])
        filters = torch.minimum(rising, falling).clamp(min=0)
        if self.scale == "slaney":
            filters = filters * (2 / (points[2:] - points[:-2]))
        return filters.float()

    def _mel(self, hertz: Tensor) -> Tensor:
        if self.scale == "slaney":
            return torch.where(hertz >= 1000, 15 + (hertz.clamp(min=1) / 1000).log() * (27 / math.log(6.4)), hertz * 3 / 200)
        return 1127 * (1 + hertz / 700).log() if self.scale == "kaldi" else 2595 * (1 + hertz / 700).log10()

    def _hertz(self, mel: Tensor) -> Tensor:
        if self.scale == "slaney":
            return torch.where(mel >= 15, 1000 * ((mel - 15) * (math.log(6.4) / 27)).exp(), mel * 200 / 3)
        return 700 * (10 ** (mel / 2595) - 1)


@functools.lru_cache(maxsize=32)
def _filters(bank: Bank, device: torch.device) -> Tensor:
    return bank.matrix().to(device)


@functools.lru_cache(maxsize=32)
def _window(length: int, device: torch.device) -> Tensor:
    return torch.hann_window(length, device=device)


@functools.lru_cache(maxsize=32)
def _dct(outputs: int, inputs: int, device: torch.device) -> Tensor:
    """Return the orthonormal DCT-II, (inputs, outputs)."""
    n, k = torch.arange(inputs, dtype=torch.float64), torch.arange(outputs, dtype=torch.float64)
    matrix = torch.cos(math.pi / inputs * (n[:, None] + 0.5) * k) * math.sqrt(2 / inputs)
    matrix[:, 0] /= math.sqrt(2)
    return matrix.float().to(device)


class Spectrum(nn.Module):
    """Raw (B, T) samples to a sequence (B, F, M) of mel power; others are made of it. Always computed in float32.

    Frames are centred on every hop, mirrored before the start, silence after the end. Constants are no buffers:
    casting the module must not round them.
    """

    def __init__(self, bank: Bank, hop: int) -> None:
        super().__init__()
        self.bank, self.hop = bank, hop

    def forward(self, features: Features) -> Features:
        """Return the spectrum with the mask of its frames, padding being the silence that it is."""
        x_BT = features.tensor.float()
        with torch.autocast(x_BT.device.type, enabled=False):
            power_BFM = self.power(x_BT)
            mask_BF = None if features.mask is None else self.real(features.mask.sum(1), power_BFM.shape[1])
            return Features(tensor=self.scaled(power_BFM, mask_BF), layout="sequence", mask=mask_BF)

    def real(self, samples_B: Tensor, frames: int) -> Tensor:
        """Return which frames are sound, (B, F): those whose centre lies inside the clip."""
        real_B = (samples_B + self.hop - 1).div(self.hop, rounding_mode="floor")
        return torch.arange(frames, device=samples_B.device) < real_B[:, None]

    def power(self, x_BT: Tensor) -> Tensor:
        """Return mel power, (B, ceil(T / hop), M)."""
        fft, half = self.bank.fft, self.bank.fft // 2
        frames = -(-x_BT.shape[1] // self.hop)
        x_BT = F.pad(x_BT, (0, max(0, half + 1 - x_BT.shape[1], fft - half + (frames - 1) * self.hop - x_BT.shape[1])))
        x_BT = torch.cat([x_BT[:, 1 : half + 1].flip(1), x_BT], 1)
        spectrum_BKF = torch.stft(x_BT, fft, self.hop, window=_window(fft, x_BT.device), center=False, return_complex=True)
        power_BFK = torch.view_as_real(spectrum_BKF[..., :frames]).square().sum(-1).transpose(1, 2)
        return power_BFK @ _filters(self.bank, x_BT.device)

    def scaled(self, power_BFM: Tensor, mask_BF: Tensor | None) -> Tensor:
        """Return what the network takes of mel power."""
        return power_BFM

    def extra_repr(self) -> str:
        """Return the constants."""
        return f"{self.bank}, hop={self.hop}"


class SpeakerMel(Spectrum):
    """Mel power of a clip that is made as loud as -30 dB of full scale where it is softer, as Resemblyzer does."""

    def forward(self, features: Features) -> Features:
        """Return the spectrum of the amplified clips."""
        x_BT = features.tensor.float()
        count = x_BT.shape[1] if features.mask is None else features.mask.sum(1, keepdim=True)
        power_B1 = x_BT.square().sum(1, keepdim=True) / count
        return super().forward(features.with_tensor(x_BT * (1e-3 / power_B1.clamp(min=1e-12)).sqrt().clamp(min=1)))


class LogMel(Spectrum):
    """Whisper's log-mel: decimal logarithm, at least 80 dB below the clip's maximum, plus 4, divided by 4.

    With `relative` each clip's mean over its sound is subtracted: how loud it was recorded is gone.
    """

    def __init__(self, bank: Bank, hop: int, *, relative: bool = False) -> None:
        super().__init__(bank, hop)
        self.relative = relative

    def scaled(self, power_BFM: Tensor, mask_BF: Tensor | None) -> Tensor:
        """Return numbers about -1 to 1.5 that span at most 2 in one clip; about -1.5 to 1.5 with `relative`."""
        log_BFM = power_BFM.clamp(min=1e-10).log10()
        y_BFM = (torch.maximum(log_BFM, log_BFM.amax((1, 2), keepdim=True) - 8) + 4) / 4
        return y_BFM - _mean(y_BFM, mask_BF) if self.relative else y_BFM


def _mean(x_BFM: Tensor, mask_BF: Tensor | None) -> Tensor:
    """Return each clip's mean over its real frames and all bands, (B, 1, 1)."""
    if mask_BF is None:
        return x_BFM.mean((1, 2), keepdim=True)
    real_BF1 = mask_BF[..., None]
    return (x_BFM * real_BF1).sum((1, 2), keepdim=True) / (real_BF1.sum((1, 2), keepdim=True) * x_BFM.shape[2]).clamp(min=1)


class MFCC(Spectrum):
    """Cepstral coefficients: orthonormal DCT-II of decibels, at least 80 below the clip's maximum (Davis & Mermelstein 1980)."""

    def __init__(self, bank: Bank, hop: int, coefficients: int) -> None:
        super().__init__(bank, hop)
        self.coefficients = coefficients

    def scaled(self, power_BFM: Tensor, mask_BF: Tensor | None) -> Tensor:
        """Return the first coefficients, (B, F, coefficients)."""
        decibel_BFM = 10 * power_BFM.clamp(min=1e-10).log10()
        decibel_BFM = torch.maximum(decibel_BFM, decibel_BFM.amax((1, 2), keepdim=True) - 80)
        return decibel_BFM @ _dct(self.coefficients, self.bank.mels, power_BFM.device)


class KaldiMel(Spectrum):
    """Kaldi's filter banks as the Audio Spectrogram Transformer takes them (Gong et al. 2021).

    Frames of 25 ms stand whole inside the clip; each loses its mean and is pre-emphasised by 0.97; natural logarithm,
    0 in padding; then (x - mean) / (2 std) with the constants the weights were trained with.
    """

    def __init__(self, bank: Bank, hop: int, mean: float, std: float) -> None:
        super().__init__(bank, hop)
        self.mean, self.std = mean, std
        self.length = round(0.025 * bank.sample_rate)

    def power(self, x_BT: Tensor) -> Tensor:
        """Return mel power, (B, F, M), F = 1 + (T - 25 ms) // hop, at least 1."""
        x_BT = F.pad(x_BT, (0, max(0, self.length - x_BT.shape[1])))
        x_BFN = x_BT.unfold(1, self.length, self.hop)
        x_BFN = x_BFN - x_BFN.mean(2, keepdim=True)
        before_BFN = torch.cat([x_BFN[..., :1], x_BFN[..., :-1]], 2)
        x_BFN = (x_BFN - 0.97 * before_BFN) * torch.hann_window(self.length, periodic=False, device=x_BT.device)
        power_BFK = torch.view_as_real(torch.fft.rfft(x_BFN, self.bank.fft)).square().sum(-1)
        return power_BFK @ _filters(self.bank, x_BT.device)

    def real(self, samples_B: Tensor, frames: int) -> Tensor:
        """Return which frames are sound, (B, F): those that lie whole inside the clip, at least one."""
        real_B = 1 + (samples_B - self.length).clamp(min=0).div(self.hop, rounding_mode="floor")
        return torch.arange(frames, device=samples_B.device) < real_B[:, None]

    def scaled(self, power_BFM: Tensor, mask_BF: Tensor | None) -> Tensor:
        """Return standardised logarithms."""
        log_BFM = power_BFM.clamp(min=torch.finfo(torch.float32).eps).log()
        if mask_BF is not None:
            log_BFM = log_BFM.masked_fill(~mask_BF[..., None], 0.0)
        return (log_BFM - self.mean) / (2 * self.std)


class Waveform(nn.Module):
    """Samples as they are, (B, T), or each clip with mean 0 and deviation 1 over its own samples, padding left at 0."""

    def __init__(self, *, standardise: bool) -> None:
        super().__init__()
        self.standardise = standardise

    def forward(self, features: Features) -> Features:
        """Return raw (B, T)."""
        x_BT = features.tensor.float()
        if not self.standardise:
            return features.with_tensor(x_BT)
        real_BT = torch.ones_like(x_BT) if features.mask is None else features.mask.float()
        count_B1 = real_BT.sum(1, keepdim=True)
        mean_B1 = (x_BT * real_BT).sum(1, keepdim=True) / count_B1
        centred_BT = (x_BT - mean_B1) * real_BT
        variance_B1 = centred_BT.square().sum(1, keepdim=True) / count_B1
        return features.with_tensor(centred_BT * (variance_B1 + 1e-7).rsqrt())


class MelImage(nn.Module):
    """A log-mel spectrogram as a grey image for an image network: low frequencies below, time to the right."""

    def __init__(self, spectrum: LogMel, size: int, normaliser: nn.Module) -> None:
        super().__init__()
        self.spectrum, self.size, self.normaliser = spectrum, size, normaliser

    def forward(self, features: Features) -> Features:
        """Return the image network's input, map (B, 3, size, size)."""
        y_BFM = self.spectrum(features).tensor
        grey_BHW = (y_BFM - y_BFM.amin((1, 2), keepdim=True)).transpose(1, 2).flip(1) * (255 / 2)
        grey_B1HW = F.interpolate(grey_BHW[:, None], (self.size, self.size), mode="bilinear", antialias=True)
        return self.normaliser(Features(tensor=grey_B1HW.expand(-1, 3, -1, -1), layout="raw"))
