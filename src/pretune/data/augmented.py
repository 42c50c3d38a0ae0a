"""A view whose batches are augmented; each batch draws from its own stream, so workers change nothing."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from pretune import registry
from pretune.augmentations import BatchAugmentation
from pretune.data.dataset import View
from pretune.errors import SettingError
from pretune.types import Batch


class AugmentedView:
    """Passes batches of another view through batch augmentations.

    The draw depends on (seed, epoch, the batch's examples) only: not on threads, ranks asked first, or a resume.
    """

    def __init__(self, view: View, augmentations: tuple[BatchAugmentation, ...], classes: int | None, seed: int) -> None:
        self.view, self.augmentations, self.classes, self.seed = view, augmentations, classes, seed
        self.lengths = view.lengths

    def __len__(self) -> int:
        return len(self.view)

    def batch(self, index: NDArray[np.int64], epoch: int) -> Batch:
        """Return the augmented batch of these examples."""
        batch = self.view.batch(index, epoch)
        entropy = np.random.SeedSequence([self.seed, epoch, int(index[0]), len(index)]).generate_state(1, np.uint64)[0]
        generator = torch.Generator().manual_seed(int(entropy >> 1))
        for augmentation in self.augmentations:
            if augmentation.moves is None and batch.labels is not None and batch.labels.located:
                raise SettingError(
                    f"{registry.name_of(augmentation)} does not say whether it moves what an image shows, so boxes cannot follow it."
                )
            batch = augmentation.apply(batch, generator, self.classes)
        return batch
