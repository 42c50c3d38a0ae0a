"""Each pooling is what its name says, of maps and of sequences with padding."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pretune.models.pooling import MOST_LAYERS, POOLINGS, Pool, collected
from pretune.types import Features

REFERENCES: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda x: x.mean(0),
    "mean_std": lambda x: torch.cat([x.mean(0), (x.var(0, correction=0) + 1e-6).sqrt()]),
    "first": lambda x: x[0],
    "last": lambda x: x[-1],
    "max": lambda x: x.amax(0),
}
"""Of one item's real positions (T, D)."""


@pytest.mark.parametrize("kind", POOLINGS)
def test_sequences_are_pooled_over_their_real_positions(kind: str) -> None:
    x = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0))
    lengths = [6, 1, 4]
    mask = torch.arange(6) < torch.tensor(lengths)[:, None]
    out = Pool(kind)(Features(tensor=x, layout="sequence", mask=mask))
    assert out.layout == "pooled"
    assert out.tensor.shape == (3, 4 * POOLINGS[kind])
    for row, item, length in zip(out.tensor, x, lengths, strict=True):
        torch.testing.assert_close(row, REFERENCES[kind](item[:length]))


@pytest.mark.parametrize("kind", POOLINGS)
def test_maps_are_pooled_over_their_places(kind: str) -> None:
    x = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0)).bfloat16()
    out = Pool(kind)(Features(tensor=x, layout="map")).tensor
    assert out.dtype == torch.float32
    for row, item in zip(out, x.float(), strict=True):
        torch.testing.assert_close(row, REFERENCES[kind](item.flatten(1).T))


def test_of_many_layers_the_last_and_others_at_equal_distances_are_pooled() -> None:
    names = [f"layer{i}" for i in range(15)]
    assert collected(names) == {f"layer{i}" for i in range(0, 15, 2)}
    assert len(collected(names)) == MOST_LAYERS
    assert collected(names[:3]) == set(names[:3])
