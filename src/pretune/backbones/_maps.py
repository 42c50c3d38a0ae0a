"""A network that returns several maps at once, as one stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from pretune.types import Features, Layout


class KeptMaps(nn.Module):
    """Runs a network and keeps all its maps for the detector that takes them; the last one is its output."""

    def __init__(self, network: nn.Module, maps: Callable[[Any], Sequence[Tensor]], layout: Layout = "map") -> None:
        super().__init__()
        self.network, self.maps = network, maps
        self.layout: Layout = layout

    def forward(self, features: Features) -> Features:
        """Return the last map, with all of them as levels."""
        found = tuple(self.maps(self.network(features.tensor)))
        return replace(features, tensor=found[-1], layout=self.layout, levels=found)
