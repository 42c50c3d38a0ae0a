"""The head that writes: a decoder reads what the network made of an example and predicts a text token by token.

Shapes: B examples, T positions of a text, N positions that are predicted, D channels, V tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from pretune.architectures.layers.token_decoder import TiedDecoder, TokenDecoder
from pretune.architectures.layers.transformer_decoder import TransformerDecoder
from pretune.backbones import Backbone, token_table
from pretune.config import Within
from pretune.errors import SettingError
from pretune.modalities.text import Text
from pretune.models.heads._base import Head, HeadModule
from pretune.models.token_loss import linear_cross_entropy, token_scores
from pretune.types import Features

LAYERS = 3
"""Layers where neither the person nor the network says how many."""


@dataclass(frozen=True, kw_only=True)
class Decoder(Head):
    """A transformer decoder with cross-attention, over the network's own table of tokens; or the one that it was pretrained with."""

    layers: Annotated[int | None, Within(1, 48)] = None
    """Decoder layers; auto is those it was pretrained with, else as many as the encoder has."""
    dropout: Annotated[float | None, Within(0, 0.9)] = None
    """Share of values dropped in training; auto is the encoder's."""

    def on(self, backbone: Backbone) -> Head:
        """Return the head that writes with this network's tokens."""
        return _OfEncoder(sizes=self, backbone=backbone)


@dataclass(frozen=True, kw_only=True)
class _OfEncoder(Head):
    sizes: Decoder
    backbone: Backbone

    def build(self, width: int, outputs: int) -> DecoderHead:
        """Return the head that reads features of `width` channels.

        Raises:
            SettingError: the network has no tokens to write, or sizes are named for a decoder that has its own.
        """
        pretrained = self.backbone.pretrained_decoder()
        if pretrained is not None:
            self._refuse_sizes()
            self._require_positions(pretrained)
            return DecoderHead(width, pretrained, pretrained=True)
        return DecoderHead(width, self._made(width))

    def _made(self, width: int) -> TiedDecoder:
        text, settings = self.backbone.modality, self.backbone.builder.settings
        if not isinstance(text, Text):
            raise SettingError(f"{self.backbone.builder.id} has no decoder, and no tokens that one could write.")
        table = token_table(self.backbone)
        layers = self.sizes.layers or (settings.get("layers") if isinstance(settings.get("layers"), int) else None) or LAYERS
        dropout = settings.get("dropout", 0.1) if self.sizes.dropout is None else self.sizes.dropout
        body = TransformerDecoder(table.embedding_dim, width, layers, text.max_tokens + 1, float(dropout))
        tied: Any = table
        tied.tied = True  # every row gets a gradient at every step
        end = text.separator
        if end is None:
            raise SettingError(f"the tokenizer of {self.backbone.builder.id} has no token that ends a text, so it cannot learn to write.")
        return TiedDecoder(table, body, end=end, barred=tuple(one for one in text.special if one != end))

    def _refuse_sizes(self) -> None:
        for name in ("layers", "dropout"):
            if getattr(self.sizes, name) is not None:
                raise SettingError(f"head.{name} would not be used: {self.backbone.builder.id} brings its own decoder. Leave it out.")

    def _require_positions(self, pretrained: TokenDecoder) -> None:
        text = self.backbone.modality
        if isinstance(pretrained, TiedDecoder) and isinstance(text, Text) and pretrained.positions != text.max_tokens + 1:
            most = (pretrained.positions or 1) - 1
            raise SettingError(
                f"max_tokens={text.max_tokens}: the decoder of these weights was made for {most} tokens. Leave max_tokens out."
            )


class DecoderHead(HeadModule):
    """Holds the decoder; its outputs depend on a text, so a learner gives it one (`taught`), or a search writes it."""

    layered: ClassVar[bool] = True

    def __init__(self, width: int, decoder: TokenDecoder, *, pretrained: bool = False) -> None:
        super().__init__(width, nn.Identity())
        self.decoder = decoder
        self.pretrained = pretrained

    def fit(self, features_ND: Tensor) -> None:
        """Do nothing: a decoder takes features as they are."""

    def sized(self, head: Any) -> Any:
        """Return the settings with its layers: a denoising run has not as many in the decoder as in the encoder."""
        return replace(head, layers=len(self.decoder.body.layers)) if isinstance(self.decoder, TiedDecoder) else head

    def forward(self, features: Features) -> Any:
        """Refuse: there is no output without a text."""
        raise TypeError("a decoder predicts the tokens of a text: use taught(ids, features) or models.search")

    def taught(self, ids_BT: Tensor, encoded: Features) -> Tensor:
        """Return the features (B, T, D) that predict each of the ids (B, T) from those before it."""
        return self.decoder.taught(ids_BT, encoded)

    def logits(self, x: Tensor) -> Tensor:
        """Return float32 scores (…, V) of features (…, D)."""
        return F.linear(x, self.decoder.matrix, self.decoder.bias).float()

    def loss(self, x_ND: Tensor, targets_N: Tensor, smoothing: float = 0.0) -> Tensor:
        """Return the mean cross-entropy in nats, without ever holding all scores."""
        return linear_cross_entropy(x_ND, self.decoder.matrix, targets_N, self.decoder.bias, smoothing=smoothing)

    def scores(self, x_ND: Tensor, targets_N: Tensor) -> Tensor:
        """Return (N, 2) float32: the nats of each target, and 1 where it is the likeliest token."""
        return token_scores(x_ND, self.decoder.matrix, targets_N, self.decoder.bias)
