"""A recurrent network over words: an embedding, then an LSTM; padding never reaches its state.

S. Hochreiter and J. Schmidhuber, "Long Short-Term Memory", 1997.

Shapes: B texts, T positions, D channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from pretune.architectures._base import Architecture, Network
from pretune.architectures.layers.memory import Recalling
from pretune.architectures.layers.words import WordEmbedding
from pretune.config import Within
from pretune.kernels.recurrence import lstm
from pretune.types import Features, Layout


@dataclass(frozen=True, kw_only=True)
class Lstm(Architecture):
    """The sizes of an LSTM over words; its tokenizer is made from the training texts."""

    modality: ClassVar[str] = "text"
    pooling: ClassVar[str] = "max"

    vocabulary: Annotated[int, Within(1)] = 10_000
    """Words known at most."""
    units: Literal["word", "piece", "unigram", "character"] = "word"
    """What texts are cut into."""
    embedding: Annotated[int, Within(1)] = 100
    """Channels of a word's vector."""
    hidden: Annotated[int, Within(1)] = 200
    """Units of the LSTM, in each direction."""
    layers: Annotated[int, Within(1, 8)] = 1
    """LSTM layers."""
    bidirectional: bool = False
    """Read texts from their end too."""
    dropout: Annotated[float, Within(0, 0.9)] = 0.5
    """Share of the inputs of the LSTM, and of its outputs, dropped in training."""
    max_tokens: Annotated[int, Within(4)] = 256
    """Words a text is cut to."""

    def causal(self) -> bool:
        """Return whether no position sees what comes after it."""
        return not self.bidirectional

    def preprocessing(self) -> dict[str, Any]:
        """Return the text settings."""
        return {"vocabulary": self.vocabulary, "units": self.units, "max_tokens": self.max_tokens}

    def build(self) -> LstmNetwork:
        """Return the network with randomly initialised weights."""
        return LstmNetwork(self)


class LstmNetwork(Network):
    """Ordered `stages`: words, recurrence; ids (B, T) -> sequence (B, T, D)."""

    layout: Layout = "sequence"

    def __init__(self, sizes: Lstm) -> None:
        super().__init__()
        self.width = sizes.hidden * (2 if sizes.bidirectional else 1)
        self.stages = nn.ModuleDict(
            {"words": WordEmbedding(sizes.vocabulary, sizes.embedding, sizes.dropout), "recurrence": Recurrence(sizes)}
        )


class Recurrence(Recalling):
    """LSTM layers; where they read backwards, texts are packed so that they begin at their own last word.

    Forwards nothing need be packed: padding follows the words, and no output of a word depends on what follows it.
    """

    def __init__(self, sizes: Lstm) -> None:
        super().__init__()
        between = sizes.dropout if sizes.layers > 1 else 0.0
        self.lstm = nn.LSTM(
            sizes.embedding, sizes.hidden, sizes.layers, batch_first=True, bidirectional=sizes.bidirectional, dropout=between
        )
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, features: Features) -> Features:
        """Return (B, T, D)."""
        x_BTD, mask = features.tensor, features.mask
        if self.memory is not None:
            state = tuple(self.memory[key].transpose(0, 1).contiguous() for key in ("hidden", "cell")) if self.memory else None
            out_BTD, (hidden, cell) = lstm(self.lstm, x_BTD, state)
            self.memory |= {"hidden": hidden.transpose(0, 1), "cell": cell.transpose(0, 1)}  # batch first, as a search takes rows
            return features.with_tensor(out_BTD)
        if mask is None or not self.lstm.bidirectional:
            return features.with_tensor(self.dropout(lstm(self.lstm, x_BTD)[0]))
        packed = pack_padded_sequence(x_BTD, mask.sum(1).cpu(), batch_first=True, enforce_sorted=False)
        out_BTD, _ = pad_packed_sequence(lstm(self.lstm, packed)[0], batch_first=True, total_length=x_BTD.shape[1])
        return features.with_tensor(self.dropout(out_BTD))
