"""Write what is missing from a text: spans of tokens are cut out, and a decoder that reads the rest writes them.

C. Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer", 2020 (spans); the
same token stands for every span, as in M. Lewis et al., "BART", 2020: their order says which is which.

Shapes: B blocks, T positions of a block, N tokens cut out of it in K spans, D channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from pretune.backbones import Backbone
from pretune.backbones._retokenize import token_table
from pretune.config import Within
from pretune.errors import SettingError
from pretune.modalities.text import Text
from pretune.objectives._base import PretextLearner, Suggested
from pretune.objectives._decoder import Decoder
from pretune.objectives._vocabulary import TokenHead, above_unigram
from pretune.types import Batch, StepOutput


@dataclass(frozen=True, kw_only=True)
class Denoising:
    """Sequence to sequence: the network reads a text with gaps, a small decoder writes what was in them."""

    component: ClassVar[bool] = True
    suggested: ClassVar = {"text": Suggested(backbone="scratch:transformer,dropout=0.0", lr=2e-2, batch_size=16, epochs=10, optim="muon")}
    verbatim: ClassVar[bool] = False
    """Whether a tokenizer made for it keeps case and spaces: only what writes texts needs them."""

    share: Annotated[float, Within(0, 0.8, above=True)] = 0.3
    """Share of the tokens that are cut out."""
    span: Annotated[float, Within(1)] = 3.0
    """Mean length of what is cut out in one piece, in tokens."""
    decoder_layers: Annotated[int, Within(1, 24)] = 2
    """Layers of the decoder, which is only needed for pretraining."""

    def block(self, text: Text) -> tuple[int, int]:
        """Return the length of a block of ids and how far apart two begin; the tokenizer's special tokens come around it."""
        return text.room, text.room

    def learner(self, backbone: Backbone) -> DenoisingLearner:
        """Return the learner; the network must look both ways and give features of every token."""
        self.check(backbone)
        return DenoisingLearner(backbone, self)

    def check(self, backbone: Backbone) -> None:
        """Refuse a network that looks back only, or gives no features of single tokens."""
        if backbone.causal or backbone.layout != "sequence":
            raise SettingError(
                "objective=denoising needs a network that looks both ways and gives features of every token, such as "
                f"scratch:transformer; {backbone.builder.id} does not."
            )


class DenoisingLearner(PretextLearner):
    """Cuts spans out of packed blocks; every block loses as many tokens in as many spans, so that nothing is padded."""

    def __init__(self, backbone: Backbone, objective: Denoising) -> None:
        super().__init__(backbone)
        text = backbone.modality
        assert isinstance(text, Text)
        assert text.mask is not None
        self.mask, self.end, self.frame = text.mask, text.mask if text.separator is None else text.separator, text.around
        self.share, self.span = objective.share, objective.span
        self._table = [token_table(backbone)]  # in a list, so that it is the backbone's and not this module's too
        width = self._table[0].embedding_dim
        self.decoder = Decoder(width, backbone.width, objective.decoder_layers, text.max_tokens + 1)
        self.head = TokenHead(backbone, width=width)

    def forward(self, batch: Batch) -> StepOutput:
        """Return the mean loss in nats per token that the decoder writes for ids (B, T)."""
        ids_BT = batch.inputs.tensor
        gaps_BT = spans(len(ids_BT), ids_BT.shape[1], self.share, self.span).to(ids_BT.device)
        read, wanted = self.cut(ids_BT, gaps_BT)
        features = self.backbone(batch.inputs.with_tensor(self.framed(read))).tensor
        begun = torch.cat([wanted.new_full((len(wanted), 1), self.end), wanted[:, :-1]], 1)
        x_BTD = self.decoder(self._table[0](begun), features)
        loss = self.head.loss(x_BTD.flatten(0, 1), wanted.flatten())
        return StepOutput(loss=loss, size=batch.size, logs={} if self.training else self._logs(x_BTD, wanted))

    def predict(self, batch: Batch) -> Tensor:
        """Return the features (B, T, D) of whole blocks."""
        return self.backbone(batch.inputs.with_tensor(self.framed(batch.inputs.tensor))).tensor

    def framed(self, ids_BT: Tensor) -> Tensor:
        """Return blocks between the special tokens that the network knows around a text."""
        before, after = (ids_BT.new_tensor(part).expand(len(ids_BT), -1) for part in self.frame)
        return torch.cat([before, ids_BT, after], 1)

    def cut(self, ids_BT: Tensor, gaps_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is read, (B, T - N + K), a mask where a span was, and what is written, (B, N + K + 1).

        Written are a mask and the tokens of each span, and the end.
        """
        first_BT = gaps_BT.clone()
        first_BT[:, 1:] &= ~gaps_BT[:, :-1]
        read = ids_BT.masked_fill(first_BT, self.mask)[~gaps_BT | first_BT].view(len(ids_BT), -1)
        tokens_BN = ids_BT[gaps_BT].view(len(ids_BT), -1)
        count = tokens_BN.shape[1]
        span_BN = first_BT.cumsum(1)[gaps_BT].view(len(ids_BT), -1)
        wanted = ids_BT.new_full((len(ids_BT), count + int(span_BN[0, -1]) + 1), self.mask)
        wanted.scatter_(1, torch.arange(count, device=ids_BT.device) + span_BN, tokens_BN)
        wanted[:, -1] = self.end
        return read, wanted

    @torch.no_grad()
    def _logs(self, x_BTD: Tensor, wanted: Tensor) -> dict[str, float]:
        """Return the loss on real tokens, which is what token frequencies compare with, and how many are right."""
        real = wanted != self.mask
        real[:, -1] = False
        x_ND, targets_N = x_BTD[real], wanted[real]
        return {"loss_of_tokens": float(self.head.loss(x_ND, targets_N)), "accuracy": self.head.accuracy(x_ND, targets_N)}

    def verdict(self, metrics: dict[str, float], floors: dict[str, float]) -> list[str]:
        """Say it where nothing but frequencies was learned."""
        return above_unigram(metrics["loss_of_tokens"], floors, "missing tokens")


def spans(batch: int, length: int, share: float, mean: float) -> Tensor:
    """Return which tokens are cut out, (B, T) bool: as many of each block, in as many spans, none at its beginning.

    Drawn by the processor's generator, which the loop keeps.
    """
    gone = min(length - 1, max(1, round(share * length)))
    count = min(max(1, round(gone / mean)), gone, length - gone)
    kept_BK, gone_BK = _partition(batch, length - gone, count), _partition(batch, gone, count)
    ends_BX = torch.stack([kept_BK, gone_BK], -1).flatten(1).cumsum(1)
    passed_BT = (torch.arange(length)[None, :, None] >= ends_BX[:, None, :]).sum(-1)
    return passed_BT % 2 == 1


def _partition(batch: int, total: int, parts: int) -> Tensor:
    """Return positive integers (B, parts) that add up to `total`, all ways equally likely."""
    cuts = torch.rand(batch, total - 1).argsort(1)[:, : parts - 1].sort(1).values + 1
    edges = torch.cat([cuts.new_zeros(batch, 1), cuts, cuts.new_full((batch, 1), total)], 1)
    return edges.diff(dim=1)
