"""Batches come in an order that (seed, epoch) alone decide, each item once, from threads that end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pretune.augmentations.random_resized_crop import RandomResizedCrop
from pretune.data.batching import Batching
from pretune.data.dataset import DatasetView, FeatureView, StoreView, View
from pretune.data.loader import Loader
from pretune.errors import DataError
from pretune.labels import Labels
from pretune.modalities.image import Image
from pretune.storage.prefetch import prefetch
from pretune.storage.store import Store, StoreWriter
from pretune.types import Batch, Features, Share

IMAGE = Image(size=16, resize=20)


class Numbers:
    """A view of N numbers, each its own position, some of them long."""

    def __init__(self, count: int, lengths: NDArray[np.int64] | None = None, fail_at: int | None = None) -> None:
        self.count, self.lengths, self.fail_at = count, lengths, fail_at
        self.threads: set[str] = set()

    def __len__(self) -> int:
        return self.count

    def batch(self, index: NDArray[np.int64], epoch: int) -> Batch:
        self.threads.add(threading.current_thread().name)
        if self.fail_at is not None and self.fail_at in index:
            raise OSError("the disk is gone")
        places = torch.from_numpy(index)
        return Batch(
            inputs=Features(tensor=places[:, None].float() + 1000 * epoch, layout="pooled"), labels=Labels.of(places), index=places
        )


def loader_of(view: View, *, rank: int = 0, world: int = 1, workers: int = 0, **batching: Any) -> Loader:
    return Loader(view, Batching(**batching), share=Share(rank=rank, world=world), workers=workers)


def items(loader: Loader, epoch: int = 0, start: int = 0) -> list[list[int]]:
    return [batch.index.tolist() for batch in loader.iterate(epoch, start)]


def flat(batches: Iterable[list[Any]]) -> list[Any]:
    return list(chain.from_iterable(batches))


def data_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("pretune-data")]


# --- order ---------------------------------------------------------------------------------------


def test_an_epoch_holds_every_item_once_in_an_order_of_its_own() -> None:
    loader = loader_of(Numbers(50), size=8, shuffle=True, seed=3)
    first, second = items(loader, 0), items(loader, 1)
    assert sorted(flat(first)) == sorted(flat(second)) == list(range(50))
    assert first != second
    assert items(loader, 0) == first
    assert items(loader_of(Numbers(50), size=8, shuffle=True, seed=4), 0) != first
    assert [len(batch) for batch in first] == [8] * 6 + [2]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_workers_and_resuming_change_nothing(workers: int) -> None:
    reference = items(loader_of(Numbers(50), size=8, shuffle=True, seed=3), 2)
    loader = loader_of(Numbers(50), size=8, shuffle=True, seed=3, workers=workers)
    assert items(loader, 2) == reference
    assert items(loader, 2, start=4) == reference[4:]
    assert items(loader, 2, start=7) == []


def test_without_shuffling_the_views_own_order() -> None:
    loader = loader_of(Numbers(10), size=4, shuffle=False, seed=0)
    assert items(loader, 0) == items(loader, 5) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert loader.steps(0) == 3


def test_the_last_batch() -> None:
    def sizes(**options: bool) -> list[int]:
        return [len(batch) for batch in items(loader_of(Numbers(17), size=8, seed=0, **options))]

    assert sizes(shuffle=True) == [8, 9]  # batch norm cannot train on one item
    assert sizes(shuffle=True, drop_last=True) == [8, 8]
    assert sizes(shuffle=False) == [8, 8, 1]
    assert [len(batch) for batch in items(loader_of(Numbers(3), size=8, shuffle=True, seed=0, drop_last=True))] == [3]


# --- ranks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [8, 9, 31, 64])
@pytest.mark.parametrize("world", [2, 3])
def test_training_ranks_take_the_same_number_of_batches(count: int, world: int) -> None:
    shares = [items(loader_of(Numbers(count), size=4, shuffle=True, seed=1, rank=rank, world=world)) for rank in range(world)]
    assert len({tuple(len(batch) for batch in share) for share in shares}) == 1
    seen = flat(flat(shares))
    assert len(seen) == len(set(seen)) == count - count % world


@pytest.mark.parametrize("count", [1, 8, 9, 31])
def test_evaluating_ranks_share_without_repeats_or_gaps(count: int) -> None:
    shares = [items(loader_of(Numbers(count), size=4, shuffle=False, seed=1, rank=rank, world=3)) for rank in range(3)]
    assert sorted(flat(flat(shares))) == list(range(count))


def test_too_few_items_for_the_ranks() -> None:
    with pytest.raises(DataError, match="2 training items cannot be shared by 3"):
        loader_of(Numbers(2), size=4, shuffle=True, seed=0, rank=0, world=3)


# --- lengths -------------------------------------------------------------------------------------


def lengths_of(count: int) -> NDArray[np.int64]:
    return np.random.default_rng(0).integers(1, 100, count)


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_token_budget_is_kept_and_little_is_wasted(shuffle: bool) -> None:
    lengths = lengths_of(1000)
    batches = items(loader_of(Numbers(1000, lengths), tokens=800, shuffle=shuffle, seed=0))
    assert sorted(flat(batches)) == list(range(1000))
    padded = [lengths[batch].max() * len(batch) for batch in batches]
    assert max(padded) <= 800
    assert lengths.sum() / sum(padded) > 0.9


def test_batches_by_length_come_in_mixed_order() -> None:
    lengths = lengths_of(1000)
    loader = loader_of(Numbers(1000, lengths), tokens=800, shuffle=True, seed=0)
    means = np.array([lengths[batch].mean() for batch in items(loader, 0)])
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.3
    assert items(loader, 0) != items(loader, 1)
    assert items(loader, 1, start=5) == items(loader, 1)[5:]


def test_an_item_beyond_the_budget_is_a_batch_of_its_own() -> None:
    batches = items(loader_of(Numbers(4, np.array([5, 900, 5, 5])), tokens=100, shuffle=False, seed=0, size=2))
    assert batches == [[1], [0, 2], [3]]


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_batches_by_length(world: int) -> None:
    lengths = lengths_of(2000)
    plans = [items(loader_of(Numbers(2000, lengths), tokens=400, shuffle=True, seed=0, rank=rank, world=world)) for rank in range(world)]
    assert len({len(plan) for plan in plans}) == 1
    seen = flat(flat(plans))
    assert len(seen) == len(set(seen)) > 1950
    longest = np.array([[lengths[batch].max() for batch in plan] for plan in plans])
    assert np.median(longest.max(axis=0) - longest.min(axis=0)) <= 3
    shares = [items(loader_of(Numbers(2000, lengths), tokens=400, shuffle=False, seed=0, rank=rank, world=world)) for rank in range(world)]
    assert sorted(flat(flat(shares))) == list(range(2000))


def test_a_token_budget_needs_lengths() -> None:
    with pytest.raises(ValueError, match="lengths"):
        loader_of(Numbers(4), tokens=100, shuffle=True, seed=0).steps(0)
    with pytest.raises(ValueError, match="a size, a token budget"):
        Batching(shuffle=True)


# --- threads -------------------------------------------------------------------------------------


def test_closing_early_leaves_no_thread() -> None:
    view = Numbers(1000)
    batches = loader_of(view, size=2, shuffle=True, seed=0, workers=2).iterate(0)
    next(batches)
    assert data_threads()
    batches.close()
    assert data_threads() == []
    assert view.threads
    assert all(name.startswith("pretune-data") for name in view.threads)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_arrives_where_its_batch_would_have(workers: int) -> None:
    loader = loader_of(Numbers(20, fail_at=9), size=4, shuffle=False, seed=0, workers=workers)
    batches = loader.iterate(3)
    assert [next(batches).index[0].item() for _ in range(2)] == [0, 4]
    with pytest.raises(OSError, match="the disk is gone") as caught:
        next(batches)
    assert caught.value.__notes__ == ["while loading batch 2 of epoch 3, items [8, 9, 10, 11]"]
    assert data_threads() == []


def test_only_a_few_batches_are_prepared_ahead() -> None:
    begun: list[int] = []
    results = prefetch(lambda number: begun.append(number) or number, range(100), threads=2, ahead=3)
    assert next(results) == 0
    time.sleep(0.05)
    assert max(begun) <= 3
    results.close()


def test_waiting_is_counted() -> None:
    class Slow(Numbers):
        def batch(self, index: NDArray[np.int64], epoch: int) -> Batch:
            time.sleep(0.02)
            return super().batch(index, epoch)

    loader = loader_of(Slow(8), size=2, shuffle=False, seed=0)
    assert loader.waited == 0
    items(loader)
    assert loader.waited >= 0.08


# --- views ---------------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path: Path) -> Store:
    rng = np.random.default_rng(0)
    writer = StoreWriter(tmp_path / "pictures")
    for number in range(12):
        writer.append(rng.integers(0, 256, (20 + number % 3, 30, 3), dtype=np.uint8), {})
    return writer.close()


def test_stored_items_with_their_targets(pictures: Store) -> None:
    positions = np.array([3, 5, 7, 11])
    view = StoreView(pictures, positions, IMAGE, Labels.of(torch.tensor([30, 50, 70, 110])))
    batch = view.batch(np.array([2, 0]), 0)
    assert batch.inputs.tensor.shape == (2, 3, 16, 16)
    assert batch.target is not None
    assert batch.target.tolist() == [70, 30]
    assert batch.index.tolist() == [2, 0]
    expected = IMAGE.view(pictures[7], None, None)
    assert np.array_equal(batch.inputs.tensor[0].permute(1, 2, 0).numpy(), expected)


def test_crops_depend_on_seed_epoch_and_item_only(pictures: Store) -> None:
    def crops(epoch: int, seed: int, workers: int, batch_size: int) -> torch.Tensor:
        view = StoreView(pictures, np.arange(12), IMAGE, None, RandomResizedCrop(), seed)
        batches = list(loader_of(view, size=batch_size, shuffle=True, seed=0, workers=workers).iterate(epoch))
        order = torch.cat([batch.index for batch in batches]).argsort()
        return torch.cat([batch.inputs.tensor for batch in batches])[order]

    reference = crops(0, 0, 0, 4)
    assert torch.equal(crops(0, 0, 2, 3), reference)
    assert not torch.equal(crops(1, 0, 0, 4), reference)
    assert not torch.equal(crops(0, 1, 0, 4), reference)


def test_features_take_turns_by_epoch() -> None:
    features = torch.arange(5 * 3).reshape(15, 1).float()  # item-major: item i has rows 3i, 3i+1, 3i+2
    view = FeatureView(features, np.array([0, 2, 4]), "pooled", Labels.of(torch.tensor([0, 2, 4])), views=3)
    index = np.array([1, 2])
    assert [view.batch(index, epoch).inputs.tensor[:, 0].tolist() for epoch in range(4)] == [[6, 12], [7, 13], [8, 14], [6, 12]]
    fixed = FeatureView(features, np.array([0, 2, 4]), "pooled", None, views=1, stride=3)
    assert fixed.batch(index, 7).inputs.tensor[:, 0].tolist() == [6, 12]
    assert fixed.batch(index, 7).labels is None


def test_stored_features_come_back_as_float32(tmp_path: Path) -> None:
    values = torch.randn(6, 8).to(torch.bfloat16)
    writer = StoreWriter(tmp_path / "f", dtype="bfloat16")
    for row in values.view(torch.uint16).numpy():
        writer.append(row, {})
    batch = FeatureView(writer.close(), np.arange(6), "pooled", None).batch(np.array([5, 0]), 0)
    assert torch.equal(batch.inputs.tensor, values[[5, 0]].float())
    assert batch.inputs.mask is None


def test_ragged_features_are_padded_with_a_mask(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path / "f")
    for length in (2, 5, 3):
        writer.append(np.full((length, 4), length, np.float32), {})
    view = FeatureView(writer.close(), np.arange(3), "sequence", None)
    assert view.lengths is not None
    assert view.lengths.tolist() == [2, 5, 3]
    inputs = view.batch(np.array([0, 2]), 0).inputs
    assert inputs.tensor.shape == (2, 3, 4)
    assert inputs.mask is not None
    assert inputs.mask.tolist() == [[True, True, False], [True, True, True]]
    assert inputs.tensor[0, :, 0].tolist() == [2, 2, 0]


def test_a_persons_own_dataset() -> None:
    class Own(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
        def __len__(self) -> int:
            return 6

        def __getitem__(self, position: int) -> tuple[torch.Tensor, int]:
            return torch.full((3, 4, 4), float(position)), position % 2

    loader = loader_of(DatasetView(Own()), size=4, shuffle=False, seed=0, workers=1)
    first = next(iter(loader.iterate(0)))
    assert first.inputs.tensor[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert first.target is not None
    assert first.target.tolist() == [0, 1, 0, 1]
    assert first.target.dtype == torch.int64
    unlabelled = DatasetView(torch.utils.data.TensorDataset(torch.arange(4.0)))
    assert unlabelled.batch(np.array([3]), 0).labels is None


def test_a_dataset_that_cannot_be_batched_is_refused() -> None:
    class Ragged(torch.utils.data.Dataset[torch.Tensor]):
        def __len__(self) -> int:
            return 3

        def __getitem__(self, position: int) -> torch.Tensor:
            return torch.zeros(position + 1)

    with pytest.raises(DataError, match="item 1 of Ragged"):
        DatasetView(Ragged()).batch(np.array([0, 1]), 0)

    class Endless(torch.utils.data.IterableDataset[torch.Tensor]):
        """Has no length."""

        def __iter__(self) -> Iterator[torch.Tensor]:
            yield torch.zeros(1)

    with pytest.raises(DataError, match="no length"):
        DatasetView(Endless())
