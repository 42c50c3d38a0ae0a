"""Word vectors as the first stage of networks that start from randomly initialised weights."""

from __future__ import annotations

from torch import nn

from pretune.types import Features


class WordEmbedding(nn.Module):
    """A table of vectors with dropout: ids (B, T) -> sequence (B, T, D), zero at padding."""

    def __init__(self, vocabulary: int, width: int, dropout: float) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, width)
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.table.weight, std=0.1)

    def forward(self, features: Features) -> Features:
        """Return the vectors; the mask travels on."""
        x_BTD = self.dropout(self.table(features.tensor))
        return features.with_tensor(x_BTD if features.mask is None else x_BTD * features.mask[..., None], "sequence")
