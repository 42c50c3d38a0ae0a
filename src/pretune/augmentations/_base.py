"""What an augmentation must do: one part, frozen settings, acting on a view or on a batch.

A part that acts on the *view* cuts each item on its own (a random crop, a time window) and may be
cached as one of K views; a part that acts on the *batch* changes tensors just before the model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch

    from pretune.types import Batch


class Augmentation(Protocol):
    """One part of an augmentation; members are frozen keyword-only dataclasses."""

    component: ClassVar[bool] = True
    modalities: ClassVar[frozenset[str]]
    """Names of the modalities it applies to."""
    acts: ClassVar[Literal["view", "batch"]]


class ViewAugmentation(Augmentation, Protocol):
    """Chooses what part of one stored array becomes the view."""

    def window(self, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
        """Return the window of an array of `shape`: image (top, left, height, width); audio (start, length)."""
        ...


class BatchAugmentation(Augmentation, Protocol):
    """Changes a raw batch (uint8 image B,C,H,W; float audio B,T), each item by its own draw."""

    moves: ClassVar[bool | None] = None
    """Whether something lies elsewhere afterwards; it then hands on where, by `Batch.moved`. One that does not say is refused where
    labels locate something."""

    def apply(self, batch: Batch, generator: torch.Generator, classes: int | None) -> Batch:
        """Return the changed batch; mixing parts turn class indices into (B, classes) soft classes."""
        ...
