"""Recurrent layers over mel frames; with an embedding it is the speaker encoder of Resemblyzer.

L. Wan et al., "Generalized End-to-End Loss for Speaker Verification", 2018.

Shapes: B clips, F frames, M mel bands, D units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import nn

from pretune.architectures._base import Architecture, Network
from pretune.config import Within
from pretune.kernels.recurrence import lstm
from pretune.types import Features, Layout


@dataclass(frozen=True, kw_only=True)
class AudioLSTM(Architecture):
    """Sizes of the network; the defaults are meant for training from scratch."""

    modality: ClassVar[str] = "audio"
    pooling: ClassVar[str] = "mean_std"

    mels: Annotated[int, Within(1)] = 40
    """Mel bands of the input."""
    units: Annotated[int, Within(1)] = 128
    """Units of each layer."""
    layers: Annotated[int, Within(1)] = 2
    """Layers."""
    embedding: Annotated[int, Within(0)] = 0
    """Numbers that the last real frame's state becomes, of length 1 in all; 0 gives the states of all frames instead."""
    features: Literal["log_mel", "mfcc", "speaker"] = "log_mel"
    """What it takes of a clip."""

    def preprocessing(self) -> dict[str, Any]:
        """Return the audio settings."""
        return {
            "features": self.features,
            "mels": self.mels,
            "coefficients": min(40, self.mels),
            "shortest": 1.6 if self.embedding else 0.5,
        }

    def build(self) -> AudioLSTMNetwork:
        """Return the network with randomly initialised weights."""
        return AudioLSTMNetwork(self)


class AudioLSTMNetwork(Network):
    """Ordered `stages`: one a layer, and the embedding if there is one; sequence in, sequence or pooled out."""

    def __init__(self, sizes: AudioLSTM) -> None:
        super().__init__()
        self.layout: Layout = "pooled" if sizes.embedding else "sequence"
        self.width = sizes.embedding or sizes.units
        inputs = [min(40, sizes.mels) if sizes.features == "mfcc" else sizes.mels] + [sizes.units] * (sizes.layers - 1)
        self.stages = nn.ModuleDict({f"layer{i + 1}": LstmLayer(width, sizes.units) for i, width in enumerate(inputs)})
        if sizes.embedding:
            self.stages["embedding"] = Embedding(sizes.units, sizes.embedding)


class LstmLayer(nn.Module):
    """One forward LSTM layer as a stage: what comes after a clip cannot reach back into its states."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, units, batch_first=True)

    def forward(self, features: Features) -> Features:
        """Return the states, sequence (B, F, D)."""
        return features.with_tensor(lstm(self.lstm, features.tensor)[0], "sequence")


class Embedding(nn.Module):
    """The state at the last real frame, mapped, rectified and scaled to length 1."""

    def __init__(self, units: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(units, width)

    def forward(self, features: Features) -> Features:
        """Return pooled (B, embedding)."""
        states_BFD, mask = features.tensor, features.mask
        last_B = torch.full((len(states_BFD),), states_BFD.shape[1] - 1) if mask is None else mask.sum(1) - 1
        mapped_BE = self.linear(states_BFD[torch.arange(len(states_BFD)), last_B.to(states_BFD.device)])
        return Features(tensor=F.normalize(mapped_BE.relu(), dim=1), layout="pooled")
