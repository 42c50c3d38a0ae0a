"""Each pooling is what its name says, of maps and of sequences with padding."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pretune.backbones import Backbone, Builder
from pretune.data.dataset import FeatureView
from pretune.modalities.image import Image
from pretune.models import Model
from pretune.models.heads.linear import Linear
from pretune.models.pooling import CHOICES, MOST_LAYERS, POOLINGS, WIDEST, Pool, blocks, choices, collected, columns_of
from pretune.types import Features, Layout

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
    names = [f"layer{i}" for i in range(16)]
    assert collected(names, "layers") == [f"layer{i}" for i in range(1, 16, 2)]
    assert collected(names[:9], "layers_mean_std") == names[1:9]
    assert len(collected(names[:11], "layers")) == MOST_LAYERS
    assert collected(names[:3], "layers") == names[:3]
    assert collected(names, "last4_mean_std") == names[-4:]


@pytest.mark.parametrize("layout", CHOICES)
def test_each_choice_is_columns_of_the_widest_pooling(layout: Layout) -> None:
    """A model that pools all, and one that pools a choice, give the same numbers in the same order."""
    stages = {"one": nn.Conv2d(3, 4, 1), "two": nn.Conv2d(4, 6, 1), "three": nn.Conv2d(6, 5, 1)}
    backbone = Backbone(
        stages=((name, Positions(stage, layout)) for name, stage in stages.items()),
        modality=Image(size=8, resize=8, mean=(0.5,) * 3, std=(0.5,) * 3),
        layout=layout,
        width=5,
        builder=Builder(id=""),
    )
    raw = Features(tensor=torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8), layout="raw")
    model = Model(backbone, Linear(), 2, "mean")
    widths = model.widths(raw)
    assert widths == {"one": (layout, 4), "two": (layout, 6), "three": (layout, 5)}
    model.repool(WIDEST, blocks(widths, WIDEST)[-1].stop)
    whole = model.eval().before_head(raw).tensor
    assert whole.shape == (2, 2 * (4 + 6 + 5))
    for name in CHOICES[layout]:
        columns = torch.cat([torch.arange(block.start, block.stop) for block in columns_of(name, widths)])
        model.repool(name, len(columns))
        assert model.eval()(raw).shape == (2, 2)
        torch.testing.assert_close(model.before_head(raw).tensor, whole[:, columns])


@pytest.mark.parametrize("count", [3, 8, 10, 11, 20])
def test_of_many_stages_only_poolings_that_the_widest_holds_whole_are_tried(count: int) -> None:
    """A head on fewer columns than the pooling gives would fit the cached features and no image."""
    widths: dict[str, tuple[Layout, int]] = {f"stage{i}": ("map", 3) for i in range(count)}
    found = choices("map", widths)
    assert all(sum(b.stop - b.start for b in held) == blocks(widths, name)[-1].stop for name, held in found.items())
    assert ("last4_mean_std" in found) == (count < 11)
    assert {"mean", "mean_std", WIDEST} <= set(found)


class Positions(nn.Module):
    """A stage that gives a map, or the same as a sequence."""

    def __init__(self, stage: nn.Module, layout: Layout) -> None:
        super().__init__()
        self.stage, self.layout = stage, layout

    def forward(self, features: Features) -> Features:
        x = features.tensor if features.tensor.ndim == 4 else features.tensor.transpose(1, 2).unflatten(2, (8, 8))
        x = self.stage(x)
        return features.with_tensor(x if self.layout == "map" else x.flatten(2).transpose(1, 2), self.layout)


def test_a_view_of_cached_features_takes_the_columns_that_were_chosen() -> None:
    view = FeatureView(torch.arange(12.0).view(3, 4), np.array([2, 0]), "pooled", None, columns=torch.tensor([3, 1]))
    assert view.batch(np.array([0, 1]), 0).inputs.tensor.tolist() == [[11.0, 9.0], [3.0, 1.0]]


def test_a_head_is_standardised_by_features_of_another_device() -> None:
    """Cached features stay on the CPU where the head is on a GPU; `meta` stands for one here."""
    head = Linear().build(4, 2).to("meta")
    head.fit(torch.randn(10, 4))
    assert head.mean.device.type == head.scale.device.type == "meta"
