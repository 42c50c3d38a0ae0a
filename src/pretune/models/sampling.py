"""How one of many logits becomes the next token."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from pretune.errors import WeightsError


class Sampled(Protocol):
    """Settings that decide how a token is sampled."""

    @property
    def temperature(self) -> float:
        """0 takes the likeliest token."""
        ...

    @property
    def top_k(self) -> int | None:
        """Sample among so many likeliest tokens; None for all."""
        ...

    @property
    def top_p(self) -> float:
        """Sample among the likeliest tokens that together have this probability."""
        ...


def sample_index(logits_BV: Tensor, wanted: Sampled, generator: torch.Generator) -> Tensor:
    """Return one index a row, (B,).

    Raises:
        WeightsError: a logit is not a number.
    """
    if logits_BV.isnan().any():
        raise WeightsError("the model's outputs are not numbers (NaN): nothing can be made with these weights. Train it again.")
    if wanted.temperature == 0:
        return logits_BV.argmax(-1)
    logits_BV = logits_BV.float() / wanted.temperature
    if wanted.top_k is not None and wanted.top_k < logits_BV.shape[-1]:
        least = logits_BV.topk(wanted.top_k).values[:, -1:]
        logits_BV = logits_BV.masked_fill(logits_BV < least, -torch.inf)
    if wanted.top_p < 1:
        ordered, places = logits_BV.softmax(-1).sort(descending=True)
        beyond = ordered.cumsum(-1) - ordered >= wanted.top_p
        logits_BV = logits_BV.masked_fill(torch.zeros_like(beyond).scatter(-1, places, beyond), -torch.inf)
    return torch.multinomial(logits_BV.softmax(-1), 1, generator=generator)[:, 0]
