"""The CTC head that a speech recogniser was pretrained with: a linear layer on each position of a sequence."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from pretune.models.heads._base import Head, HeadModule


@dataclass(frozen=True, kw_only=True)
class PretrainedCTC(Head):
    """The head of wav2vec 2.0 and its kin, whose outputs are taken by the characters that they write."""

    def build(self, width: int, outputs: int) -> PretrainedCTCModule:
        """Return a head with random weights; the task puts the pretrained ones in."""
        return PretrainedCTCModule(width, nn.Linear(width, outputs))


class PretrainedCTCModule(HeadModule):
    """Sequence (B, T, D) -> outputs (B, T, C)."""

    pretrained = True
