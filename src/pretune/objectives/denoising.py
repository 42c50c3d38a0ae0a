"""Write what is missing from a text: spans of tokens are cut out, and a decoder that reads the rest writes them.

C. Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer", 2020 (spans); the
same token stands for every span, as in M. Lewis et al., "BART", 2020: their order says which is which.

Shapes: B blocks, T positions of a block, N tokens cut out of it in K spans, D channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from torch import Tensor

from pretune.architectures.layers.memory import remembering
from pretune.architectures.layers.transformer_decoder import TransformerDecoder
from pretune.backbones import Backbone, token_table
from pretune.config import Within
from pretune.errors import SettingError
from pretune.modalities.text import Text
from pretune.models.sampling import sample_index
from pretune.objectives._base import Objective, PretextLearner, Suggested
from pretune.objectives._gaps import Filling, opened, put_together
from pretune.objectives._sampling import Sample, Wanted
from pretune.objectives._vocabulary import TokenHead, above_unigram
from pretune.types import Batch, Features, StepOutput


@dataclass(frozen=True, kw_only=True)
class Denoising(Objective):
    """Sequence to sequence: the network reads a text with gaps, a small decoder writes what was in them."""

    streams: ClassVar[bool] = True
    suggested: ClassVar = {"text": Suggested(backbone="scratch:transformer,dropout=0.0", lr=2e-2, batch_size=16, epochs=10, optim="muon")}
    verbatim: ClassVar[bool] = False
    """Whether a tokenizer made for it keeps case and spaces: only what writes texts needs them."""

    share: Annotated[float, Within(0, 0.8, above=True)] = 0.3
    """Fraction of the tokens that are masked."""
    span: Annotated[float, Within(1)] = 3.0
    """Mean length of a masked span in tokens."""
    decoder_layers: Annotated[int, Within(1, 24)] = 2
    """Layers of the decoder, which pretraining and filling gaps use, and fine-tuning does not."""

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

    generates: ClassVar[bool] = True
    fills_in: ClassVar[bool] = True

    def __init__(self, backbone: Backbone, objective: Denoising) -> None:
        super().__init__(backbone)
        text = backbone.modality
        assert isinstance(text, Text)
        assert text.mask is not None
        self.mask, self.end, self.frame = text.mask, text.mask if text.separator is None else text.separator, text.framed
        self.share, self.span = objective.share, objective.span
        self._table = [token_table(backbone)]  # in a list, so that it is the backbone's and not this module's too
        width = self._table[0].embedding_dim
        self.decoder = TransformerDecoder(width, backbone.width, objective.decoder_layers, text.max_tokens + 1)
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
        before, after = (ids_BT.new_tensor(fragment).expand(len(ids_BT), -1) for fragment in self.frame)
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

    # --- writing ---------------------------------------------------------------------------------

    @torch.no_grad()
    def generate(self, wanted: Wanted) -> list[Sample]:
        """Return the prompt with its gaps filled, all else as it is written; without a gap, one at its end is.

        Raises:
            SettingError: the prompt is longer than what the network reads, or has more gaps than it can fill.
        """
        text, fragments = self._text, opened(wanted.prompt)
        ids = [text.ids(fragment) for fragment in fragments]
        read = [id_ for number, fragment in enumerate(ids) for id_ in ([self.mask] * (number > 0) + fragment.tolist())]
        if len(read) > text.room:
            raise SettingError(f"the prompt has {len(read):,} tokens, and this network reads at most {text.room:,}. Give a shorter one.")
        gaps = self.fill(torch.tensor(read).repeat(wanted.count, 1), len(fragments) - 1, wanted)
        note = " ".join(text.unknown_note(np.concatenate(ids)))
        return [Sample(text=put_together(fragments, [self._spelled(gap) for gap in row]), note=note) for row in gaps]

    @torch.no_grad()
    def fill(self, read_BS: Tensor, gaps: int, wanted: Wanted) -> list[list[list[int]]]:
        """Return the ids that are written into each gap of each text; every position is computed once.

        Args:
            read_BS: ids, with a mask where each gap is.
            gaps: how many there are in each text.
            wanted: how tokens are sampled; `length` is the most in a gap.

        Raises:
            SettingError: there are more gaps than the decoder has positions for.
        """
        room = (self.decoder.position.num_embeddings - 1 - gaps) // gaps
        if room < 1:
            raise SettingError(f"{gaps} gaps are more than this network has room to fill. Give fewer.")
        self.eval()
        device, generator = self.head.device, torch.Generator().manual_seed(wanted.seed)
        rows = [Filling(gaps, min(room, wanted.length or room), self.mask, self.end) for _ in range(len(read_BS))]
        features = self.backbone(Features(tensor=self.framed(read_BS.to(device)), layout="raw")).tensor
        new_B = torch.full((len(rows),), self.end)
        with remembering(self.decoder):
            while not all(row.finished for row in rows):
                x_BD = self.decoder(self._table[0](new_B[:, None].to(device)), features)[:, -1]
                logits_BV = self.head.logits(x_BD).cpu()
                for row, logits_V in zip(rows, logits_BV, strict=True):
                    row.allow(logits_V, self._text.special)
                new_B = sample_index(logits_BV, wanted, generator)
                for row, token in zip(rows, new_B.tolist(), strict=True):
                    row.take(token)
        return [row.written for row in rows]

    def reconstructions(self, batch: Batch) -> list[tuple[str, list[str]]]:
        """Return held-out texts with gaps, as they were filled at temperature 0, and as they are."""
        ids_BT = batch.inputs.tensor
        gaps_BT = spans(len(ids_BT), ids_BT.shape[1], self.share, self.span).to(ids_BT.device)
        read, wanted = self.cut(ids_BT, gaps_BT)
        count = int((wanted[0] == self.mask).sum())
        written = self.fill(read, count, Wanted(temperature=0))
        shown: list[tuple[str, list[str]]] = [("with gaps", []), ("filled", []), ("the text", [])]
        for row, gaps in enumerate(written):
            true = _cut_at(wanted[row, 1:-1].tolist(), self.mask)
            pieces = _cut_at(read[row].tolist(), self.mask)
            for (_, filled), filling in zip(shown, (None, gaps, true), strict=True):
                filled.append(self._with_gaps(pieces, filling, count))
        return shown

    def _with_gaps(self, pieces: list[list[int]], filling: list[list[int]] | None, count: int) -> str:
        """Return a text with what is in its gaps between brackets."""
        inside = ["…"] * count if filling is None else [self._spelled(gap).strip() for gap in filling]
        spelled = [self._spelled(piece) for piece in pieces]
        return "".join(f"{piece} [{gap}] " for piece, gap in zip(spelled, inside, strict=False)) + spelled[-1]

    def _spelled(self, ids: list[int]) -> str:
        """Return the text of ids; letters that the tokenizer takes one by one are put into words."""
        spelled = self._text.text_of(ids)
        return spelled.replace(" ", "") if self._text.units == "character" and not self._text.verbatim else spelled

    @property
    def _text(self) -> Text:
        text = self.backbone.modality
        assert isinstance(text, Text)
        return text

    def verdict(self, metrics: dict[str, float], floors: dict[str, float]) -> list[str]:
        """Report it where nothing but frequencies was learned."""
        return above_unigram(metrics["loss_of_tokens"], floors, "missing tokens")


def spans(batch: int, length: int, share: float, mean: float) -> Tensor:
    """Return which tokens are cut out, (B, T) bool: as many of each block, in as many spans, none at its beginning.

    Sampled by the processor's generator, which the loop keeps.
    """
    gone = min(length - 1, max(1, round(share * length)))
    count = min(max(1, round(gone / mean)), gone, length - gone)
    kept_BK, gone_BK = _partition(batch, length - gone, count), _partition(batch, gone, count)
    ends_BX = torch.stack([kept_BK, gone_BK], -1).flatten(1).cumsum(1)
    passed_BT = (torch.arange(length)[None, :, None] >= ends_BX[:, None, :]).sum(-1)
    return passed_BT % 2 == 1


def _cut_at(ids: list[int], mark: int) -> list[list[int]]:
    """Return the stretches of ids between marks."""
    out: list[list[int]] = [[]]
    for id_ in ids:
        if id_ == mark:
            out.append([])
        else:
            out[-1].append(id_)
    return out


def _partition(batch: int, total: int, fragments: int) -> Tensor:
    """Return positive integers (B, parts) that add up to `total`, all ways equally likely."""
    cuts = torch.rand(batch, total - 1).argsort(1)[:, : fragments - 1].sort(1).values + 1
    edges = torch.cat([cuts.new_zeros(batch, 1), cuts, cuts.new_full((batch, 1), total)], 1)
    return edges.diff(dim=1)
