"""A network that writes a text from an input: the learner with teacher forcing, and what is counted of its predictions.

Each token is predicted from the input and the tokens before it as people wrote them. Shapes: B examples, T positions of a text,
N positions that are predicted, D channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pretune.labels import Labels, Outputs, Ragged
from pretune.models import Model, SupervisedLearner
from pretune.models.heads.decoder import DecoderHead
from pretune.types import Batch, Features, StepOutput

TOKENS = "tokens"
"""Name of the labels that are tokens of a text, its end among them."""


@dataclass(frozen=True, kw_only=True)
class TokenLoss:
    """Cross-entropy of scores (N, V) and tokens (N,)."""

    smoothing: float = 0.0
    """Share of each target that is spread over all tokens."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean in nats."""
        return F.cross_entropy(outputs, targets, label_smoothing=self.smoothing)


class WritingLearner(SupervisedLearner):
    """Descends the cross-entropy of the tokens of a text, each given the input and the tokens before it."""

    @property
    def head(self) -> DecoderHead:
        """What reads the network's features and predicts tokens."""
        return head_of(self.model)

    def forward(self, batch: Batch) -> StepOutput:
        """Return the mean loss in nats per token; with `label_smoothing`, of smoothed targets."""
        x_ND, targets_N = self._predicted(batch)
        loss = self.loss
        if isinstance(loss, TokenLoss):
            return StepOutput(loss=self.head.loss(x_ND, targets_N, loss.smoothing), size=batch.size)
        return StepOutput(loss=loss(self.head.logits(x_ND), targets_N), size=batch.size)

    def predict(self, batch: Batch) -> Ragged:
        """Return (T, 2) of each example: the nats of each token of its text, and whether it was the likeliest."""
        x_ND, targets_N = self._predicted(batch)
        return Ragged(values=self.head.scores(x_ND, targets_N), lengths=tokens_of(batch.labels).lengths)

    def encoded(self, batch: Batch) -> Features:
        """Return what the encoder made of the inputs."""
        return self.model.before_head(batch.inputs, self.start)

    def _predicted(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the features (N, D) that predict the tokens (N,) of all texts."""
        tokens = tokens_of(batch.labels)
        encoded = self.encoded(batch)
        ids_BT = tokens.padded(self.head.decoder.end)
        real_BT = torch.arange(ids_BT.shape[1], device=ids_BT.device) < tokens.lengths[:, None]
        return self.head.taught(ids_BT, encoded)[real_BT], tokens.values


def head_of(model: Model) -> DecoderHead:
    """Return what writes in a model."""
    head = model.head
    assert isinstance(head, DecoderHead)
    return head


def tokens_of(labels: Labels | None) -> Ragged:
    """Return the tokens of each example's text."""
    assert labels is not None, "a batch needs the tokens that are predicted"
    tokens = labels[TOKENS]
    assert isinstance(tokens, Ragged)
    return tokens


def split(outputs: Outputs) -> list[NDArray[Any]]:
    """Return what belongs to each example."""
    assert isinstance(outputs, Ragged)
    return [one.numpy() for one in outputs.split()]


def counted(decoded: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    """Return (N, 3) of each text: nats, tokens, tokens that were the likeliest."""
    return np.array([(float(one[:, 0].sum()), len(one), float(one[:, 1].sum())) for one in decoded], np.float64).reshape(-1, 3)


def figures(sums: NDArray[np.float64]) -> dict[str, float]:
    """Return the metrics of all texts together."""
    nats, tokens, hits = sums.sum(0)
    loss = nats / max(1.0, tokens)
    return {"token_loss": loss, "perplexity": math.exp(min(loss, 700.0)), "token_accuracy": hits / max(1.0, tokens)}


def unigram(seen: Sequence[NDArray[np.int64]], predicted: Sequence[NDArray[np.int64]]) -> float:
    """Return the mean nats of tokens under how frequent each is in other texts, one added to every count."""
    asked = np.concatenate([*predicted, np.zeros(0, np.int64)])
    counts = np.bincount(np.concatenate([*seen, np.zeros(0, np.int64)]), minlength=int(asked.max(initial=0)) + 1) + 1
    return float(-np.log(counts[asked] / counts.sum()).mean()) if len(asked) else 0.0
