"""Convolutions over words and the largest response of each filter.

Y. Kim, "Convolutional Neural Networks for Sentence Classification", 2014.

Shapes: B texts, T positions, D channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import nn

from pretune.architectures._base import Architecture, Network
from pretune.architectures.layers.words import WordEmbedding
from pretune.config import Within
from pretune.types import Features, Layout


@dataclass(frozen=True, kw_only=True)
class TextCnn(Architecture):
    """The sizes of a convolutional network over words; its tokenizer is made from the training texts."""

    modality: ClassVar[str] = "text"

    vocabulary: Annotated[int, Within(300)] = 20_000
    """Words known at most."""
    units: Literal["word", "piece", "unigram", "character"] = "word"
    """What texts are cut into."""
    embedding: Annotated[int, Within(1)] = 128
    """Channels of a word's vector."""
    filters: Annotated[int, Within(1)] = 100
    """Filters of each length."""
    lengths: tuple[int, ...] = (2, 3, 4, 5)
    """Words that a filter sees."""
    dropout: Annotated[float, Within(0, 0.9)] = 0.5
    """Share of word vectors' channels, and of responses, dropped in training."""
    max_tokens: Annotated[int, Within(4)] = 512
    """Words a text is cut to."""

    def preprocessing(self) -> dict[str, Any]:
        """Return the text settings."""
        return {"vocabulary": self.vocabulary, "units": self.units, "max_tokens": self.max_tokens}

    def build(self) -> TextCnnNetwork:
        """Return the network with randomly initialised weights."""
        return TextCnnNetwork(self)


class TextCnnNetwork(Network):
    """Ordered `stages`: words, responses; ids (B, T) -> pooled (B, filters * lengths)."""

    layout: Layout = "pooled"

    def __init__(self, sizes: TextCnn) -> None:
        super().__init__()
        self.width = sizes.filters * len(sizes.lengths)
        words = WordEmbedding(sizes.vocabulary, sizes.embedding, sizes.dropout)
        self.stages = nn.ModuleDict({"words": words, "responses": Responses(sizes.embedding, sizes.filters, sizes.lengths, sizes.dropout)})


class Responses(nn.Module):
    """The largest response of every filter over a text's own words; what lies beyond its ends counts as zeros."""

    def __init__(self, width: int, filters: int, lengths: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        self.lengths = lengths
        self.filters = nn.ModuleList(nn.Conv1d(width, filters, length) for length in lengths)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Features) -> Features:
        """Return pooled (B, filters * lengths)."""
        x_BDT = features.tensor.transpose(1, 2)
        best = []
        for convolve, length in zip(self.filters, self.lengths, strict=True):
            y_BFT = F.relu(convolve(F.pad(x_BDT, ((length - 1) // 2, length // 2))))
            if features.mask is not None:
                y_BFT = y_BFT * features.mask[:, None]  # no response is below zero
            best.append(y_BFT.amax(2))
        return Features(tensor=self.dropout(torch.cat(best, 1)), layout="pooled")
