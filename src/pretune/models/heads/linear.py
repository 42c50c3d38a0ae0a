"""One linear layer on standardised features; starts at zero, so that it starts at the prior."""

from dataclasses import dataclass
from typing import Annotated, Literal

from torch import nn

from pretune.config import Within
from pretune.models.heads._base import Head, HeadModule


@dataclass(frozen=True, kw_only=True)
class Linear(Head):
    """A linear head."""

    dropout: Annotated[float, Within(0, 0.95)] = 0.0
    """Fraction of the features dropped in training."""
    solver: Literal["auto", "exact", "steps"] = "auto"
    """exact: L2-regularised logistic or ridge regression, its strength by cross-validation; steps: the training loop; auto: exact
    where the head alone learns, on cached features, and no setting of the training loop is given."""

    def build(self, width: int, outputs: int) -> HeadModule:
        """Return the head with zero weights."""
        layer = nn.Linear(width, outputs)
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
        return HeadModule(width, nn.Sequential(nn.Dropout(self.dropout), layer) if self.dropout else layer)
