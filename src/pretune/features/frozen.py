"""Frozen features: the output of the frozen stages for every example, from the cache or by one pass over the data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pretune.augmentations import ViewAugmentation
from pretune.data.dataset import FeatureView, StoreView, View
from pretune.data.views import Following
from pretune.features.passes import FeatureCache, FeaturePass, TooLong
from pretune.labels import Labels
from pretune.models import Model
from pretune.storage.store import NoRoom, Store
from pretune.types import Layout

KIND = "features"
"""The cache's folder of features."""


@dataclass(frozen=True, kw_only=True)
class FrozenFeatures:
    """Features of every example (and view) at a boundary, aligned with the data's rows."""

    source: Store | torch.Tensor
    layout: Layout
    views: int
    start: int
    """Number of the stage that takes them."""
    seconds: float | None = None
    """What the pass that computed them took, perhaps in an earlier run; None where it is not known."""
    columns: torch.Tensor | None = None
    """(K,) which numbers of pooled features are taken; None for all."""
    shown: Callable[[np.ndarray], tuple[StoreView, ...]] = lambda positions: ()
    """Returns what the features of some examples were computed of, for each view."""

    def view(self, positions: np.ndarray, labels: Labels | None, views: int) -> View:
        """Return some examples' features as a data view."""
        view = FeatureView(self.source, positions, self.layout, labels, views=views, stride=self.views, columns=self.columns)
        return Following(view, self.shown(positions)[:views]) if labels is not None and labels.located else view


def compute(
    model: Model, needs: FeatureCache, crop: ViewAugmentation | None, views: int, seed: int, allowed: float = math.inf
) -> FrozenFeatures | TooLong | None:
    """Return the features at the model's boundary, from the cache or by one pass over the data.

    View 0 is the deterministic one; views 1… are cut by `crop`. The cache key covers the data's bytes, the
    preprocessing, the frozen stages (weights, settings, structure, code), the boundary, the precision and the library versions.
    Where the disk has no room for them they stay in memory; where that has none either, the result is None and nothing is cached.

    Args:
        model: with its frozen stages.
        needs: the data and where features are kept.
        crop: the augmentation that cuts views, if any.
        views: of each example.
        seed: of the views.
        allowed: seconds that a pass may take: the result is `TooLong` as soon as it shows that it would take longer.

    Raises:
        TrainingError: some features are not finite; nothing is cached.
        KeyboardInterrupt: the person asked to stop.
    """
    stop = model.boundary
    over = FeaturePass(model, needs, tuple(model.names[:stop]), crop, views, seed, allowed)
    _ = needs.precision  # chosen by all processes together, before the first one computes alone
    source = needs.device.decide(lambda: _stored(over))
    if isinstance(source, Path):
        store = over.opened(source)
        seconds = store.meta.get("seconds")
        return FrozenFeatures(source=store, layout=store.meta["layout"], views=views, start=stop, seconds=seconds, shown=over.shown)
    if isinstance(source, TooLong):
        return source
    needs.warn(f"features are not kept on disk: {source}")
    try:
        stored = over.in_memory() if needs.device.world == 1 else None
    except TooLong as slow:
        return slow
    return None if stored is None else FrozenFeatures(source=stored[0], layout=stored[1], views=views, start=stop, shown=over.shown)


def _stored(over: FeaturePass) -> Path | str | TooLong:
    """Return where the features are, or why they are not."""
    try:
        over.store = over.needs.cache.build(KIND, over.key(), over.write)
        return over.store.path
    except NoRoom as error:
        return str(error)
    except TooLong as slow:
        return slow
