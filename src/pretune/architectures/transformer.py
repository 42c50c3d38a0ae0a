"""A small transformer encoder to train from scratch: layers normed before each branch, which needs no warm-up tricks.

R. Xiong et al., "On Layer Normalization in the Transformer Architecture", 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from torch import nn

from pretune.architectures._base import Architecture, Network
from pretune.architectures.layers.encoder import Embeddings, EncoderLayer, Norm
from pretune.config import Within
from pretune.types import Layout


@dataclass(frozen=True, kw_only=True)
class Transformer(Architecture):
    """The sizes of a transformer encoder; its tokenizer is made from the training texts."""

    modality: ClassVar[str] = "text"
    multiples: ClassVar[tuple[tuple[str, str], ...]] = (("width", "heads"),)
    layered: ClassVar[bool] = True
    probing: ClassVar[str | None] = "layers"

    vocabulary: Annotated[int, Within(1)] = 10_000
    """Entries of the table of words or pieces."""
    units: Literal["word", "piece", "unigram", "character"] = "word"
    """What texts are cut into."""
    width: Annotated[int, Within(1)] = 128
    """Channels."""
    layers: Annotated[int, Within(1)] = 4
    """Transformer layers."""
    heads: Annotated[int, Within(1)] = 4
    """Attention heads; they divide the channels."""
    dropout: Annotated[float, Within(0, 0.9)] = 0.2
    """Share of values dropped in training."""
    max_tokens: Annotated[int, Within(4)] = 256
    """Tokens a text is cut to, and rows of the position table."""

    def preprocessing(self) -> dict[str, Any]:
        """Return the text settings."""
        return {"vocabulary": self.vocabulary, "units": self.units, "max_tokens": self.max_tokens, "positions": self.max_tokens}

    def build(self) -> TransformerNetwork:
        """Return the network with randomly initialised weights."""
        return TransformerNetwork(self)


class TransformerNetwork(Network):
    """Ordered `stages`: embeddings, one stage a layer, and the final norm; ids (B, T) -> sequence (B, T, D)."""

    layout: Layout = "sequence"

    def __init__(self, sizes: Transformer) -> None:
        super().__init__()
        self.width = sizes.width
        embeddings = Embeddings(sizes.vocabulary, sizes.width, sizes.max_tokens, 0, sizes.dropout, 1e-5, None)
        layers = {
            f"layer{i + 1}": EncoderLayer(sizes.width, sizes.heads, 4 * sizes.width, sizes.dropout, 1e-5, pre_norm=True)
            for i in range(sizes.layers)
        }
        self.stages = nn.ModuleDict({"embeddings": embeddings, **layers, "norm": Norm(sizes.width)})
