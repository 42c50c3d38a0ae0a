"""What is kept is found again by everything that made it, and by nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pretune.augmentations.random_resized_crop import RandomResizedCrop
from pretune.features import frozen
from pretune.modalities.text import Text
from pretune.storage.cache import Cache
from pretune.types import Row
from tests.conftest import tiny_backbone
from tests.test_features import decoded, entries, model_of, needs_of


def test_features_of_other_data_crops_views_or_seeds_are_others(tmp_path: Path) -> None:
    backbone, crop = tiny_backbone(), RandomResizedCrop()
    model, needs = model_of(backbone), needs_of(tmp_path, backbone)
    counts = []
    for chosen, views, seed in ((crop, 2, 0), (RandomResizedCrop(scale=(0.5, 1.0)), 2, 0), (crop, 2, 1), (crop, 3, 0), (crop, 2, 0)):
        frozen.compute(model, needs, chosen, views, seed)
        counts.append(entries(tmp_path))
    assert counts == [1, 2, 3, 4, 4]
    for seed in (0, 1):  # one view is cut the same whatever the seed and the crop
        frozen.compute(model, needs, crop if seed else None, 1, seed)
        assert entries(tmp_path) == 5
    needs.ingested = decoded(Cache(tmp_path), 10)
    frozen.compute(model, needs, crop, 2, 0)
    assert entries(tmp_path) == 6


def test_what_changes_stored_tokens_is_in_their_key() -> None:
    made = Text(vocabulary=300).fitted_to([Row(id="a", text=("some words",), split="train")])[0]
    other = Text(vocabulary=300).fitted_to([Row(id="a", text=("other words",), split="train")])[0]
    assert made.working() == replace(made).working()
    assert made.working() != other.working()
    assert made.working() != replace(made, max_tokens=100).working()
