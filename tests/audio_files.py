"""Clips made on the spot."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

RATE = 16_000


def tone(hertz: float, seconds: float = 0.5, rate: int = RATE, seed: int = 0) -> NDArray[np.float64]:
    """A decaying tone with a little noise."""
    t = np.arange(int(rate * seconds)) / rate
    noise = 0.01 * np.random.default_rng(seed).standard_normal(len(t))
    return 0.4 * np.sin(2 * np.pi * hertz * t) * np.exp(-t) + noise


def encoded(samples: NDArray[Any], rate: int = RATE, kind: str = "WAV", subtype: str | None = None) -> bytes:
    """The bytes of a audio file."""
    import soundfile

    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=kind, subtype=subtype)
    return out.getvalue()


def write_tones(root: Path, count: int, seed: int = 0) -> None:
    """Two class folders of low and high tones."""
    rng = np.random.default_rng(seed)
    for name, hertz in (("low", 220.0), ("high", 880.0)):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            sound = tone(hertz * (1 + 0.05 * rng.standard_normal()), 0.3 + 0.02 * i, seed=seed * 1000 + i)
            (root / name / f"{i}.wav").write_bytes(encoded(sound))


def loudest_hertz(samples: NDArray[Any], rate: int = RATE) -> float:
    """The frequency of the strongest bin."""
    spectrum = np.abs(np.fft.rfft(samples.astype(np.float64) * np.hanning(len(samples))))
    return float(spectrum.argmax() * rate / len(samples))
