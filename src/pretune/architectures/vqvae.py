"""A small convolutional encoder of images, to be pretrained as the first half of a VQ-VAE.

A. van den Oord et al., "Neural Discrete Representation Learning", 2017.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from torch import nn

from pretune.architectures._base import Architecture, MapStage, Network
from pretune.architectures.layers.residual import Residual
from pretune.config import Within
from pretune.types import Layout


@dataclass(frozen=True, kw_only=True)
class VQVAE(Architecture):
    """The sizes of the encoder."""

    modality: ClassVar[str] = "image"

    size: Annotated[int, Within(16, 1024)] = 32
    """Side of the images in pixels."""
    width: Annotated[int, Within(2)] = 96
    """Channels."""
    halvings: Annotated[int, Within(1, 5)] = 2
    """How often the resolution is halved."""
    depth: Annotated[int, Within(0)] = 2
    """Residual blocks at the end."""

    def preprocessing(self) -> dict[str, Any]:
        """Return image settings: values about -1 to 1."""
        half = (0.5, 0.5, 0.5)
        return {"size": self.size, "resize": self.size, "interpolation": "bilinear", "mean": half, "std": half}

    def build(self) -> VQVAENetwork:
        """Return the network with randomly initialised weights."""
        return VQVAENetwork(self)


class VQVAENetwork(Network):
    """Ordered `stages`, one a halving, then the residual blocks: map (B, 3, H, W) -> map (B, D, h, w)."""

    layout: Layout = "map"

    def __init__(self, sizes: VQVAE) -> None:
        super().__init__()
        self.width = sizes.width
        inputs = [3, *(sizes.width for _ in range(sizes.halvings))]
        halves = {
            f"half{i + 1}": MapStage(nn.Conv2d(inputs[i], sizes.width, 4, 2, 1), nn.GELU() if i + 1 < sizes.halvings else nn.Identity())
            for i in range(sizes.halvings)
        }
        self.stages = nn.ModuleDict({**halves, "blocks": MapStage(*(Residual(sizes.width, planar=True) for _ in range(sizes.depth)))})
