"""Several views of each item in one batch, for objectives that compare them."""

from __future__ import annotations

from dataclasses import replace

import torch

from pretune.data.dataset import Index, View
from pretune.types import Batch


class Stacked:
    """V views of each item behind one another: a batch is (B, V, …)."""

    def __init__(self, view: View, views: int) -> None:
        """Wrap a view whose batches differ from epoch to epoch."""
        self.view, self.views = view, views
        self.lengths: Index | None = view.lengths

    def __len__(self) -> int:
        return len(self.view)

    def batch(self, index: Index, epoch: int) -> Batch:
        """Return these items as V epochs in a row would show them."""
        batches = [self.view.batch(index, epoch * self.views + number) for number in range(self.views)]
        first = batches[0]
        tensor = torch.stack([batch.inputs.tensor for batch in batches], 1)
        return replace(first, inputs=first.inputs.with_tensor(tensor))
