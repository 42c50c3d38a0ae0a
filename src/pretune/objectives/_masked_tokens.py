"""Predict hidden tokens from those on both sides; which are hidden is sampled again at every step.

J. Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", 2019; Y. Liu et al.,
"RoBERTa", 2019 (sampling again, packed blocks).

Shapes: B blocks, T positions, D channels, N hidden positions, V ids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pretune.backbones import Backbone
from pretune.errors import SettingError
from pretune.modalities.text import Text
from pretune.objectives._base import PretextLearner
from pretune.objectives._vocabulary import TokenHead, above_unigram
from pretune.types import Batch, StepOutput

if TYPE_CHECKING:
    from pretune.objectives.masked import Masked

SHARE = 0.15
_SHOWN_AS_MASK, _SHOWN_AS_RANDOM = 0.8, 0.1
"""Of the hidden tokens; the others are shown as they are, so that the network cannot know which it is asked for."""


def learner(backbone: Backbone, objective: Masked) -> MaskedTokens:
    """Return the learner."""
    check(backbone)
    return MaskedTokens(backbone, share=objective.share or SHARE, whole_words=objective.whole_words)


def check(backbone: Backbone) -> None:
    """Refuse a network that does not suit.

    Raises:
        SettingError: the network looks back only, or gives no features of single tokens.
    """
    if backbone.causal:
        raise SettingError(
            f"objective=masked needs a network that looks both ways, such as scratch:transformer; {backbone.builder.id} looks back only. "
            "Take objective=causal."
        )
    if backbone.layout != "sequence":
        raise SettingError(f"objective=masked needs features of every token, which {backbone.builder.id} does not give.")


class MaskedTokens(PretextLearner):
    """Hides tokens of packed blocks, and scores what the network makes of them."""

    special: Tensor
    ordinary: Tensor
    begins: Tensor
    ends: Tensor

    def __init__(self, backbone: Backbone, *, share: float, whole_words: bool) -> None:
        """Make the head; the network's own tokenizer says what may be hidden.

        Args:
            backbone: over tokens; its tokenizer has a token to hide others behind.
            share: of the tokens that are hidden.
            whole_words: hide all pieces of a word or none.
        """
        super().__init__(backbone)
        self.head = TokenHead(backbone, transform=True)
        self.share, self.whole_words = share, whole_words
        text = backbone.modality
        assert isinstance(text, Text)
        assert text.mask is not None
        self.mask, self.frame = text.mask, text.framed
        special = torch.zeros(text.size, dtype=torch.bool)
        special[list(text.special)] = True
        begins, ends = map(torch.from_numpy, text.words())
        tables = {"special": special, "ordinary": (~special).nonzero()[:, 0], "begins": begins, "ends": ends}
        for name, table in tables.items():  # made from the tokenizer, so not saved
            self.register_buffer(name, table, persistent=False)

    def forward(self, batch: Batch) -> StepOutput:
        """Return the mean loss in nats per hidden token of ids (B, T)."""
        ids_BT = self.framed(batch.inputs.tensor)
        hidden_BT = self.hidden(ids_BT)
        x_BTD = self.backbone(batch.inputs.with_tensor(self.shown(ids_BT, hidden_BT))).tensor
        x_ND, targets_N = x_BTD[hidden_BT], ids_BT[hidden_BT]
        loss = self.head.loss(x_ND, targets_N)
        return StepOutput(loss=loss, size=batch.size, logs={} if self.training else self._logs(x_ND, targets_N))

    def predict(self, batch: Batch) -> Tensor:
        """Return the features (B, T, D) of framed blocks, nothing hidden."""
        return self.backbone(batch.inputs.with_tensor(self.framed(batch.inputs.tensor))).tensor

    def framed(self, ids_BT: Tensor) -> Tensor:
        """Return blocks between the special tokens that the network knows around a text."""
        before, after = (ids_BT.new_tensor(part).expand(len(ids_BT), -1) for part in self.frame)
        return torch.cat([before, ids_BT, after], 1)

    def hidden(self, ids_BT: Tensor) -> Tensor:
        """Return which tokens are hidden, (B, T) bool: no special ones, and at least one of all.

        Sampled by the processor's generator, which the loop keeps, wherever the ids are.
        """
        draws_BT = torch.rand(ids_BT.shape)
        if self.whole_words:
            draws_BT = draws_BT.gather(1, self.words(ids_BT).cpu())
        draws_BT = draws_BT.to(ids_BT.device).masked_fill(self.special[ids_BT], torch.inf)
        return draws_BT <= draws_BT.min().clamp(min=self.share)

    def words(self, ids_BT: Tensor) -> Tensor:
        """Return the number of the word that each token is a piece of, (B, T)."""
        starts_BT = self.begins[ids_BT]
        starts_BT[:, 1:] |= self.ends[ids_BT[:, :-1]]
        starts_BT[:, 0] = False
        return starts_BT.cumsum(1)

    def shown(self, ids_BT: Tensor, hidden_BT: Tensor) -> Tensor:
        """Return the ids that the network is shown."""
        draws_BT = torch.rand(ids_BT.shape).to(ids_BT.device)
        others_BT = self.ordinary[torch.randint(len(self.ordinary), ids_BT.shape).to(ids_BT.device)]
        shown_BT = ids_BT.masked_fill(hidden_BT & (draws_BT < _SHOWN_AS_MASK), self.mask)
        random_BT = hidden_BT & (draws_BT >= _SHOWN_AS_MASK) & (draws_BT < _SHOWN_AS_MASK + _SHOWN_AS_RANDOM)
        return torch.where(random_BT, others_BT, shown_BT)

    def _logs(self, x_ND: Tensor, targets_N: Tensor) -> dict[str, float]:
        return {"accuracy": self.head.accuracy(x_ND, targets_N)}

    def verdict(self, metrics: dict[str, float], floors: dict[str, float]) -> list[str]:
        """Report it where nothing but frequencies was learned."""
        return above_unigram(metrics["loss"], floors, "hidden tokens")
