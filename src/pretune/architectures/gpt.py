"""GPT-2: a causal transformer over tokens, to be pretrained by predicting the next one.

A. Radford et al., "Language Models are Unsupervised Multitask Learners", 2019. Its outputs equal those of `transformers`'
GPT-2 with `activation_function="gelu"`: the exact function takes a fifth of the time of its approximation by tanh.

Shapes: B texts, T positions, D channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretune.architectures._base import Architecture, Network
from pretune.architectures.layers.attention import attend_to_memory
from pretune.architectures.layers.memory import Recalling
from pretune.config import Within
from pretune.kernels.attention import attention
from pretune.types import Features, Layout


@dataclass(frozen=True, kw_only=True)
class Gpt(Architecture):
    """The sizes of a GPT; its tokenizer is made from the training texts and loses nothing of them."""

    modality: ClassVar[str] = "text"
    multiples: ClassVar[tuple[tuple[str, str], ...]] = (("width", "heads"),)
    pooling: ClassVar[str] = "mean"
    layered: ClassVar[bool] = True
    probing: ClassVar[str | None] = "layers"

    vocabulary: Annotated[int, Within(1)] = 8_000
    """Entries of the table of tokens."""
    units: Literal["word", "piece", "unigram", "character"] = "piece"
    """What texts are cut into."""
    width: Annotated[int, Within(1)] = 128
    """Channels."""
    layers: Annotated[int, Within(1)] = 4
    """Transformer layers."""
    heads: Annotated[int, Within(1)] = 4
    """Attention heads; they divide the channels."""
    dropout: Annotated[float, Within(0, 0.9)] = 0.0
    """Share of values dropped in training, attention weights included."""
    max_tokens: Annotated[int, Within(4)] = 128
    """Tokens of a block, and rows of the position table."""

    def causal(self) -> bool:
        """Return whether no position sees what comes after it: none does."""
        return True

    def preprocessing(self) -> dict[str, Any]:
        """Return the text settings."""
        sizes = {"vocabulary": self.vocabulary, "max_tokens": self.max_tokens, "positions": self.max_tokens}
        return {**sizes, "units": self.units, "verbatim": True}

    def build(self) -> GptNetwork:
        """Return the network with randomly initialised weights."""
        return GptNetwork(self)


class GptNetwork(Network):
    """Ordered `stages`: embeddings, one stage a layer, and the final norm; ids (B, T) -> sequence (B, T, D)."""

    layout: Layout = "sequence"

    def __init__(self, sizes: Gpt) -> None:
        super().__init__()
        self.width = sizes.width
        layers = {f"layer{i + 1}": GptLayer(sizes) for i in range(sizes.layers)}
        self.stages = nn.ModuleDict({"embeddings": GptEmbedding(sizes), **layers, "norm": GptNorm(sizes.width)})


class GptEmbedding(Recalling):
    """Token and position vectors: ids (B, T) -> sequence (B, T, D)."""

    takes_padding: ClassVar[bool] = True

    def __init__(self, sizes: Gpt) -> None:
        super().__init__()
        self.word = nn.Embedding(sizes.vocabulary, sizes.width)
        self.position = nn.Embedding(sizes.max_tokens, sizes.width)
        self.dropout = nn.Dropout(sizes.dropout)
        for table in (self.word, self.position):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, features: Features) -> Features:
        """Return the vectors; positions go on from those that are remembered."""
        length, most = features.tensor.shape[1], self.position.num_embeddings
        start = 0 if self.memory is None else self.memory.get("seen", 0)
        if start + length > most:
            raise ValueError(f"{start + length} tokens are more than the {most} positions of this network")
        positions = self.position.weight[start : start + length]
        if self.memory is not None:
            self.memory["seen"] = start + length
            if features.mask is not None:
                self.memory["before"] = (~features.mask).sum(1)
            if "before" in self.memory:  # padding stands before some texts, which begin at position 0 all the same
                places_BT = torch.arange(start, start + length, device=positions.device) - self.memory["before"][:, None]
                positions = self.position(places_BT.clamp(min=0))
        x_BTD = self.dropout(self.word(features.tensor) + positions)
        if torch.is_autocast_enabled(x_BTD.device.type):  # else the residual stream stays in float32 and every layer casts it
            x_BTD = x_BTD.to(torch.get_autocast_dtype(x_BTD.device.type))
        return features.with_tensor(x_BTD, "sequence")


class GptLayer(Recalling):
    """Causal self-attention and a feed-forward network, each normed before and added after."""

    takes_padding: ClassVar[bool] = True

    def __init__(self, sizes: Gpt) -> None:
        super().__init__()
        self.heads, self.dropout = sizes.heads, sizes.dropout
        self.attention_norm = nn.LayerNorm(sizes.width)
        self.qkv = nn.Linear(sizes.width, 3 * sizes.width)
        self.out = nn.Linear(sizes.width, sizes.width)
        self.feed_norm = nn.LayerNorm(sizes.width)
        self.up = nn.Linear(sizes.width, 4 * sizes.width)
        self.down = nn.Linear(4 * sizes.width, sizes.width)
        for layer in (self.qkv, self.out, self.up, self.down):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        for branch in (self.out, self.down):  # each adds to the residual stream
            nn.init.normal_(branch.weight, std=0.02 / (2 * sizes.layers) ** 0.5)

    def forward(self, features: Features) -> Features:
        """Return (B, T, D)."""
        x_BTD = features.tensor
        x_BTD = x_BTD + self._dropped(self.out(self._attend(self.attention_norm(x_BTD), features.mask)))
        x_BTD = x_BTD + self._dropped(self.down(F.gelu(self.up(self.feed_norm(x_BTD)))))
        return features.with_tensor(x_BTD)

    def _attend(self, x_BTD: Tensor, real_BT: Tensor | None) -> Tensor:
        qkv = self.qkv(x_BTD).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if self.memory is None:
            return attention(qkv, None, self.dropout if self.training else 0.0, causal=True)
        return attend_to_memory(self.memory, *qkv.unbind(0), real_BT)

    def _dropped(self, x_BTD: Tensor) -> Tensor:
        return F.dropout(x_BTD, self.dropout, self.training) if self.dropout else x_BTD


class GptNorm(nn.Module):
    """The final norm as a stage."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, features: Features) -> Features:
        """Return (B, T, D)."""
        return features.with_tensor(self.norm(features.tensor))
