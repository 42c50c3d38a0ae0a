"""What a head is, and the standardisation that all heads share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from pretune.labels import Outputs, Ragged
from pretune.registry import Component
from pretune.types import Features

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pretune.backbones import Backbone
    from pretune.models.pyramid import Level


class HeadModule(nn.Module):
    """Standardises pooled features by fitted statistics, then applies the head's layers.

    Pretrained features differ by orders of magnitude between channels; a linear layer on standardised
    ones converges in a few epochs at one learning rate for all backbones. Until `fit` is called the
    statistics are the identity.
    """

    layered: ClassVar[bool] = False
    """Whether its matrices lie between hidden layers of its own, which Muon makes orthogonal; scores come from another table."""
    mean: Tensor
    scale: Tensor
    pretrained: bool = False
    """Whether it begins with weights that were trained together with the backbone's: it takes no probe, and is adapted as stages are."""

    def __init__(self, width: int, layers: nn.Module) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.layers = layers

    @torch.no_grad()
    def fit(self, features_ND: Tensor) -> None:
        """Take mean and deviation from features of the training set, (N, D)."""
        x_ND = features_ND.float()
        mean_D, deviation_D = x_ND.mean(0), x_ND.std(0, correction=0)  # where the features are, which may not be where the head is
        self.mean.copy_(mean_D)
        # A channel that never moves carries nothing; a scale of 0 silences it instead of blowing up noise.
        self.scale.copy_(torch.where(deviation_D > 1e-6 * (1 + mean_D.abs()), 1 / deviation_D.clamp(min=1e-12), 0.0))

    def forward(self, features: Features) -> Any:
        """Return outputs in float32: (B, outputs), or (B, T, outputs) for each position."""
        return self.layers((features.tensor.float() - self.mean) * self.scale)

    def sized(self, head: Any) -> Any:
        """Return the settings of the head that this was built by with its own sizes in them, by which a saved run builds it again."""
        return head

    def real(self, mask_BT: Tensor) -> Tensor:
        """Return which outputs of a sequence are of real positions, (B, T); a head that joins positions has fewer outputs."""
        return mask_BT

    def predict(self, features: Features) -> Outputs:
        """Return outputs (B, outputs); of a sequence those of its real positions, ragged."""
        out = self(features)
        if features.layout != "sequence":
            return out
        mask = features.mask
        return Ragged.unpadded(out, out.new_ones(out.shape[:2], dtype=torch.bool) if mask is None else self.real(mask))


@dataclass(frozen=True, kw_only=True)
class Head(Component):
    """Settings of a head; members are frozen keyword-only dataclasses named like their file. Required is `build`."""

    def on(self, backbone: Backbone) -> Head:
        """Return the head for this network: itself, unless it reads something of the network, such as its table of word pieces."""
        return self

    def build(self, width: int, outputs: int) -> HeadModule:
        """Return a new head for features of `width` channels."""
        raise TypeError(f"{type(self).__name__} must define build(width, outputs) -> HeadModule")

    def build_dense(self, levels: Sequence[Level], backbone: Backbone, outputs: int) -> HeadModule:
        """Return a new head for the pyramid of a backbone, which may bring a detector of its own."""
        raise TypeError(f"{type(self).__name__} takes no pyramids")
