"""A small convolutional encoder of log-mel frames, to be pretrained as the first half of a VQ-VAE.

A. van den Oord et al., "Neural Discrete Representation Learning", 2017; over log-mel frames instead of samples, so that a
code stands for some 30 ms of sound and a small prior over codes learns whole words.

Shapes: B clips, F frames, M mel bands, D channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from torch import nn

from pretune.architectures._base import Architecture, Network
from pretune.architectures.layers.residual import Residual
from pretune.config import Within
from pretune.types import Features, Layout


@dataclass(frozen=True, kw_only=True)
class AudioVQVAE(Architecture):
    """The sizes of the encoder."""

    modality: ClassVar[str] = "audio"
    pooling: ClassVar[str] = "mean_std"
    layered: ClassVar[bool] = True

    sample_rate: Annotated[int, Within(1000, 192_000)] = 8_000
    """Samples a second; frames are 32 ms long and begin every 8 ms."""
    mels: Annotated[int, Within(8)] = 48
    """Mel bands."""
    width: Annotated[int, Within(2)] = 128
    """Channels."""
    halvings: Annotated[int, Within(1, 5)] = 2
    """How often the number of frames is halved."""
    depth: Annotated[int, Within(0)] = 2
    """Residual blocks at the end."""

    def preprocessing(self) -> dict[str, Any]:
        """Return the audio settings: log-mel with frames that overlap by three quarters, as making sound of them needs."""
        fft = 32 * self.sample_rate // 1000
        return {"features": "log_mel", "sample_rate": self.sample_rate, "mels": self.mels, "fft": fft, "hop": fft // 4}

    def build(self) -> AudioVQVAENetwork:
        """Return the network with randomly initialised weights."""
        return AudioVQVAENetwork(self)


class AudioVQVAENetwork(Network):
    """Ordered `stages`: stem, one a halving, the residual blocks; sequence (B, F, M) -> sequence (B, F / 2^halvings, D)."""

    layout: Layout = "sequence"

    def __init__(self, sizes: AudioVQVAE) -> None:
        super().__init__()
        width = self.width = sizes.width
        halves = {f"half{i + 1}": Convolved(nn.GELU(), nn.Conv1d(width, width, 4, 2, 1), halves=True) for i in range(sizes.halvings)}
        blocks = Convolved(*(Residual(width, planar=False) for _ in range(sizes.depth)))
        self.stages = nn.ModuleDict({"stem": Convolved(nn.Conv1d(sizes.mels, width, 3, padding=1)), **halves, "blocks": blocks})


class Convolved(nn.Sequential):
    """Layers over (B, D, F) as a stage over sequences (B, F, D); the silence after a clip is attended to."""

    def __init__(self, *layers: nn.Module, halves: bool = False) -> None:
        super().__init__(*layers)
        self.halves = halves

    def forward(self, features: Features) -> Features:  # type: ignore[override]
        """Return the sequence; a position is real where its first frame is."""
        x_BDF = features.tensor.transpose(1, 2)
        if self.halves and x_BDF.shape[2] % 2:
            x_BDF = nn.functional.pad(x_BDF, (0, 1), mode="replicate")
        x_BFD = super().forward(x_BDF).transpose(1, 2)
        mask = features.mask if features.mask is None or not self.halves else features.mask[:, ::2]
        return Features(tensor=x_BFD, layout="sequence", mask=mask, attends_padding=True)
