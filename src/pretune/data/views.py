"""Views of views: several of each example in one batch, for objectives that compare them; labels that follow what was cached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from pretune.data.dataset import Index, StoreView, View
from pretune.types import Batch


class Stacked:
    """V views of each example behind one another: a batch is (B, V, …)."""

    def __init__(self, view: View, views: int) -> None:
        """Wrap a view whose batches differ from epoch to epoch."""
        self.view, self.views = view, views
        self.lengths: Index | None = view.lengths

    def __len__(self) -> int:
        return len(self.view)

    def batch(self, index: Index, epoch: int) -> Batch:
        """Return these examples as V epochs in a row would show them."""
        batches = [self.view.batch(index, epoch * self.views + number) for number in range(self.views)]
        first = batches[0]
        tensor = torch.stack([batch.inputs.tensor for batch in batches], 1)
        return replace(first, inputs=first.inputs.with_tensor(tensor), geometry=None)


class Following:
    """Features of some examples, with labels that lie where the features' inputs showed what they locate."""

    def __init__(self, view: View, shown: Sequence[StoreView]) -> None:
        """Wrap a view of cached features; epoch e has those of `shown[e % len(shown)]`, the same examples."""
        self.view, self.shown = view, shown
        self.lengths: Index | None = view.lengths

    def __len__(self) -> int:
        return len(self.view)

    def batch(self, index: Index, epoch: int) -> Batch:
        """Return these examples' features and labels."""
        return self.view.batch(index, epoch).located(self.shown[epoch % len(self.shown)].geometry(index, 0))
