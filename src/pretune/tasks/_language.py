"""A network that predicts the next token: the learner, what is counted of its predictions, and how it writes.

Shapes: B texts, T positions, D channels, V word pieces, N positions that are predicted.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pretune.architectures.layers.memory import Recalling, remembering, takes_padding
from pretune.labels import Labels, Outputs, Ragged
from pretune.models import Model, SupervisedLearner
from pretune.models.beginnings import Beginnings, as_read
from pretune.models.heads.vocabulary import VocabularyHead
from pretune.models.sampling import Sampled, sample_index
from pretune.models.search import Searched
from pretune.tasks import _language_search
from pretune.types import Batch, StepOutput

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


_TOGETHER = 32
"""Texts that are written at once at most, each beam counted."""
_SPREAD = 32
"""Tokens by which the prompts of texts that are written at once differ at most, where the network takes no padding."""
_PADDING = 0.25
"""Share of the longest prompt that is padding before another one at most, where it does."""


@torch.inference_mode()
def write(
    model: Model,
    prompts: Sequence[Sequence[int]],
    *,
    most: int,
    ends: frozenset[int],
    sampled: Searched,
    seed: int,
    blank: Sequence[int] = (),
) -> list[list[int]]:
    """Return the ids that follow each prompt, up to one of `ends` (which is left out) or `most` of them; none begins with one of `blank`.

    Prompts of like length are written together; what is written for one does not depend on the others. A network that remembers
    computes each position once (keys and values are kept); where it takes padding, that stands before the shorter prompts.
    """
    model.eval()
    padded = takes_padding(model)
    out: list[list[int]] = [[] for _ in prompts]
    for places in _of_like_length([len(prompt) for prompt in prompts], max(1, _TOGETHER // sampled.beams), padded):
        few = [list(prompts[place]) for place in places]
        if sampled.temperature == 0:
            texts = _language_search.write(model, few, most=most, ends=sorted(ends), blank=blank, wanted=sampled)
        else:
            texts = _samples(model, few, most, ends, sampled, seed, blank)
        for place, written in zip(places, texts, strict=True):
            out[place] = written
    return out


def _of_like_length(lengths: Sequence[int], together: int, padded: bool) -> list[list[int]]:
    """Return the places of prompts in groups of `together` at most that are written at once."""
    groups: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        longest = lengths[groups[-1][0]] if groups else 0
        spread = max(_SPREAD, int(_PADDING * longest)) if padded else _SPREAD
        if groups and len(groups[-1]) < together and longest - lengths[place] <= spread:
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups


def _samples(
    model: Model, prompts: list[list[int]], most: int, ends: frozenset[int], sampled: Sampled, seed: int, blank: Sequence[int]
) -> list[list[int]]:
    """Return what is sampled after each prompt.

    Where the network takes padding, prompts end together. Else all begin with as many tokens as the shortest prompt has; where a prompt
    goes on, its own token stands in for what the network chooses: so no position is padding, and every network can write.
    """
    device = next(model.parameters()).device
    remembers = any(isinstance(module, Recalling) for module in model.modules())
    generators = [torch.Generator().manual_seed(_seed_of(seed, prompt)) for prompt in prompts]
    begun = Beginnings.of(prompts, padded=takes_padding(model))
    ids_BT = new = begun.ids_BT
    ended, stops = torch.zeros(len(prompts), dtype=torch.bool), torch.tensor(sorted(ends), dtype=torch.long)
    written: list[list[int]] = [[] for _ in prompts]
    with remembering(model):
        for at in range(int(begun.more_B.max()) + most):
            features = model.before_head(as_read(new.to(device)))
            logits_BV = model.head(features.with_tensor(features.tensor[:, -1])).cpu()
            asked = begun.more_B > at  # of prompts that go on here
            if blank and (first := begun.more_B == at).any():
                logits_BV[first.nonzero(), torch.tensor(blank)] = -torch.inf
            chosen_B = begun.given(at)
            chosen_B[~asked] = _chosen(logits_BV[~asked], sampled, [one for one, on in zip(generators, asked, strict=True) if not on])
            for place in (~asked & ~ended).nonzero()[:, 0].tolist():
                written[place].append(int(chosen_B[place]))
            ended |= (torch.isin(chosen_B, stops) | (begun.more_B + most <= at + 1)) & ~asked
            ids_BT = torch.cat([ids_BT, chosen_B[:, None]], 1)
            new = chosen_B[:, None] if remembers else ids_BT
            if ended.all():
                break
    return [_until(ids, ends) for ids in written]


def _chosen(logits_BV: Tensor, sampled: Sampled, generators: Sequence[torch.Generator]) -> Tensor:
    """Return the next token of each text (B,); each has random numbers of its own."""
    return torch.cat([sample_index(one[None], sampled, generator) for one, generator in zip(logits_BV, generators, strict=True)])


def _seed_of(seed: int, prompt: Sequence[int]) -> int:
    """Return the seed of one text's random numbers, which does not depend on what is written beside it."""
    return zlib.crc32(np.asarray(prompt, np.int64).tobytes(), seed & 0xFFFFFFFF)


def _until(ids: list[int], ends: frozenset[int]) -> list[int]:
    """Return the ids before the first that ends a text."""
    return next((ids[:place] for place, one in enumerate(ids) if one in ends), ids)


def split(outputs: Outputs) -> list[NDArray[Any]]:
    """Return what belongs to each text."""
    assert isinstance(outputs, Ragged)
    return [one.numpy() for one in outputs.split()]
