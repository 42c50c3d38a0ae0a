"""The table of tokens a text network begins with, as the head that predicts tokens, and its cross-entropy."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretune.backbones import Backbone, token_table
from pretune.models.token_loss import CHUNK, linear_cross_entropy


class TokenHead(nn.Module):
    """Features (…, D) -> loss against the next or hidden token; its matrix is the network's own table where widths allow.

    O. Press and L. Wolf, "Using the Output Embedding to Improve Language Models", 2017.
    """

    def __init__(self, backbone: Backbone, *, transform: bool = False, width: int | None = None) -> None:
        """Make the head.

        Args:
            backbone: over tokens.
            transform: put a layer before the table, as BERT has it; always where widths differ.
            width: of the features; those of the network by default.
        """
        super().__init__()
        table = token_table(backbone)
        self.transform: nn.Module = nn.Identity()
        width = width or backbone.width
        if transform or width != table.embedding_dim:
            self.transform = nn.Sequential(nn.Linear(width, table.embedding_dim), nn.GELU(), nn.LayerNorm(table.embedding_dim))
        self.bias = nn.Parameter(torch.zeros(table.num_embeddings)) if transform else None
        tied: Any = table
        tied.tied = True  # every row gets a gradient at every step
        self._table = [table]  # in a list, so that it is the backbone's parameter and not this module's too

    @property
    def device(self) -> torch.device:
        """Where the table is."""
        return self._table[0].weight.device

    def loss(self, x_ND: Tensor, targets_N: Tensor) -> Tensor:
        """Return the mean cross-entropy in nats."""
        return linear_cross_entropy(self.transform(x_ND), self._table[0].weight, targets_N, self.bias)

    def logits(self, x_ND: Tensor) -> Tensor:
        """Return float32 logits (…, V)."""
        return F.linear(self.transform(x_ND), self._table[0].weight, self.bias).float()

    @torch.no_grad()
    def accuracy(self, x_ND: Tensor, targets_N: Tensor) -> float:
        """Return the share of targets that are the likeliest token."""
        rows = max(1, CHUNK // self._table[0].num_embeddings)
        parts = zip(x_ND.split(rows), targets_N.split(rows), strict=True)
        return float(sum((self.logits(x).argmax(-1) == t).sum() for x, t in parts)) / len(targets_N)


def above_unigram(loss: float, floors: dict[str, float], what: str) -> list[str]:
    """Return a sentence where a loss is no better than token frequencies alone: the network looks at nothing."""
    if "unigram" not in floors or loss < 0.97 * floors["unigram"]:
        return []
    return [
        f"the loss on {what}, {loss:.3f} nats, is no better than token frequencies alone ({floors['unigram']:.3f}): "
        "the network has not yet learned to look at the other tokens. Train longer (epochs=…, time=…), on more text, or at another lr."
    ]


def above_trigram(loss: float, floors: dict[str, float]) -> list[str]:
    """Return a sentence where a loss on the next token is no better than what counting gives: frequencies, or three tokens in a row."""
    messages = above_unigram(loss, floors, "the next token")
    if messages or "trigram" not in floors or loss < floors["trigram"]:
        return messages
    return [
        f"the loss on the next token, {loss:.3f} nats, is no better than that of a trigram model ({floors['trigram']:.3f}), which only "
        "counts which token follows which two. Train longer (epochs=…, time=…), on more text, or at another lr."
    ]
