"""A residual linear map that starts as the identity, for embeddings: before training they are those of the backbone."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from pretune.models.heads._base import Head, HeadModule
from pretune.types import Features


class ProjectionModule(HeadModule):
    """Adds a linear map of the pooled features to them, and normalises the sum to length one."""

    def fit(self, features_ND: Tensor) -> None:
        """Keep the features as they are: standardised, their cosine would be another."""

    def forward(self, features: Features) -> Tensor:
        """Return embeddings (B, D) of length one in float32."""
        x_BD = features.tensor.float()
        return F.normalize(x_BD + self.layers(x_BD), dim=-1)


@dataclass(frozen=True, kw_only=True)
class Projection(Head):
    """A projection of the backbone's width; weight decay draws it to the identity, not to zero."""

    def build(self, width: int, outputs: int) -> ProjectionModule:
        """Return the head with zero weights; its embedding has the features' width, whatever `outputs` is."""
        layer = nn.Linear(width, width, bias=False)
        nn.init.zeros_(layer.weight)
        return ProjectionModule(width, layer)
