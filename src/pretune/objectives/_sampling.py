"""What is asked of a model that writes, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from numpy.typing import NDArray

from pretune.config import Within


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Settings of `pretune generate`."""

    verb: ClassVar[str] = "generate"

    prompt: str = ""
    """Text to continue, or a text with <mask> in each gap. For models that know classes: the class."""
    count: Annotated[int, Within(1, 256)] = 1
    """Number of samples."""
    length: Annotated[int | None, Within(1)] = None
    """Maximum number of tokens of a text, which ends with its document, or of a gap; audio samples of a clip. auto is 256 tokens, as
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
    """One thing a model made: a text, a clip or an image."""

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
    """A message where the prompt could not be read as it is written."""
