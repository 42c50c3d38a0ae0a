"""From a log-mel spectrogram back to sound: power in bins that explains the bands, then phases that agree with it.

D. Griffin and J. Lim, "Signal Estimation from Modified Short-Time Fourier Transform", 1984, with the momentum of
N. Perraudin et al., "A Fast Griffin-Lim Algorithm", 2013.

Shapes: B clips, F frames, M mel bands, K bins, T samples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pretune.modalities.transforms.spectrum import Bank

_STEPS = 60
_MOMENTUM = 0.99
_FITTING = 100


def griffin_lim(log_BFM: Tensor, bank: Bank, hop: int, seed: int = 0) -> Tensor:
    """Return samples (B, F * hop) whose log-mel spectrogram (as `LogMel` makes it) is near the one that is given."""
    log_BFM = torch.maximum(log_BFM, log_BFM.amax((1, 2), keepdim=True) - 2)
    size_BKF = bins(10 ** (4 * log_BFM - 4), bank.matrix()).sqrt().transpose(1, 2)
    size_BKF = torch.nn.functional.pad(size_BKF, (0, 1))  # centred frames are one more than hops
    window, length = torch.hann_window(bank.fft), log_BFM.shape[1] * hop
    angles = torch.rand(size_BKF.shape, generator=torch.Generator().manual_seed(seed)) * (2 * torch.pi)
    phase_BKF, before = torch.polar(torch.ones_like(angles), angles), torch.zeros((), dtype=torch.complex64)
    for _ in range(_STEPS):
        x_BT = torch.istft(size_BKF * phase_BKF, bank.fft, hop, window=window, length=length)
        agreed = torch.stft(x_BT, bank.fft, hop, window=window, return_complex=True)
        moved = agreed + _MOMENTUM * (agreed - before)
        phase_BKF, before = moved / moved.abs().clamp(min=1e-9), agreed
    return torch.istft(size_BKF * phase_BKF, bank.fft, hop, window=window, length=length)


def bins(power_BFM: Tensor, filters_KM: Tensor) -> Tensor:
    """Return power in bins, (B, F, K), at least 0, whose bands are near the given ones (Lee and Seung's updates, 2001)."""
    gram_KK = filters_KM @ filters_KM.t()
    wanted_BFK = power_BFM @ filters_KM.t()
    power_BFK = wanted_BFK / filters_KM.sum(1).clamp(min=1e-6)
    for _ in range(_FITTING):
        power_BFK = power_BFK * wanted_BFK / (power_BFK @ gram_KK).clamp(min=1e-20)
    return power_BFK
