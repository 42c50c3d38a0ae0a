"""A vision transformer sized for small images; its patches can be left out, so hidden ones cost nothing.

A. Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021; without a class token and with the fixed positions of
L. Beyer et al., "Better plain ViT baselines for ImageNet-1k", 2022, so that any size of image fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from pretune.architectures._base import Architecture, Network
from pretune.architectures.layers.encoder import EncoderLayer, Norm
from pretune.config import Within
from pretune.errors import SettingError
from pretune.types import Features, Layout


@dataclass(frozen=True, kw_only=True)
class Vit(Architecture):
    """The sizes of a vision transformer; features are one vector a patch."""

    modality: ClassVar[str] = "image"
    layered: ClassVar[bool] = True

    size: Annotated[int, Within(8, 1024)] = 32
    """Side of the images in pixels."""
    patch: Annotated[int, Within(1, 64)] = 4
    """Side of a patch in pixels; it divides the size."""
    width: Annotated[int, Within(4)] = 192
    """Channels; a multiple of 4 and of the heads."""
    layers: Annotated[int, Within(1, 64)] = 6
    """Transformer layers."""
    heads: Annotated[int, Within(1)] = 3
    """Attention heads."""
    dropout: Annotated[float, Within(0, 0.9)] = 0.0
    """Share of values dropped in training."""

    def __post_init__(self) -> None:
        if self.size % self.patch:
            raise SettingError(f"vit.patch={self.patch} must divide the size of pictures, which is {self.size}.")
        if self.width % 4 or self.width % self.heads:
            raise SettingError(f"vit.width={self.width} must be a multiple of 4 and of heads={self.heads}.")

    def preprocessing(self) -> dict[str, Any]:
        """Return image settings for a network that no weights bind to others."""
        return {"size": self.size, "resize": self.size, "interpolation": "bilinear"}

    def build(self) -> VitNetwork:
        """Return the network with randomly initialised weights."""
        return VitNetwork(self)


class VitNetwork(Network):
    """Ordered `stages`: patches, one stage a layer, and the final norm; image (B, 3, H, W) -> sequence (B, T, D)."""

    layout: Layout = "sequence"

    def __init__(self, sizes: Vit) -> None:
        super().__init__()
        self.width = sizes.width
        layers = {
            f"layer{i + 1}": EncoderLayer(sizes.width, sizes.heads, 4 * sizes.width, sizes.dropout, 1e-6, pre_norm=True)
            for i in range(sizes.layers)
        }
        self.stages = nn.ModuleDict({"patches": Patches(sizes.patch, sizes.width), **layers, "norm": Norm(sizes.width)})


class Patches(nn.Module):
    """One vector a patch, with its place added; patches of a row stand side by side."""

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.patch = patch
        self.embed = nn.Linear(3 * patch * patch, width)

    def forward(self, features: Features) -> Features:
        """Return sequence (B, T, D) of an image (B, 3, H, W); what does not fill a patch is cut off."""
        x_BTP = cut(features.tensor, self.patch)
        rows, columns = (side // self.patch for side in features.tensor.shape[2:])
        x_BTD = self.embed(x_BTP)
        return features.with_tensor(x_BTD + places(rows, columns, x_BTD.shape[2]).to(x_BTD), "sequence")


def cut(x_BCHW: Tensor, patch: int) -> Tensor:
    """Return the pixels of square patches, (B, T, patch * patch * C), channels innermost; row by row."""
    rows, columns = (side // patch for side in x_BCHW.shape[2:])
    x_BHWC = x_BCHW[:, :, : rows * patch, : columns * patch].permute(0, 2, 3, 1)
    return x_BHWC.unflatten(1, (rows, patch)).unflatten(3, (columns, patch)).transpose(2, 3).flatten(3).flatten(1, 2)


def places(rows: int, columns: int, width: int) -> Tensor:
    """Return a fixed vector for each place of a grid, (rows * columns, width): sines and cosines of row and of column."""
    speed_Q = 1e4 ** -(torch.arange(width // 4) / (width // 4))
    angles = [(torch.arange(count)[:, None] * speed_Q) for count in (rows, columns)]
    row_RH, column_CH = (torch.cat([angle.sin(), angle.cos()], 1) for angle in angles)
    grid = [row_RH[:, None].expand(-1, columns, -1), column_CH[None].expand(rows, -1, -1)]
    return torch.cat(grid, 2).flatten(0, 1)
