"""A small transformer decoder that reads what an encoder made: causal self-attention, cross-attention, feed-forward.

A. Vaswani et al., "Attention Is All You Need", 2017; normed before each branch. Shapes: B texts, S and T positions of what is
read and what is written, D channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretune.architectures.layers.attention import causal_mask
from pretune.architectures.layers.memory import Recalling, extended


class TransformerDecoder(Recalling):
    """Token vectors (B, T, D) and an encoder's features (B, S, E) -> features (B, T, D).

    With a memory it takes what was written since the last call, and the encoder's features are looked at once.
    """

    def __init__(self, width: int, reads: int, layers: int, positions: int) -> None:
        """Make it.

        Args:
            width: D, of the table of tokens.
            reads: E.
            layers: number of layers.
            positions: T at most.
        """
        super().__init__()
        self.position = nn.Embedding(positions, width)
        self.bridge = nn.Linear(reads, width) if reads != width else nn.Identity()
        self.layers = nn.ModuleList(_DecoderLayer(width, layers) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.position.weight, std=0.02)

    def forward(self, x_BTD: Tensor, read_BSE: Tensor) -> Tensor:
        """Return features (B, T, D)."""
        start = 0 if self.memory is None else self.memory.get("seen", 0)
        if self.memory is not None:
            self.memory["seen"] = start + x_BTD.shape[1]
        x_BTD = x_BTD + self.position.weight[start : start + x_BTD.shape[1]]
        if torch.is_autocast_enabled(x_BTD.device.type):  # else the residual stream stays in float32 and every layer casts it
            x_BTD = x_BTD.to(torch.get_autocast_dtype(x_BTD.device.type))
        read_BSD = self.bridge(read_BSE)
        for layer in self.layers:
            x_BTD = layer(x_BTD, read_BSD)
        return self.norm(x_BTD)


class _DecoderLayer(Recalling):
    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.heads = max(heads for heads in (1, 2, 4, 8) if width % heads == 0 and width // heads >= min(32, width))
        self.self_norm, self.cross_norm, self.feed_norm = (nn.LayerNorm(width) for _ in range(3))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.query, self.key_value, self.cross_out = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        for layer in (self.qkv, self.query, self.key_value, self.up):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        for branch in (self.out, self.cross_out, self.down):  # each adds to the residual stream
            nn.init.normal_(branch.weight, std=0.02 / (3 * layers) ** 0.5)
            nn.init.zeros_(branch.bias)

    def forward(self, x_BTD: Tensor, read_BSD: Tensor) -> Tensor:
        q, k, v = self._split(self.qkv(self.self_norm(x_BTD)), 3)
        if self.memory is not None:
            k, v = extended(self.memory, "k", k, 2), extended(self.memory, "v", v, 2)
        seen = causal_mask(q, k)
        x_BTD = x_BTD + self.out(_joined(F.scaled_dot_product_attention(q, k, v, attn_mask=seen, is_causal=seen is None)))
        (q,), (k, v) = self._split(self.query(self.cross_norm(x_BTD)), 1), self._read(read_BSD)
        x_BTD = x_BTD + self.cross_out(_joined(F.scaled_dot_product_attention(q, k, v)))
        return x_BTD + self.down(F.gelu(self.up(self.feed_norm(x_BTD)), approximate="tanh"))

    def _read(self, read_BSD: Tensor) -> tuple[Tensor, ...]:
        """Return keys and values of what is read; they stay the same while a text is written."""
        if self.memory is None:
            return self._split(self.key_value(read_BSD), 2)
        if "read" not in self.memory:
            self.memory["read"] = self._split(self.key_value(read_BSD), 2)
        return self.memory["read"]

    def _split(self, x_BTX: Tensor, parts: int) -> tuple[Tensor, ...]:
        return tuple(part.transpose(1, 2) for part in x_BTX.unflatten(-1, (parts, self.heads, -1)).unbind(2))


def _joined(x_BHTE: Tensor) -> Tensor:
    return x_BHTE.transpose(1, 2).flatten(2)
