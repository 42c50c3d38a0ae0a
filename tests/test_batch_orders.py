"""Orders, views and draws: another seed or epoch is another draw, the same ones are the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pretune.augmentations.flip import Flip
from pretune.augmentations.gain import Gain
from pretune.data.augmented import AugmentedView
from pretune.data.batching import Batching
from pretune.data.views import Stacked
from pretune.labels import Labels
from pretune.types import Batch, Features, Share


class Noisy:
    """Items that are sampled again in each epoch; the first number of each says which item it is."""

    lengths = None

    def __init__(self, count: int, shape: tuple[int, ...] = (3, 8, 8)) -> None:
        self.count, self.shape = count, shape

    def __len__(self) -> int:
        return self.count

    def batch(self, index: Any, epoch: int) -> Batch:
        items = [np.random.default_rng([epoch, int(i)]).integers(0, 255, self.shape, dtype=np.uint8) for i in index]
        tensor = torch.from_numpy(np.stack(items))
        tensor.flatten(1)[:, 0] = torch.from_numpy(index)
        return Batch(inputs=Features(tensor=tensor, layout="raw"), labels=Labels.of(torch.from_numpy(index)), index=torch.from_numpy(index))


class Still(Noisy):
    """The same items in every epoch."""

    def batch(self, index: Any, epoch: int) -> Batch:
        return super().batch(index, 0)


def order_of(seed: int, epoch: int = 0, **settings: Any) -> list[int]:
    view: Any = Noisy(50)
    if settings.get("tokens"):
        view.lengths = np.arange(50) + 1
    return np.concatenate(Batching(shuffle=True, seed=seed, **settings).plan(view, epoch, Share())).tolist()


@pytest.mark.parametrize("settings", [{"size": 8}, {"tokens": 200}])
def test_another_seed_is_another_order(settings: dict[str, int]) -> None:
    assert order_of(1, **settings) == order_of(1, **settings)
    assert order_of(1, **settings) != order_of(2, **settings)
    assert order_of(1, 0, **settings) != order_of(1, 1, **settings)
    assert sorted(order_of(1, **settings)) == list(range(50))


def test_batches_are_augmented_anew_each_epoch_and_the_same_again() -> None:
    index = np.arange(12)
    view = AugmentedView(Still(12), (Flip(),), None, seed=3)
    tensors = [view.batch(index, epoch).inputs.tensor for epoch in (0, 0, 1)]
    assert torch.equal(tensors[0], tensors[1])
    assert not torch.equal(tensors[0], tensors[2])
    other = AugmentedView(Still(12), (Flip(),), None, seed=4).batch(index, 0).inputs.tensor
    assert not torch.equal(tensors[0], other)


def test_stacked_views_differ_and_belong_to_their_items() -> None:
    index = np.array([4, 2, 7])
    view = Stacked(Noisy(9), 3)
    first, second = (view.batch(index, epoch).inputs.tensor for epoch in (0, 1))
    assert first.shape == (3, 3, 3, 8, 8)
    assert (first.flatten(2)[..., 0] == torch.tensor(index)[:, None]).all()
    seen = [tensor[0, number] for tensor in (first, second) for number in range(3)]
    assert len({tuple(view.flatten().tolist()) for view in seen}) == 6, "no view comes twice in two epochs"


def test_gain_is_in_decibels_of_amplitude() -> None:
    sound = torch.ones(400, 10)
    batch = Batch(inputs=Features(tensor=sound, layout="raw"), labels=None, index=torch.arange(400))
    out = Gain(decibels=6.0).apply(batch, torch.Generator().manual_seed(0), None).inputs.tensor[:, 0]
    decibels = 20 * out.log10()
    assert 5.8 < float(decibels.max()) <= 6.0
    assert -6.0 <= float(decibels.min()) < -5.8
    assert abs(float(decibels.mean())) < 0.6
