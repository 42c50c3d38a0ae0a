"""Views: what a loader takes batches from: stored examples, cached features, or a person's own Dataset."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pretune.augmentations import ViewAugmentation
from pretune.errors import DataError
from pretune.geometry import Geometry
from pretune.labels import Labels
from pretune.modalities import Modality
from pretune.storage.store import Arrays, Store
from pretune.types import Batch, Features, Layout

Index = NDArray[np.int64]


class View(Protocol):
    """N examples that can be had in any batches, from several threads at once."""

    lengths: Index | None
    """(N,) positions of each example for batches by length; None where all are alike."""

    def __len__(self) -> int: ...

    def batch(self, index: Index, epoch: int) -> Batch:
        """Return these examples as they look in this epoch; the same for the same arguments."""
        ...


class StoreView:
    """Some of a store's examples, each cut by the modality, at random where a `crop` is given."""

    def __init__(
        self,
        store: Arrays,
        positions: Index,
        modality: Modality,
        labels: Labels | None,
        crop: ViewAugmentation | None = None,
        seed: int = 0,
    ) -> None:
        """Select examples.

        Args:
            store: decoded examples.
            positions: (N,) of the examples in the store.
            modality: cuts and collates views.
            labels: N, aligned with `positions`.
            crop: a view augmentation; None for the deterministic view.
            seed: of the crops, which depend on (seed, epoch, position) only.
        """
        self.store, self.positions, self.modality, self.labels, self.crop, self.seed = store, positions, modality, labels, crop, seed
        self.lengths: Index | None = store.lengths[positions] if modality.by_length else None

    def __len__(self) -> int:
        return len(self.positions)

    def batch(self, index: Index, epoch: int) -> Batch:
        """Return these examples' views, collated."""
        views = [self._view(int(position), epoch) for position in self.positions[index]]
        batch = _batch(self.modality.collate(views), self.labels, index)
        return batch if batch.labels is None or not batch.labels.located else batch.located(self.geometry(index, epoch))

    def geometry(self, index: Index, epoch: int) -> Geometry:
        """Return where the coordinates of these examples' files lie in what `batch` shows of them in this epoch.

        Raises:
            TypeError: examples of this modality have no coordinates.
        """
        modality, infos = self.modality, self.store.infos
        places = [int(position) for position in self.positions[index]]
        return Geometry.of([modality.geometry(self.store[p], infos[p], self.crop, self._random(p, epoch)) for p in places])

    def _view(self, position: int, epoch: int) -> NDArray[Any]:
        return self.modality.view(self.store[position], self.crop, self._random(position, epoch))

    def _random(self, position: int, epoch: int) -> np.random.Generator | None:
        return np.random.default_rng([self.seed, epoch, position]) if self.crop is not None else None


class FeatureView:
    """Cached features of some examples; epoch e takes view e % views."""

    def __init__(
        self,
        source: Tensor | Store,
        positions: Index,
        layout: Layout,
        labels: Labels | None,
        *,
        views: int = 1,
        stride: int | None = None,
        columns: Tensor | None = None,
    ) -> None:
        """Select examples.

        Args:
            source: (examples * stride, …) features, example-major: an example's views side by side. A store may be
                ragged (T, D): its batches are padded, with a mask.
            positions: (N,) of the examples.
            layout: of a batch.
            labels: N, aligned with `positions`.
            views: how many of an example's views take turns.
            stride: views that are stored of an example; None for `views`.
            columns: (K,) which numbers of pooled features are taken; None for all.
        """
        self.positions, self.layout, self.labels = positions, layout, labels
        self.views, self.stride, self.columns = views, stride or views, columns
        self.store = source if isinstance(source, Store) else None
        self.features = source if isinstance(source, Tensor) else source.tensor() if source.uniform is not None else None
        self.lengths: Index | None = (
            self.store.lengths[positions * self.stride] if self.store is not None and self.features is None else None
        )
        self.real = _real(self.store)

    def __len__(self) -> int:
        return len(self.positions)

    def batch(self, index: Index, epoch: int) -> Batch:
        """Return these examples' features as float32: one gather where all have one shape."""
        rows = self.positions[index] * self.stride + epoch % self.views
        if self.features is None:
            return _batch(self._padded(rows), self.labels, index)
        tensor = self.features.index_select(0, torch.from_numpy(rows)).float()
        tensor = tensor if self.columns is None else tensor.index_select(1, self.columns)
        mask = None if self.real is None else torch.arange(tensor.shape[1]) < torch.from_numpy(self.real[rows])[:, None]
        return _batch(Features(tensor=tensor, layout=self.layout, mask=mask, attends_padding=mask is not None), self.labels, index)

    def _padded(self, rows: Index) -> Features:
        assert self.store is not None
        items = [self.store.tensor(int(row)).float() for row in rows]
        lengths = torch.tensor([len(item) for item in items])
        tensor = torch.nn.utils.rnn.pad_sequence(items, batch_first=True)
        return Features(tensor=tensor, layout=self.layout, mask=torch.arange(tensor.shape[1]) < lengths[:, None])


def _real(store: Store | None) -> Index | None:
    """Return (examples * stride,) how many positions of each array come before padding that the network attends to."""
    if store is None or not len(store) or "real" not in store.infos[0]:
        return None
    return np.array([info["real"] for info in store.infos], np.int64)


class DatasetView:
    """A person's own map-style torch Dataset of (tensor, target) or tensor, of tensors of one shape.

    Its `__getitem__` runs in loader threads, several at once where the loader has several workers.
    """

    lengths: Index | None = None

    def __init__(self, dataset: torch.utils.data.Dataset[Any]) -> None:
        """Wrap a dataset that has a length."""
        if not isinstance(dataset, Sized):
            raise DataError(f"{type(dataset).__name__} has no length; give a map-style Dataset with __len__ and __getitem__.")
        self.dataset, self.size = dataset, len(dataset)

    def __len__(self) -> int:
        return self.size

    def batch(self, index: Index, epoch: int) -> Batch:
        """Return these examples stacked; randomness is the dataset's own, whatever the epoch."""
        items = [self.dataset[int(position)] for position in index]
        parts: list[Sequence[Any]] = [item if isinstance(item, tuple | list) else [item] for item in items]
        inputs = Features(tensor=self._stack([part[0] for part in parts], index), layout="raw")
        labels = Labels.of(_targets([part[1] for part in parts])) if all(len(part) > 1 for part in parts) else None
        return Batch(inputs=inputs, labels=labels, index=torch.from_numpy(index))

    def _stack(self, tensors: list[Any], index: Index) -> Tensor:
        for position, tensor in zip(index, tensors, strict=True):
            if not isinstance(tensor, Tensor) or tensor.shape != tensors[0].shape:
                got = f"a tensor of shape {tuple(tensor.shape)}" if isinstance(tensor, Tensor) else f"a {type(tensor).__name__}"
                raise DataError(f"item {position} of {type(self.dataset).__name__} is {got}; all items must be tensors of one shape.")
        return torch.stack(tensors)


def _targets(values: list[Any]) -> Tensor:
    """Return int64 classes or float32 numbers and vectors."""
    tensor = torch.stack(values) if isinstance(values[0], Tensor) else torch.tensor(values)
    return tensor.float() if tensor.is_floating_point() else tensor.long()


def _batch(inputs: Features, labels: Labels | None, index: Index) -> Batch:
    places = torch.from_numpy(index)
    return Batch(inputs=inputs, labels=None if labels is None else labels.take(places), index=places)
