"""WaveNet: dilated causal convolutions over samples, to be pretrained by predicting the next one.

A. van den Oord et al., "WaveNet: A Generative Model for Raw Audio", 2016. While it writes, every layer keeps a queue of what
it will look back at, so that each sample is computed once (T. Le Paine et al., "Fast Wavenet Generation Algorithm", 2016).

Shapes: B clips, T samples, C residual channels, S skip channels, D channels of the output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretune.architectures._base import Architecture, Network
from pretune.architectures.layers.memory import Recalling
from pretune.architectures.layers.mu_law import CLASSES, mu_law
from pretune.config import Within
from pretune.types import Features, Layout


@dataclass(frozen=True, kw_only=True)
class WaveNet(Architecture):
    """The sizes of a WaveNet; it sees cycles * (2^depth - 1) + 1 samples back."""

    modality: ClassVar[str] = "audio"
    pooling: ClassVar[str] = "mean_std"

    sample_rate: Annotated[int, Within(1000, 192_000)] = 8_000
    """Samples a second."""
    width: Annotated[int, Within(1)] = 32
    """Residual channels."""
    skip: Annotated[int, Within(1)] = 64
    """Skip channels, and those of the output."""
    depth: Annotated[int, Within(1, 16)] = 9
    """Layers of a cycle; their dilations are 1, 2, 4, …"""
    cycles: Annotated[int, Within(1)] = 2
    """How often the dilations begin anew."""
    longest: Annotated[float, Within(0, above=True)] = 0.5
    """Seconds of a training window at most."""

    def causal(self) -> bool:
        """Return whether no position sees what comes after it: none does."""
        return True

    def preprocessing(self) -> dict[str, Any]:
        """Return the audio settings: samples as they are."""
        return {"features": "waveform", "sample_rate": self.sample_rate, "shortest": 0.0, "longest": self.longest}

    def build(self) -> WaveNetNetwork:
        """Return the network with randomly initialised weights."""
        return WaveNetNetwork(self)


class WaveNetNetwork(Network):
    """Ordered `stages`: classes of samples, one stage a cycle, and what makes features of the skips; raw (B, T) -> sequence (B, T, D)."""

    layout: Layout = "sequence"

    def __init__(self, sizes: WaveNet) -> None:
        super().__init__()
        self.width = sizes.skip
        cycles = {f"cycle{i + 1}": Cycle(sizes) for i in range(sizes.cycles)}
        self.stages = nn.ModuleDict({"samples": Samples(sizes), **cycles, "skips": Skips(sizes)})


class Samples(nn.Module):
    """Vectors of mu-law classes and empty skips side by side: raw (B, T) -> sequence (B, T, C + S)."""

    def __init__(self, sizes: WaveNet) -> None:
        super().__init__()
        self.table = nn.Embedding(CLASSES, sizes.width)
        self.skip = sizes.skip
        levels = torch.linspace(-1, 1, CLASSES)[:, None] * torch.linspace(0.25, 4, sizes.width)
        self.table.weight.data = torch.sin(levels * torch.pi)  # neighbouring classes begin alike, which rare loud ones need

    def forward(self, features: Features) -> Features:
        """Return the sequence."""
        x_BTC = self.table(mu_law(features.tensor))
        return features.with_tensor(F.pad(x_BTC, (0, self.skip)), "sequence")


class Cycle(nn.Module):
    """Layers of dilation 1, 2, 4, …: (B, T, C + S) -> the same, the skips added up."""

    def __init__(self, sizes: WaveNet) -> None:
        super().__init__()
        self.split = [sizes.width, sizes.skip]
        self.layers = nn.ModuleList(GatedLayer(sizes, 2**i) for i in range(sizes.depth))

    def forward(self, features: Features) -> Features:
        """Run the layers."""
        x_BTC, skip_BTS = features.tensor.split(self.split, -1)
        for layer in self.layers:
            x_BTC, skip_BTS = layer(x_BTC, skip_BTS)
        return features.with_tensor(torch.cat([x_BTC, skip_BTS], -1))


class GatedLayer(Recalling):
    """A convolution over this sample and the one `dilation` before it, gated: tanh times sigmoid (equation 2 of the paper)."""

    def __init__(self, sizes: WaveNet, dilation: int) -> None:
        super().__init__()
        self.dilation, self.split = dilation, [sizes.width, sizes.skip]
        self.taps = nn.Linear(2 * sizes.width, 2 * sizes.width)
        self.out = nn.Linear(sizes.width, sizes.width + sizes.skip)
        nn.init.normal_(self.out.weight, std=0.5 / (sizes.width * sizes.depth * sizes.cycles) ** 0.5)

    def forward(self, x_BTC: Tensor, skip_BTS: Tensor) -> tuple[Tensor, Tensor]:
        """Return the residual stream and the skips, each with this layer's part added."""
        signal, gate = self.taps(torch.cat([self._past(x_BTC), x_BTC], -1)).chunk(2, -1)
        more_BTC, more_BTS = self.out(signal.tanh() * gate.sigmoid()).split(self.split, -1)
        return x_BTC + more_BTC, skip_BTS + more_BTS

    def _past(self, x_BTC: Tensor) -> Tensor:
        """Return what came `dilation` positions before each one, zeros before the beginning."""
        length = x_BTC.shape[1]
        if self.memory is None:
            return F.pad(x_BTC, (0, 0, self.dilation, 0))[:, :length]
        if "queue" not in self.memory:
            self.memory["queue"], self.memory["place"] = x_BTC.new_zeros(self.dilation, x_BTC.shape[0], x_BTC.shape[2]), 0
        queue_QBC, place = self.memory["queue"], self.memory["place"]
        past = []
        for x_BC in x_BTC.unbind(1):
            past.append(queue_QBC[place].clone())
            queue_QBC[place] = x_BC
            place = (place + 1) % self.dilation
        self.memory["place"] = place
        return torch.stack(past, 1)


class Skips(nn.Module):
    """Rectified sum of the skips and one layer: (B, T, C + S) -> sequence (B, T, S)."""

    def __init__(self, sizes: WaveNet) -> None:
        super().__init__()
        self.skip = sizes.skip
        self.out = nn.Linear(sizes.skip, sizes.skip)

    def forward(self, features: Features) -> Features:
        """Return the sequence."""
        return features.with_tensor(F.relu(self.out(F.relu(features.tensor[..., -self.skip :]))))
