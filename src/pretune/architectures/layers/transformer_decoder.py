"""A small transformer decoder that reads what an encoder made: causal self-attention, cross-attention, feed-forward.

A. Vaswani et al., "Attention Is All You Need", 2017; normed before each branch. Shapes: B texts, S and T positions of what is
read and what is written, D channels, H heads, E channels of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretune.architectures.layers.attention import attend, causal_mask
from pretune.architectures.layers.memory import Recalling, extended
from pretune.kernels.dropout import DropAdd


class TransformerDecoder(Recalling):
    """Token vectors (B, T, D) and an encoder's features (B, S, E) -> features (B, T, D).

    With a memory it takes what was written since the last call, and the encoder's features are looked at once.
    """

    def __init__(self, width: int, reads: int, layers: int, positions: int, dropout: float = 0.0) -> None:
        """Make it.

        Args:
            width: D, of the table of tokens.
            reads: E.
            layers: number of layers.
            positions: T at most.
            dropout: share of values dropped in training.
        """
        super().__init__()
        self.position = nn.Embedding(positions, width)
        self.bridge = nn.Linear(reads, width) if reads != width else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(_DecoderLayer(width, layers, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.position.weight, std=0.02)

    def forward(self, x_BTD: Tensor, read_BSE: Tensor, real_BS: Tensor | None = None) -> Tensor:
        """Return features (B, T, D).

        Args:
            x_BTD: vectors of what is written.
            read_BSE: what the encoder made.
            real_BS: True where that is no padding; None where all is real.
        """
        start = 0 if self.memory is None else self.memory.get("seen", 0)
        if self.memory is not None:
            self.memory["seen"] = start + x_BTD.shape[1]
        x_BTD = self.dropout(x_BTD + self.position.weight[start : start + x_BTD.shape[1]])
        if torch.is_autocast_enabled(x_BTD.device.type):  # else the residual stream stays in float32 and every layer casts it
            x_BTD = x_BTD.to(torch.get_autocast_dtype(x_BTD.device.type))
        read_BSD = None if start else self.bridge(read_BSE)
        real_BS = None if real_BS is None or bool(real_BS.all()) else real_BS
        for layer in self.layers:
            x_BTD = layer(x_BTD, read_BSD, real_BS)
        return self.norm(x_BTD)


class _DecoderLayer(Recalling):
    def __init__(self, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.heads = max(heads for heads in (1, 2, 4, 8) if width % heads == 0 and width // heads >= min(32, width))
        self.self_norm, self.cross_norm, self.feed_norm = (nn.LayerNorm(width) for _ in range(3))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.query, self.key_value, self.cross_out = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.drop_add = DropAdd(dropout)
        for layer in (self.qkv, self.query, self.key_value, self.up):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        for branch in (self.out, self.cross_out, self.down):  # each adds to the residual stream
            nn.init.normal_(branch.weight, std=0.02 / (3 * layers) ** 0.5)
            nn.init.zeros_(branch.bias)

    def forward(self, x_BTD: Tensor, read_BSD: Tensor | None, real_BS: Tensor | None) -> Tensor:
        x_BTD = self.drop_add(self.out(self._look_back(self.self_norm(x_BTD))), x_BTD)
        x_BTD = self.drop_add(self.cross_out(self._look_across(self.cross_norm(x_BTD), read_BSD, real_BS)), x_BTD)
        return self.drop_add(self.down(F.gelu(self.up(self.feed_norm(x_BTD)), approximate="tanh")), x_BTD)

    def _look_back(self, x_BTD: Tensor) -> Tensor:
        """Return what attention to earlier positions gives (B, T, D)."""
        if self.memory is None:
            return attend(self.qkv(x_BTD), self.heads, None, 0.0, causal=True)
        q, k, v = self._split(self.qkv(x_BTD), 3)
        k, v = extended(self.memory, "k", k, 2), extended(self.memory, "v", v, 2)
        seen = causal_mask(q, k)
        return _joined(F.scaled_dot_product_attention(q, k, v, attn_mask=seen, is_causal=seen is None))

    def _look_across(self, x_BTD: Tensor, read_BSD: Tensor | None, real_BS: Tensor | None) -> Tensor:
        """Return what attention to what is read gives (B, T, D); its keys and values stay the same while a text is written."""
        (q,) = self._split(self.query(x_BTD), 1)
        if self.memory is not None and "k_read" in self.memory:
            k, v, real_BS = self.memory["k_read"], self.memory["v_read"], self.memory["real"]
        else:
            assert read_BSD is not None, "what is read is needed once"
            k, v = self._split(self.key_value(read_BSD), 2)
            if self.memory is not None:
                self.memory |= {"k_read": k, "v_read": v, "real": real_BS}
        mask = None if real_BS is None else real_BS[:, None, None]
        if q.dtype is torch.bfloat16 and torch.is_grad_enabled() and q.device.type == "cpu":
            return _joined(_plain_attention(q, k, v, mask))
        return _joined(F.scaled_dot_product_attention(q, k, v, attn_mask=mask))

    def _split(self, x_BTX: Tensor, parts: int) -> tuple[Tensor, ...]:
        return tuple(part.transpose(1, 2) for part in x_BTX.unflatten(-1, (parts, self.heads, -1)).unbind(2))


def _plain_attention(q_BHTE: Tensor, k_BHSE: Tensor, v_BHSE: Tensor, mask: Tensor | None) -> Tensor:
    """Return attention step by step: on CPUs the gradient of PyTorch's own is slow in bfloat16 (kernels/attention.py)."""
    scores_BHTS = (q_BHTE * q_BHTE.shape[-1] ** -0.5) @ k_BHSE.transpose(2, 3)
    if mask is not None:
        scores_BHTS = scores_BHTS.masked_fill(~mask, -torch.inf)
    return scores_BHTS.softmax(-1).to(v_BHSE.dtype) @ v_BHSE


def _joined(x_BHTE: Tensor) -> Tensor:
    return x_BHTE.transpose(1, 2).flatten(2)
