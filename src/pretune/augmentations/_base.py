"""What an augmentation is: one change of what the network gets in training, acting on a view or on a batch.

One that acts on the *view* cuts each example on its own (a random crop, a time window), and K such views may be cached; one
that acts on the *batch* changes tensors just before the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pretune.registry import Component

if TYPE_CHECKING:
    import numpy as np
    import torch

    from pretune.types import Batch


@dataclass(frozen=True, kw_only=True)
class Augmentation(Component):
    """One augmentation; members are derived from `ViewAugmentation` or `BatchAugmentation` and named like their file."""

    modalities: ClassVar[frozenset[str]]
    """Names of the modalities that it is for."""
    mixes: ClassVar[bool] = False
    """Whether it makes one example of two, with the labels of both in shares; no preset has it where an example has several labels."""


@dataclass(frozen=True, kw_only=True)
class ViewAugmentation(Augmentation):
    """Chooses what part of one stored array becomes the view. Required are `modalities` and `window`."""

    def window(self, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
        """Return the window of an array of `shape`: image (top, left, height, width); audio (start, length)."""
        raise TypeError(f"{type(self).__name__} must define window(shape, rng)")


@dataclass(frozen=True, kw_only=True)
class BatchAugmentation(Augmentation):
    """Changes a raw batch (uint8 image B,C,H,W; float audio B,T), each example by its own draw. Required are `modalities` and `apply`."""

    moves: ClassVar[bool | None] = None
    """Whether something lies elsewhere afterwards; it then hands on where, by `Batch.moved`. One that does not say is refused where
    labels locate something."""

    def apply(self, batch: Batch, generator: torch.Generator, classes: int | None) -> Batch:
        """Return the changed batch; one that mixes examples turns class indices into (B, classes) soft classes."""
        raise TypeError(f"{type(self).__name__} must define apply(batch, generator, classes) -> Batch")
