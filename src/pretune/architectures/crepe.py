"""CREPE: six convolutions over the waveform of one frame, made to tell its pitch.

J. W. Kim et al., "CREPE: A Convolutional Representation for Pitch Estimation", 2018. Its classifier tells 360 pitches of 20
cents from 32.7 Hz up.

Shapes: B clips, T samples, F frames, N = 1024 samples of a frame, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from pretune.architectures._base import Architecture, Network
from pretune.config import Within
from pretune.types import Features, Layout

FRAME = 1024
PITCHES = 360
_CHANNELS = (32, 4, 4, 4, 8, 16)
"""Channels of the six convolutions at capacity 1."""


@dataclass(frozen=True, kw_only=True)
class Crepe(Architecture):
    """Sizes of the network."""

    modality: ClassVar[str] = "audio"
    pooling: ClassVar[str] = "mean_std"

    capacity: Annotated[int, Within(1, 32)] = 4
    """Multiplies all channels: 4 is the published 'tiny' (0.5 M parameters), 32 'full' (22 M)."""
    hop: Annotated[int, Within(16, 1024)] = 320
    """Samples between frames."""

    def preprocessing(self) -> dict[str, Any]:
        """Return the audio settings: 16 kHz waveforms."""
        return {"features": "waveform"}

    def build(self) -> CrepeNetwork:
        """Return the network with randomly initialised weights."""
        return CrepeNetwork(self)


class CrepeNetwork(Network):
    """Ordered `stages`: frames, then one a convolution; raw (B, T) -> sequence (B, F, 4 * channels)."""

    layout: Layout = "sequence"

    def __init__(self, sizes: Crepe) -> None:
        super().__init__()
        channels = [1, *(sizes.capacity * count for count in _CHANNELS)]
        self.width = channels[-1] * 4
        self.stages = nn.ModuleDict({"frames": Frames(sizes.hop)})
        for number in range(len(_CHANNELS)):
            self.stages[f"conv{number + 1}"] = CrepeConvolution(channels[number], channels[number + 1], first=number == 0)
        self.stages["flatten"] = Flatten()
        self.classifier = nn.Linear(self.width, PITCHES)


class Frames(nn.Module):
    """Cuts frames centred on every hop, each with mean 0 and deviation 1."""

    def __init__(self, hop: int) -> None:
        super().__init__()
        self.hop = hop

    def forward(self, features: Features) -> Features:
        """Return sequence (B, F, N); a frame is real where its centre lies inside the clip."""
        x_BT = features.tensor.float()
        x_BFN = F.pad(x_BT, (FRAME // 2, FRAME // 2 - 1)).unfold(1, FRAME, self.hop)
        x_BFN = x_BFN - x_BFN.mean(2, keepdim=True)
        x_BFN = x_BFN / x_BFN.std(2, keepdim=True).clamp(min=1e-10)
        mask = None if features.mask is None else features.mask[:, :: self.hop]
        return Features(tensor=x_BFN, layout="sequence", mask=mask)


class CrepeConvolution(nn.Module):
    """Convolution, ReLU, batch norm, and the larger of every two: sequence (B, F, C * N) of `inputs` channels in a row."""

    def __init__(self, inputs: int, outputs: int, *, first: bool) -> None:
        super().__init__()
        self.inputs = inputs
        self.padding = (254, 254) if first else (31, 32)
        self.conv = nn.Conv1d(inputs, outputs, 512 if first else 64, 4 if first else 1)
        self.norm = nn.BatchNorm1d(outputs, eps=1e-3)

    def forward(self, features: Features) -> Features:
        """Return sequence (B, F, outputs * length)."""
        batch, frames = features.tensor.shape[:2]
        x: Tensor = F.pad(features.tensor.reshape(batch * frames, self.inputs, -1), self.padding)
        x = F.max_pool1d(self.norm(F.relu(self.conv(x))), 2)
        return features.with_tensor(x.reshape(batch, frames, -1))


class Flatten(nn.Module):
    """Puts the channels of each of the last four places side by side, as the classifier was trained."""

    def forward(self, features: Features) -> Features:
        """Return sequence (B, F, 4 * channels), places first."""
        return features.with_tensor(features.tensor.unflatten(2, (-1, 4)).transpose(2, 3).flatten(2))
