"""What is asked of a model that writes, what it gives back, and how one of many logits is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor

from pretune.config import Within
from pretune.errors import WeightsError


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Settings of `pretune generate`."""

    verb: ClassVar[str] = "generate"

    prompt: str = ""
    """Text to continue, or a text with <mask> in each gap. For models that know classes: the class."""
    count: Annotated[int, Within(1, 256)] = 1
    """Number of samples."""
    length: Annotated[int | None, Within(1)] = None
    """Maximum number of tokens of a text, which ends with its document, or of a gap; audio samples of a sound. auto is 256 tokens, as
    many as fit in gaps, and for audio the length of the training clips."""
    temperature: Annotated[float, Within(0)] = 1.0
    """Sampling temperature; 0 always takes the most likely token."""
    top_k: Annotated[int | None, Within(1)] = None
    """Sample among this many most likely tokens."""
    top_p: Annotated[float, Within(0, 1, above=True)] = 1.0
    """Nucleus sampling: sample among the most likely tokens that together have this probability (Holtzman et al. 2020)."""
    seed: Annotated[int, Within(0)] = 0
    """Random seed of the samples."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One thing a model made: a text, a sound or a picture."""

    text: str | None = None
    audio: NDArray[Any] | None = None
    """float32 (T,) in [-1, 1]."""
    sample_rate: int = 0
    """Hz of the sound."""
    image: NDArray[Any] | None = None
    """uint8 (H, W, 3)."""
    label: str | None = None
    """The class that was asked for."""
    note: str = ""
    """What is to be said of it, where the prompt could not be read as it is written."""


def sample_index(logits_BV: Tensor, wanted: Wanted, generator: torch.Generator) -> Tensor:
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
