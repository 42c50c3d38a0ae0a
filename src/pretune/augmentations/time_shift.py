"""A random window of a long clip; a short one begins a little late."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pretune.augmentations._base import ViewAugmentation
from pretune.config import Within

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, kw_only=True)
class TimeShift(ViewAugmentation):
    """Draws where the window begins; nothing of a clip that fits into the window is cut off."""

    modalities: ClassVar[frozenset[str]] = frozenset({"audio"})

    share: Annotated[float, Within(0, 1)] = 0.1
    """Maximum silence before a clip that is shorter than the window, as a fraction of the window."""

    def window(self, shape: tuple[int, ...], rng: np.random.Generator) -> tuple[int, int]:
        """Return (first sample, samples) of the window, for `shape` = (samples there are, samples of the window).

        A negative first sample is so much silence before the sound.
        """
        samples, window = shape
        if samples >= window:
            return int(rng.integers(samples - window + 1)), window
        late = int(rng.integers(min(window - samples, int(self.share * window)) + 1))
        return -late, window
