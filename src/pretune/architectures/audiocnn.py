"""A convolutional network over log-mel spectrograms, for training from scratch on small sets of clips.

The plan of PANNs' CNN10 (Kong et al. 2020) at a quarter of its width: blocks of two convolutions and a mean pooling, then
the mean over frequency. 0.3 M parameters.

Shapes: B clips, F frames, M mel bands, C channels.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from pretune.architectures._base import Architecture, Network
from pretune.config import Within
from pretune.types import Features, Layout


@dataclass(frozen=True, kw_only=True)
class AudioCNN(Architecture):
    """Sizes of the network."""

    modality: ClassVar[str] = "audio"
    pooling: ClassVar[str] = "mean_std"

    mels: Annotated[int, Within(8)] = 64
    """Mel bands of the input."""
    width: Annotated[int, Within(1)] = 16
    """Channels of the first block; each block doubles them."""
    blocks: Annotated[int, Within(1, 6)] = 4
    """Blocks; each halves time and frequency."""
    relative: bool = True
    """Whether it sees levels relative to each clip's mean only; false where how loud a recording is matters."""

    def preprocessing(self) -> dict[str, Any]:
        """Return the audio settings: log-mel with windows of 32 ms."""
        return {"features": "log_mel", "mels": self.mels, "fft": 512, "relative": self.relative}

    def build(self) -> AudioCNNNetwork:
        """Return the network with randomly initialised weights."""
        return AudioCNNNetwork(self)


class AudioCNNNetwork(Network):
    """Ordered `stages`: a batch norm of each band, the blocks, the mean over frequency; sequence in, sequence out."""

    layout: Layout = "sequence"

    def __init__(self, sizes: AudioCNN) -> None:
        super().__init__()
        widths = [1, *(sizes.width * 2**i for i in range(sizes.blocks))]
        blocks = {f"block{i + 1}": AudioCnnBlock(*pair) for i, pair in enumerate(itertools.pairwise(widths))}
        self.width = widths[-1]
        self.stages = nn.ModuleDict({"bands": Bands(sizes.mels), **blocks, "squeeze": Squeeze()})
        self.to(memory_format=torch.channels_last)  # a step takes two thirds of the time


class Bands(nn.Module):
    """Standardises each mel band over the training clips: sequence (B, F, M) -> map (B, 1, F, M)."""

    def __init__(self, mels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(mels)

    def forward(self, features: Features) -> Features:
        """Return the normed spectrogram as a map of one channel."""
        x_BMF: Tensor = self.norm(features.tensor.transpose(1, 2))
        return features.with_tensor(x_BMF.transpose(1, 2)[:, None], "map")


class AudioCnnBlock(nn.Sequential):
    """Two 3x3 convolutions with batch norm and ReLU, then a mean over 2x2."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        for number, channels in enumerate((inputs, outputs), start=1):
            self.add_module(f"conv{number}", nn.Conv2d(channels, outputs, 3, padding=1, bias=False))
            self.add_module(f"norm{number}", nn.BatchNorm2d(outputs))
            self.add_module(f"relu{number}", nn.ReLU())
        self.add_module("pool", nn.AvgPool2d(2, ceil_mode=True))

    def forward(self, features: Features) -> Features:  # type: ignore[override]
        """Return map (B, C, F / 2, M / 2); a frame is real where its first half is."""
        mask = None if features.mask is None else features.mask[:, ::2]
        return Features(tensor=super().forward(features.tensor), layout="map", mask=mask)


class Squeeze(nn.Module):
    """The mean over frequency: map (B, C, F, M) -> sequence (B, F, C)."""

    def forward(self, features: Features) -> Features:
        """Return the sequence."""
        return features.with_tensor(torch.mean(features.tensor, 3).transpose(1, 2), "sequence")
