"""A network that predicts the next token: the learner, what is counted of its predictions, and how it writes.

Shapes: B texts, T positions, D channels, V word pieces, N positions that are predicted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pretune.architectures.layers.memory import Recalling, remembering
from pretune.labels import Labels, Outputs, Ragged
from pretune.models import Model, SupervisedLearner
from pretune.models.heads.vocabulary import VocabularyHead
from pretune.models.sampling import Sampled, sample_index
from pretune.types import Batch, Features, StepOutput

NONE = -100
"""Label of a position after which nothing is predicted."""


class LanguageModelLearner(SupervisedLearner):
    """Descends the nats of the tokens that are predicted; all others are only read."""

    @property
    def head(self) -> VocabularyHead:
        """What scores tokens."""
        head = self.model.head
        assert isinstance(head, VocabularyHead)
        return head

    def forward(self, batch: Batch) -> StepOutput:
        """Return the mean loss in nats per predicted token."""
        x_ND, targets_N = self._predicted(batch)
        return StepOutput(loss=self.head.loss(x_ND, targets_N), size=batch.size)

    def predict(self, batch: Batch) -> Ragged:
        """Return (T, 2) of each text: nats of what follows each position, and whether that is the likeliest; else zeros."""
        following = _following(batch)
        x_ND, targets_N = self._predicted(batch)
        out = torch.zeros(len(following.values), 2, device=x_ND.device)
        out[following.values != NONE] = self.head.scores(x_ND, targets_N)
        return Ragged(values=out, lengths=following.lengths)

    def _predicted(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the features (N, D) of the positions that a token follows which is predicted, and these tokens (N,)."""
        following = _following(batch)
        x_BTD = self.model.before_head(batch.inputs, self.start).tensor
        mask = batch.inputs.mask
        x_MD = x_BTD.flatten(0, 1) if mask is None else x_BTD[mask]
        asked = following.values != NONE
        return x_MD[asked], following.values[asked]


def _following(batch: Batch) -> Ragged:
    """Return the token after each position."""
    assert batch.labels is not None, "a batch needs the tokens that are predicted"
    following = batch.labels["next"]
    assert isinstance(following, Ragged)
    return following


Truth = list[tuple[NDArray[np.int64], int]]
"""Of each text the token after each position (T,), NONE where nothing is predicted, and the characters that the predicted tokens spell."""


def truth_of(labels: Labels) -> Truth:
    """Return labels as metrics take them."""
    following, characters = labels["next"], labels["characters"]
    assert isinstance(following, Ragged)
    assert isinstance(characters, Tensor)
    return [(one.numpy(), int(count)) for one, count in zip(following.split(), characters, strict=True)]


def counted(decoded: Sequence[NDArray[Any]], truth: Truth) -> NDArray[np.float64]:
    """Return (N, 4) of each text: nats, tokens, characters, tokens that were the likeliest."""
    asked = [(following != NONE, characters) for following, characters in truth]
    rows = [
        (float(one[mask, 0].sum()), int(mask.sum()), characters, float(one[mask, 1].sum()))
        for one, (mask, characters) in zip(decoded, asked, strict=True)
    ]
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def figures(sums: NDArray[np.float64]) -> dict[str, float]:
    """Return the metrics of all texts together."""
    nats, tokens, characters, hits = sums.sum(0)
    loss = nats / max(1.0, tokens)
    return {
        "character_loss": nats / max(1.0, characters),
        "token_loss": loss,
        "perplexity": math.exp(min(loss, 700.0)),
        "token_accuracy": hits / max(1.0, tokens),
    }


# --- writing -------------------------------------------------------------------------------------


@torch.inference_mode()
def write(
    model: Model, prompts: Sequence[Sequence[int]], *, most: int, ends: frozenset[int], sampled: Sampled, seed: int
) -> list[list[int]]:
    """Return the ids that follow each prompt, up to one of `ends` (which is left out) or `most` of them.

    Prompts of one length are written together. A network that remembers computes each position once (keys and values are kept).
    """
    model.eval()
    by_length: dict[int, list[int]] = {}
    for place, prompt in enumerate(prompts):
        by_length.setdefault(len(prompt), []).append(place)
    out: list[list[int]] = [[] for _ in prompts]
    generator = torch.Generator().manual_seed(seed)
    for places in by_length.values():
        ids_BT = torch.tensor([list(prompts[place]) for place in places], dtype=torch.long)
        for place, written in zip(places, _written(model, ids_BT, most, ends, sampled, generator), strict=True):
            out[place] = written
    return out


def _written(
    model: Model, ids_BT: Tensor, most: int, ends: frozenset[int], sampled: Sampled, generator: torch.Generator
) -> list[list[int]]:
    remembers = any(isinstance(module, Recalling) for module in model.modules())
    ended, new = torch.zeros(len(ids_BT), dtype=torch.bool), ids_BT
    start = ids_BT.shape[1]
    stops = torch.tensor(sorted(ends), dtype=torch.long)
    with remembering(model):
        for _ in range(most):
            features = model.before_head(Features(tensor=new, layout="raw"))
            logits_BV = model.head(features.with_tensor(features.tensor[:, -1]))
            chosen_B = sample_index(logits_BV.cpu(), sampled, generator)
            ids_BT = torch.cat([ids_BT, chosen_B[:, None]], 1)
            ended |= torch.isin(chosen_B, stops)
            new = chosen_B[:, None] if remembers else ids_BT
            if ended.all():
                break
    return [_until(row[start:].tolist(), ends) for row in ids_BT]


def _until(ids: list[int], ends: frozenset[int]) -> list[int]:
    """Return the ids before the first that ends a text."""
    return next((ids[:place] for place, one in enumerate(ids) if one in ends), ids)


def split(outputs: Outputs) -> list[NDArray[Any]]:
    """Return what belongs to each text."""
    assert isinstance(outputs, Ragged)
    return [one.numpy() for one in outputs.split()]
