"""BERT: a transformer encoder over word pieces, as Google published it; tensors equal those of `transformers`.

J. Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", 2019. Written
here again because importing `transformers` takes seconds, which is longer than a small job.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from torch import nn

from pretune.architectures._base import Architecture, Network
from pretune.architectures.layers.encoder import Embeddings, EncoderLayer
from pretune.config import Within
from pretune.types import Layout


@dataclass(frozen=True, kw_only=True)
class Bert(Architecture):
    """The sizes of a BERT; the defaults are those of MiniLM-L6-H384 (Wang et al. 2020)."""

    modality: ClassVar[str] = "text"
    multiples: ClassVar[tuple[tuple[str, str], ...]] = (("width", "heads"),)
    layered: ClassVar[bool] = True
    probing: ClassVar[str | None] = "layers"

    vocabulary: Annotated[int, Within(1)] = 30522
    """Rows of the table of word pieces."""
    width: Annotated[int, Within(1)] = 384
    """Channels."""
    layers: Annotated[int, Within(1)] = 6
    """Transformer layers."""
    heads: Annotated[int, Within(1)] = 12
    """Attention heads; they divide the channels."""
    hidden: Annotated[int, Within(1)] = 1536
    """Units of each feed-forward network."""
    positions: Annotated[int, Within(4)] = 512
    """Rows of the position table."""
    types: Annotated[int, Within(0)] = 2
    """Rows of the table that tells the second of two texts from the first."""
    dropout: Annotated[float, Within(0, 0.9)] = 0.1
    """Share of hidden values and of attention weights dropped in training."""
    epsilon: Annotated[float, Within(0, 1)] = 1e-12
    """Added to the variance in layer norms."""
    max_tokens: Annotated[int, Within(4)] = 256
    """Tokens a text is cut to."""
    separator: int | None = 102
    """Id of the token that ends the first of two texts."""

    def preprocessing(self) -> dict[str, Any]:
        """Return the text settings; the tokenizer comes with the weights."""
        return {"max_tokens": self.max_tokens, "positions": self.positions}

    def build(self) -> BertNetwork:
        """Return the network with randomly initialised weights."""
        return BertNetwork(self)


class BertNetwork(Network):
    """Ordered `stages`: embeddings, then one stage a layer; ids (B, T) -> sequence (B, T, D)."""

    layout: Layout = "sequence"

    def __init__(self, sizes: Bert) -> None:
        super().__init__()
        self.width = sizes.width
        embeddings = Embeddings(sizes.vocabulary, sizes.width, sizes.positions, sizes.types, sizes.dropout, sizes.epsilon, sizes.separator)
        layers = {
            f"layer{i + 1}": EncoderLayer(sizes.width, sizes.heads, sizes.hidden, sizes.dropout, sizes.epsilon, pre_norm=False)
            for i in range(sizes.layers)
        }
        self.stages = nn.ModuleDict({"embeddings": embeddings, **layers})
