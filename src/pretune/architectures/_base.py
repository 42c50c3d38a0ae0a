"""What an architecture of our own is: sizes as settings, a network as ordered stages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from pretune.registry import Component
from pretune.types import Features, Layout


class Network(nn.Module):
    """What `build` returns: ordered stages, Features -> Features. Each network sets `stages`, `layout` and `width`."""

    stages: nn.ModuleDict
    layout: Layout
    """Of the last stage's output."""
    width: int
    """Channels D of the last stage's output."""

    def forward(self, features: Features) -> Features:
        """Run all stages."""
        for stage in self.stages.values():
            features = stage(features)
        return features


@dataclass(frozen=True, kw_only=True)
class Architecture(Component):
    """The sizes of a network; members are frozen keyword-only dataclasses named like their file. Required are `modality` and `build`."""

    modality: ClassVar[str]
    """Public name of the modality it takes."""
    pooling: ClassVar[str] = "mean"
    """How its features are best made into one vector: mean, mean_std, first, last, max."""
    layered: ClassVar[bool] = False
    """Whether every stage gives a sequence of one width, so that `pooling=layers` can take them all."""
    probing: ClassVar[str | None] = None
    """The pooling where nothing but a head is learned; None for `pooling`."""
    multiples: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Pairs of sizes of which the first must be a multiple of the second."""

    def causal(self) -> bool:
        """Return whether no position sees what comes after it, so that the network can write."""
        return False

    def preprocessing(self) -> dict[str, Any]:
        """Return the modality's settings that the network is made for; the others have their defaults."""
        return {}

    def build(self) -> Network:
        """Return the network with randomly initialised weights."""
        raise TypeError(f"{type(self).__name__} must define build() -> Network")


class MapStage(nn.Sequential):
    """Layers in a row as a stage of an image network: map in, map out."""

    def forward(self, features: Features) -> Features:  # type: ignore[override]
        """Return map (B, C, H, W)."""
        x_BCHW = features.tensor
        for layer in self:
            x_BCHW = layer(x_BCHW)
        return features.with_tensor(x_BCHW, "map")
