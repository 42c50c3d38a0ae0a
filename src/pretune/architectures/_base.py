"""What an architecture of our own must do: sizes as settings, a network as ordered stages."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from torch import nn

from pretune.types import Features, Layout


class Network(Protocol):
    """What `build` returns: an nn.Module cut into ordered stages, Features -> Features."""

    stages: nn.ModuleDict
    layout: Layout
    """Of the last stage's output."""
    width: int
    """Channels D of the last stage's output."""


class Architecture(Protocol):
    """The sizes of a network; members are frozen keyword-only dataclasses named like their file."""

    component: ClassVar[bool] = True
    modality: ClassVar[str]
    """Public name of the modality it takes."""

    def preprocessing(self) -> dict[str, Any]:
        """Return the modality's settings that the network is made for."""
        ...

    def build(self) -> Network:
        """Return the network with randomly initialised weights."""
        ...


class MapStage(nn.Sequential):
    """Layers in a row as a stage of an image network: map in, map out."""

    def forward(self, features: Features) -> Features:  # type: ignore[override]
        """Return map (B, C, H, W)."""
        x_BCHW = features.tensor
        for layer in self:
            x_BCHW = layer(x_BCHW)
        return features.with_tensor(x_BCHW, "map")
