"""Whisper's decoder: a pre-norm transformer that attends to what it has written and to an encoder's sequence.

A. Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022. Its table of tokens also scores them.

Shapes: B clips, T positions of the encoder, U tokens, D channels, V tokens of the vocabulary, H heads, E = D / H.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretune.architectures.layers.memory import Recalling, extended
from pretune.architectures.layers.token_decoder import TokenDecoder
from pretune.types import Features

if TYPE_CHECKING:
    from pretune.modalities.transforms.speech_tokens import SpeechTokens

_OPEN = -1
"""A language that nobody has chosen."""


@dataclass(frozen=True, kw_only=True)
class SpeechDecoderSizes:
    """The sizes of a decoder, and what its prompts hold."""

    vocabulary: int
    """Tokens."""
    width: int
    """Channels, those of the encoder too."""
    layers: int
    heads: int
    hidden: int
    """Channels of the feed-forward networks."""
    positions: int = 448
    """Tokens of a transcript at most, the prompt's included."""
    multilingual: bool = False
    """Whether a prompt names the language and the task."""


class SpeechDecoder(TokenDecoder):
    """Writes what is said in the language that is chosen, if the network knows several."""

    language: Tensor

    def __init__(self, sizes: SpeechDecoderSizes, tokens: SpeechTokens) -> None:
        super().__init__()
        self.sizes, self.tokens = sizes, tokens
        self.token = nn.Embedding(sizes.vocabulary, sizes.width)
        self.position = PositionTable(sizes.positions, sizes.width)
        self.layers = nn.ModuleList(SpeechDecoderLayer(sizes) for _ in range(sizes.layers))
        self.norm = nn.LayerNorm(sizes.width)
        self.register_buffer("language", torch.tensor(_OPEN))
        nn.init.normal_(self.token.weight, std=0.02)
        self.end, self.barred, self.positions = tokens.end, tokens.never, sizes.positions

    @property
    def begin(self) -> tuple[int, ...]:  # ty: ignore[incompatible-property-override]
        """Ids before a transcript: its start, the language and the task where there are several, and that no times are written."""
        return self.tokens.prompt(None if self.language < 0 else int(self.language))

    @property
    def matrix(self) -> Tensor:
        """The table of tokens (V, D), which scores them too."""
        return self.token.weight

    @property
    def undecided(self) -> bool:
        """Whether the network knows several languages, and none is chosen."""
        return bool(self.tokens.languages) and bool(self.language < 0)

    def speak(self, language: int) -> None:
        """Choose the language, by its token."""
        self.language.fill_(language)

    @torch.no_grad()
    def languages(self, encoded: Features) -> Tensor:
        """Return log-probabilities (B, L) of the languages that the network knows."""
        known = [token for _, token in self.tokens.languages]
        start_B1 = torch.full((len(encoded.tensor), 1), self.tokens.start, device=encoded.tensor.device)
        x_BD = self(start_B1, encoded)[:, -1]
        return F.linear(x_BD, self.token.weight[known]).float().log_softmax(1)

    def forward(self, ids_BT: Tensor, encoded: Features) -> Tensor:
        """Return features (B, U, D); what is padding to the encoder is attended to, as in training."""
        x_BUD = self.token(ids_BT) + self.position(ids_BT.shape[1])
        for layer in self.layers:
            x_BUD = layer(x_BUD, encoded.tensor)
        return self.norm(x_BUD)


class PositionTable(Recalling):
    """A learned vector for each position; remembering, it goes on where the last call ended."""

    def __init__(self, positions: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(positions, width))

    def forward(self, length: int) -> Tensor:
        """Return (length, D)."""
        start = 0
        if self.memory is not None:
            start = self.memory.get("length", 0)
            self.memory["length"] = start + length
        if start + length > len(self.weight):
            raise ValueError(f"{start + length} tokens are more than the decoder's {len(self.weight)} positions")
        return self.weight[start : start + length]


class SpeechDecoderLayer(nn.Module):
    """Attention to the tokens so far, attention to the encoder's sequence, and a feed-forward network, each normed before."""

    def __init__(self, sizes: SpeechDecoderSizes) -> None:
        super().__init__()
        width = sizes.width
        self.attention_norm = nn.LayerNorm(width)
        self.attention = SelfAttention(width, sizes.heads)
        self.cross_norm = nn.LayerNorm(width)
        self.cross = CrossAttention(width, sizes.heads)
        self.feed_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, sizes.hidden)
        self.down = nn.Linear(sizes.hidden, width)

    def forward(self, x_BUD: Tensor, encoded_BTD: Tensor) -> Tensor:
        """Return (B, U, D)."""
        x_BUD = x_BUD + self.attention(self.attention_norm(x_BUD))
        x_BUD = x_BUD + self.cross(self.cross_norm(x_BUD), encoded_BTD)
        return x_BUD + self.down(F.gelu(self.up(self.feed_norm(x_BUD))))


class SelfAttention(Recalling):
    """Causal attention. Whisper's keys have no bias; the one here adds the same number to all scores of a query, which softmax ignores."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x_BUD: Tensor) -> Tensor:
        """Return (B, U, D)."""
        q, k, v = self.qkv(x_BUD).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if self.memory is not None:
            k, v = extended(self.memory, "k", k, 2), extended(self.memory, "v", v, 2)
        new, known = q.shape[2], k.shape[2]
        mask = None if new in (1, known) else torch.ones(new, known, dtype=torch.bool, device=q.device).tril(known - new)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=new == known and new > 1)
        return self.out(out.transpose(1, 2).flatten(2))


class CrossAttention(Recalling):
    """Attention to an encoder's sequence, all of it: the silence after a clip was attended to in training."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x_BUD: Tensor, encoded_BTD: Tensor) -> Tensor:
        """Return (B, U, D)."""
        q_BHUE = self.q(x_BUD).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k_BHTE, v_BHTE = self.keys_and_values(encoded_BTD)
        out = F.scaled_dot_product_attention(q_BHUE, k_BHTE, v_BHTE)
        return self.out(out.transpose(1, 2).flatten(2))

    def keys_and_values(self, encoded_BTD: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values (B, H, T, E); remembering, those of the first call."""
        if self.memory:
            return self.memory["k"], self.memory["v"]
        k, v = self.kv(encoded_BTD).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if self.memory is not None:
            self.memory |= {"k": k, "v": v}
        return k, v
