"""A view whose batches are augmented; each batch draws from its own stream, so workers change nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pretune import registry
from pretune.augmentations import Augmentation, BatchAugmentation, ViewAugmentation
from pretune.data.dataset import StoreView, View
from pretune.errors import SettingError
from pretune.labels import Labels
from pretune.modalities import Modality
from pretune.storage.store import Arrays
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


def training_view(
    store: Arrays,
    positions: NDArray[np.int64],
    modality: Modality,
    labels: Labels | None,
    augmentations: Sequence[Augmentation],
    *,
    classes: int | None,
    seed: int,
) -> View:
    """Return stored examples as training sees them: cut by the view augmentation among these, then changed by those of batches.

    Args:
        store: decoded examples.
        positions: (N,) of the examples in the store.
        modality: cuts and collates views.
        labels: N, aligned with `positions`.
        augmentations: of both kinds.
        classes: how many, where labels may be mixed.
        seed: of the augmentations.
    """
    crop = next((one for one in augmentations if isinstance(one, ViewAugmentation)), None)
    of_batches = tuple(one for one in augmentations if isinstance(one, BatchAugmentation))
    view = StoreView(store, positions, modality, labels, crop, seed)
    return AugmentedView(view, of_batches, classes, seed) if of_batches else view
