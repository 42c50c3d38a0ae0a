"""A small transformer over the codes of an autoencoder, class by class: what draws new ones.

Shapes: B examples, T codes of each, K codes there are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretune.architectures.gpt import Gpt
from pretune.architectures.layers.memory import remembering
from pretune.models.sampling import sample_index
from pretune.objectives._sampling import Wanted
from pretune.types import Features


class Prior(nn.Module):
    """A GPT whose first token is the class (one more stands for none); it predicts all codes of an example in order."""

    def __init__(self, codes: int, classes: int, length: int, *, width: int = 128, layers: int = 3) -> None:
        super().__init__()
        sizes = Gpt(vocabulary=codes + classes + 1, width=width, layers=layers, heads=4, dropout=0.1, max_tokens=max(4, length))
        self.network = sizes.build()
        self.head = nn.Linear(width, codes)
        self.count, self.classes, self.length = codes, classes, length

    def forward(self, codes_BT: Tensor, targets_B: Tensor | None) -> Tensor:
        """Return the mean cross-entropy in nats a code."""
        begin_B = torch.full_like(codes_BT[:, 0], self.classes) if targets_B is None or not self.classes else targets_B
        ids_BT = torch.cat([self.count + begin_B[:, None], codes_BT[:, :-1]], 1)
        logits_BTK = self.head(self.network(Features(tensor=ids_BT, layout="raw")).tensor)
        return F.cross_entropy(logits_BTK.flatten(0, 1).float(), codes_BT.flatten())

    @torch.no_grad()
    def draw(self, begin_B: Tensor, wanted: Wanted) -> Tensor:
        """Return codes (B, T) of examples of these classes; each is computed once."""
        generator = torch.Generator().manual_seed(wanted.seed)
        new_B1, written = self.count + begin_B[:, None], []
        with remembering(self.network):
            for _ in range(self.length):
                x_BD = self.network(Features(tensor=new_B1, layout="raw")).tensor[:, -1]
                new_B1 = sample_index(self.head(x_BD), wanted, generator)[:, None]
                written.append(new_B1)
        return torch.cat(written, 1)
