"""Parts of transformer encoders over tokens, as stages; padding is never attended to.

A. Vaswani et al., "Attention Is All You Need", 2017. Query, key and value come from one matrix product.

Shapes: B texts, T positions, D channels, H heads, E = D / H.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretune.architectures.layers.attention import attend
from pretune.kernels.dropout import DropAdd
from pretune.types import Features


class Embeddings(nn.Module):
    """Word, position and type vectors, added, normed and dropped out: ids (B, T) -> sequence (B, T, D).

    `separator` is the id that ends the first of two texts: what comes after it is of type 1.
    """

    def __init__(
        self, vocabulary: int, width: int, positions: int, types: int, dropout: float, epsilon: float, separator: int | None
    ) -> None:
        super().__init__()
        self.word = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(positions, width)
        self.segment = nn.Embedding(types, width) if types else None
        self.norm = nn.LayerNorm(width, epsilon)
        self.dropout = nn.Dropout(dropout)
        self.separator = separator
        for table in (self.word, self.position, *([self.segment] if self.segment else [])):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, features: Features) -> Features:
        """Return the embedded tokens; the mask travels on."""
        ids_BT = features.tensor
        length, most = ids_BT.shape[1], self.position.num_embeddings
        if length > most:
            raise ValueError(f"{length} tokens are more than the {most} positions of this network: cut texts (max_tokens={most})")
        x_BTD = self.word(ids_BT) + self.position.weight[:length]
        if self.segment is not None:
            x_BTD = x_BTD + self._types(ids_BT)
        x_BTD = self.dropout(self.norm(x_BTD))
        if torch.is_autocast_enabled(x_BTD.device.type):  # else the residual stream stays in float32 and every layer casts it
            x_BTD = x_BTD.to(torch.get_autocast_dtype(x_BTD.device.type))
        return features.with_tensor(x_BTD, "sequence")

    def _types(self, ids_BT: Tensor) -> Tensor:
        assert self.segment is not None
        if self.separator is None or self.segment.num_embeddings < 2:
            return self.segment.weight[0]
        ends_BT = (ids_BT == self.separator).int()
        return self.segment((ends_BT.cumsum(1) > ends_BT).long())


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward network; normed after each addition, or before each branch with `pre_norm`."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float, epsilon: float, *, pre_norm: bool) -> None:
        super().__init__()
        self.heads, self.pre_norm, self.attention_dropout = heads, pre_norm, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, epsilon)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)
        self.feed_norm = nn.LayerNorm(width, epsilon)
        self.drop_add = DropAdd(dropout)
        for layer in (self.qkv, self.out, self.up, self.down):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Features) -> Features:
        """Return (B, T, D)."""
        x_BTD, mask = features.tensor, features.mask
        if self.pre_norm:
            x_BTD = self.drop_add(self._attend(self.attention_norm(x_BTD), mask), x_BTD)
            return features.with_tensor(self.drop_add(self._feed(self.feed_norm(x_BTD)), x_BTD))
        x_BTD = self.attention_norm(self.drop_add(self._attend(x_BTD, mask), x_BTD))
        return features.with_tensor(self.feed_norm(self.drop_add(self._feed(x_BTD), x_BTD)))

    def _feed(self, x_BTD: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x_BTD)))

    def _attend(self, x_BTD: Tensor, mask_BT: Tensor | None) -> Tensor:
        mask_BT = None if mask_BT is None or bool(mask_BT.all()) else mask_BT
        return self.out(attend(self.qkv(x_BTD), self.heads, mask_BT, self.attention_dropout if self.training else 0.0))


class Norm(nn.Module):
    """A final layer norm as a stage."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, features: Features) -> Features:
        """Return (B, T, D)."""
        return features.with_tensor(self.norm(features.tensor))
