"""Llama: a causal transformer with rotary positions, grouped queries and gated feed-forward networks.

H. Touvron et al., "LLaMA: Open and Efficient Foundation Language Models", 2023; J. Su et al., "RoFormer", 2021;
J. Ainslie et al., "GQA", 2023; N. Shazeer, "GLU Variants Improve Transformer", 2020. Its features equal those of `transformers`.

Padding follows the tokens and no token sees what comes after it, so padding needs no mask.

Shapes: B texts, T positions, D channels, H heads, K heads of keys and values, E channels a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretune.architectures._base import Architecture, Network
from pretune.architectures.layers.attention import attend_to_memory
from pretune.architectures.layers.memory import Recalling, length_of
from pretune.config import Within
from pretune.kernels.attention import attention
from pretune.types import Features, Layout


@dataclass(frozen=True, kw_only=True)
class Llama(Architecture):
    """The sizes of a Llama; the defaults are those of SmolLM2-135M."""

    modality: ClassVar[str] = "text"
    multiples: ClassVar[tuple[tuple[str, str], ...]] = (("width", "heads"), ("heads", "groups"))
    pooling: ClassVar[str] = "last"
    layered: ClassVar[bool] = True
    probing: ClassVar[str | None] = "layers"

    vocabulary: Annotated[int, Within(1)] = 49152
    """Rows of the table of word pieces."""
    width: Annotated[int, Within(1)] = 576
    """Channels."""
    layers: Annotated[int, Within(1)] = 30
    """Transformer layers."""
    heads: Annotated[int, Within(1)] = 9
    """Heads of queries; they divide the channels."""
    groups: Annotated[int, Within(1)] = 3
    """Heads of keys and values; they divide the heads of queries."""
    hidden: Annotated[int, Within(1)] = 1536
    """Units of each feed-forward network."""
    base: Annotated[float, Within(1)] = 100_000.0
    """Longest period of the rotary positions."""
    epsilon: Annotated[float, Within(0, 1)] = 1e-5
    """Added to the mean square in norms."""
    positions: Annotated[int, Within(4)] = 8192
    """Tokens it was trained on."""
    max_tokens: Annotated[int, Within(4)] = 512
    """Tokens a text is cut to."""

    def causal(self) -> bool:
        """Return whether no position sees what comes after it: none does."""
        return True

    def preprocessing(self) -> dict[str, Any]:
        """Return the text settings; the tokenizer comes with the weights."""
        return {"max_tokens": self.max_tokens, "positions": self.positions}

    def build(self) -> LlamaNetwork:
        """Return the network with randomly initialised weights."""
        return LlamaNetwork(self)


class LlamaNetwork(Network):
    """Ordered `stages`: embeddings, one stage a layer, and the final norm; ids (B, T) -> sequence (B, T, D)."""

    layout: Layout = "sequence"

    def __init__(self, sizes: Llama) -> None:
        super().__init__()
        self.width = sizes.width
        layers = {f"layer{i + 1}": LlamaLayer(sizes) for i in range(sizes.layers)}
        self.stages = nn.ModuleDict({"embeddings": LlamaEmbedding(sizes.vocabulary, sizes.width), **layers, "norm": LlamaNorm(sizes)})


class LlamaEmbedding(nn.Module):
    """Word vectors: ids (B, T) -> sequence (B, T, D)."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.word = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.word.weight, std=0.02)

    def forward(self, features: Features) -> Features:
        """Return the vectors; the mask travels on."""
        return features.with_tensor(self.word(features.tensor), "sequence")


class LlamaLayer(Recalling):
    """Causal self-attention and a gated feed-forward network, each normed before and added after."""

    takes_padding: ClassVar[bool] = True

    def __init__(self, sizes: Llama) -> None:
        super().__init__()
        self.heads, self.groups, self.base = sizes.heads, sizes.groups, sizes.base
        each = sizes.width // sizes.heads
        self.attention_norm = nn.RMSNorm(sizes.width, sizes.epsilon)
        self.qkv = nn.Linear(sizes.width, each * (sizes.heads + 2 * sizes.groups), bias=False)
        self.out = nn.Linear(each * sizes.heads, sizes.width, bias=False)
        self.feed_norm = nn.RMSNorm(sizes.width, sizes.epsilon)
        self.gate_up = nn.Linear(sizes.width, 2 * sizes.hidden, bias=False)
        self.down = nn.Linear(sizes.hidden, sizes.width, bias=False)
        for layer in (self.qkv, self.out, self.gate_up, self.down):
            nn.init.normal_(layer.weight, std=0.02)

    def forward(self, features: Features) -> Features:
        """Return (B, T, D)."""
        x_BTD = features.tensor
        x_BTD = x_BTD + self._attend(self.attention_norm(x_BTD), features.mask)
        gate, up = self.gate_up(self.feed_norm(x_BTD)).chunk(2, -1)
        return features.with_tensor(x_BTD + self.down(F.silu(gate) * up))

    def _attend(self, x_BTD: Tensor, real_BT: Tensor | None) -> Tensor:
        qkv = self.qkv(x_BTD).unflatten(-1, (self.heads + 2 * self.groups, -1)).transpose(1, 2)
        q, k, v = qkv.split([self.heads, self.groups, self.groups], 1)
        start = length_of(self.memory, "k")
        q, k = rotated(q, self.base, start), rotated(k, self.base, start)
        if self.memory is not None:
            return self.out(attend_to_memory(self.memory, q, k, v, real_BT))
        k, v = (part.repeat_interleave(self.heads // self.groups, 1) for part in (k, v))
        return self.out(attention(torch.stack([q, k, v]), None, 0.0, causal=True))


class LlamaNorm(nn.Module):
    """The final norm as a stage."""

    def __init__(self, sizes: Llama) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(sizes.width, sizes.epsilon)

    def forward(self, features: Features) -> Features:
        """Return (B, T, D)."""
        return features.with_tensor(self.norm(features.tensor))


def rotated(x_BHTE: Tensor, base: float, start: int = 0) -> Tensor:
    """Return heads turned by their positions, which begin at `start`: channel i and i + E/2 by T / base^(2i/E)."""
    length, half = x_BHTE.shape[2], x_BHTE.shape[3] // 2
    rates = base ** -(torch.arange(half, device=x_BHTE.device, dtype=torch.float32) / half)
    angles_TE = torch.arange(start, start + length, device=x_BHTE.device, dtype=torch.float32)[:, None] * rates
    cosine, sine = angles_TE.cos().to(x_BHTE.dtype), angles_TE.sin().to(x_BHTE.dtype)
    first, second = x_BHTE[..., :half], x_BHTE[..., half:]
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1)
