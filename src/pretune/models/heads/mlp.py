"""Hidden layers with GELU and dropout before the outputs, for features that are not linearly separable."""

from dataclasses import dataclass
from typing import Annotated

from torch import nn

from pretune.config import Within
from pretune.models.heads._base import Head, HeadModule


@dataclass(frozen=True, kw_only=True)
class MLP(Head):
    """A multilayer perceptron head."""

    hidden: Annotated[int, Within(1)] = 256
    """Units of each hidden layer."""
    layers: Annotated[int, Within(1, 8)] = 1
    """Hidden layers."""
    dropout: Annotated[float, Within(0, 0.95)] = 0.1
    """Fraction of the hidden units dropped in training."""

    def build(self, width: int, outputs: int) -> HeadModule:
        """Return the head; its last layer starts at zero."""
        stack: list[nn.Module] = []
        for i in range(self.layers):
            stack += [nn.Linear(width if i == 0 else self.hidden, self.hidden), nn.GELU(), nn.Dropout(self.dropout)]
        last = nn.Linear(self.hidden, outputs)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        return HeadModule(width, nn.Sequential(*stack, last))
