"""A random window of random area and aspect, scaled to the view's size (GoogLeNet, Szegedy et al. 2015)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pretune.augmentations._base import ViewAugmentation
from pretune.errors import SettingError

if TYPE_CHECKING:
    import numpy as np

_TRIES = 10


@dataclass(frozen=True, kw_only=True)
class RandomResizedCrop(ViewAugmentation):
    """Cuts what torchvision's RandomResizedCrop cuts."""

    modalities: ClassVar[frozenset[str]] = frozenset({"image"})

    scale: tuple[float, ...] = (0.08, 1.0)
    """Minimum and maximum fraction of the image's area."""
    ratio: tuple[float, ...] = (3 / 4, 4 / 3)
    """Minimum and maximum aspect ratio (width / height)."""

    def __post_init__(self) -> None:
        for name, high in (("scale", 1.0), ("ratio", math.inf)):
            pair = getattr(self, name)
            if len(pair) != 2 or not 0 < pair[0] <= pair[1] <= high:
                bound = " and at most 1" if high == 1 else ""
                raise SettingError(f"random_resized_crop.{name} must be two numbers above 0{bound}, the smaller first; got {pair}.")

    def window(self, shape: tuple[int, ...], rng: np.random.Generator) -> tuple[int, int, int, int]:
        """Return (top, left, height, width) of a window in an image of `shape` (H, W, …)."""
        height, width = shape[:2]
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for _ in range(_TRIES):
            area = height * width * rng.uniform(self.scale[0], self.scale[1])
            ratio = math.exp(rng.uniform(low, high))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
        return self._widest(height, width)

    def _widest(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Return the largest central window whose aspect is allowed: what is left for extreme images."""
        w = min(width, max(1, round(height * self.ratio[1])))
        h = min(height, max(1, round(width / self.ratio[0])))
        return (height - h) // 2, (width - w) // 2, h, w
