"""Batches and their labels: dense and ragged ones are taken, moved and placed alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pretune import backbones
from pretune.augmentations.mixup import Mixup
from pretune.errors import SettingError
from pretune.labels import Labels, Ragged
from pretune.models import Model
from pretune.models.heads.linear import Linear
from pretune.models.pooling import positions
from pretune.training.step import split
from pretune.types import Batch, Features

WORDS = [[3, 1], [4], [], [1, 5, 9]]


def ragged() -> Ragged:
    return Ragged.of([torch.tensor(words, dtype=torch.long) for words in WORDS])


def listed(one: torch.Tensor | Ragged) -> list[list[int]]:
    assert isinstance(one, Ragged)
    return [tensor.tolist() for tensor in one.split()]


@pytest.mark.parametrize("index", [slice(1, 4), torch.tensor([3, 0, 3]), torch.tensor([2]), torch.zeros(0, dtype=torch.long)])
def test_ragged_labels_are_taken_like_a_list(index: slice | torch.Tensor) -> None:
    wanted = WORDS[index] if isinstance(index, slice) else [WORDS[i] for i in index.tolist()]
    assert listed(ragged().take(index)) == wanted


def test_padding_goes_and_comes_back() -> None:
    padded = ragged().padded(-100)
    assert padded.tolist() == [[3, 1, -100], [4, -100, -100], [-100] * 3, [1, 5, 9]]
    assert ragged().padded(0, 5).shape == (4, 5)
    assert listed(Ragged.unpadded(padded, padded != -100)) == WORDS


def test_labels_of_some_rows_are_placed_among_all() -> None:
    labels = Labels({"boxes": ragged(), "count": torch.tensor([2.0, 1.0, 0.0, 3.0])})
    placed = labels.placed(torch.tensor([1, 2, 4, 6]), 7)
    assert placed.size == 7
    assert listed(placed["boxes"]) == [[], [3, 1], [4], [], [], [], [1, 5, 9]]
    count = placed["count"]
    assert isinstance(count, torch.Tensor)
    assert count.tolist() == [0, 2, 1, 0, 0, 0, 3]


def test_a_batch_is_split_with_all_that_belongs_to_its_examples() -> None:
    mask = torch.tensor([[True, True], [True, False], [True, True], [True, True]])
    inputs = Features(tensor=torch.arange(8).view(4, 2), layout="raw", mask=mask)
    batch = Batch(inputs=inputs, labels=Labels.of(ragged()), index=torch.tensor([7, 5, 8, 6]))
    parts = split(batch, 3)
    assert [part.size for part in parts] == [3, 1]
    assert parts[1].inputs.tensor.tolist() == [[6, 7]]
    assert [part.labels is not None and listed(part.labels["target"]) for part in parts] == [WORDS[:3], WORDS[3:]]
    assert torch.cat([part.index for part in parts]).tolist() == [7, 5, 8, 6]
    moved = inputs.to(torch.device("meta"))
    assert moved.mask is not None
    assert (moved.tensor.device.type, moved.mask.device.type) == ("meta", "meta")


def test_a_loss_takes_the_tensor_that_labels_are() -> None:
    one = torch.tensor([1, 0])
    assert Labels.of(one).value is one
    several = Labels.of(ragged())
    assert several.value is several
    with pytest.raises(TypeError, match="ragged"):
        _ = several.only


def test_mixing_examples_with_several_labels_each_is_refused() -> None:
    batch = Batch(
        inputs=Features(tensor=torch.zeros(4, 3, 2, 2, dtype=torch.uint8), layout="raw"), labels=Labels.of(ragged()), index=torch.arange(4)
    )
    with pytest.raises(SettingError, match="several"):
        Mixup().apply(batch, torch.Generator().manual_seed(0), 10)


@pytest.mark.parametrize(("layout", "shape"), [("pooled", (2, 3)), ("map", (2, 2, 2, 3))])
def test_a_head_gives_outputs_for_each_place_of_a_map(layout: Any, shape: tuple[int, ...]) -> None:
    backbone = backbones.from_scratch("scratch:cnn,width=8,depth=1", image_size=16)
    model = Model(backbone, Linear(), 3, layout=layout)
    raw = backbone.modality.collate([np.zeros((16, 16, 3), np.uint8)] * 2)
    out = model.eval().predict(raw)
    assert isinstance(out, torch.Tensor)
    assert out.shape == shape
    assert positions(model.before_head(raw)).shape == (int(np.prod(shape[:-1])), model.head.mean.numel())


def test_a_head_is_refused_features_that_its_backbone_does_not_return() -> None:
    backbone = backbones.from_scratch("scratch:cnn,width=8,depth=1", image_size=16)
    with pytest.raises(SettingError, match=r"the head takes a sequence, and scratch:cnn.* returns features of the layout map"):
        Model(backbone, Linear(), 3, layout="sequence")
