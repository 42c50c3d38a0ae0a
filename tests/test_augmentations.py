"""Augmentation parts: deterministic, each item by its own draw, and honest about targets."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pretune import registry
from pretune.augmentations import BatchAugmentation, ViewAugmentation, preset
from pretune.augmentations.colour import Colour
from pretune.augmentations.cutmix import CutMix
from pretune.augmentations.erasing import Erasing
from pretune.augmentations.flip import Flip
from pretune.augmentations.mixup import Mixup
from pretune.augmentations.randaugment import OPERATIONS, RandAugment
from pretune.augmentations.rotation import Rotation
from pretune.augmentations.zoom_out import ZoomOut
from pretune.errors import SettingError
from pretune.labels import Labels
from pretune.types import Batch, Features

PARTS: dict[str, BatchAugmentation] = {
    "flip": Flip(vertical=0.5),
    "rotation": Rotation(degrees=40),
    "colour": Colour(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.2),
    "randaugment": RandAugment(operations=2, magnitude=6),
    "mixup": Mixup(alpha=1.0),
    "cutmix": CutMix(),
    "erasing": Erasing(probability=0.5),
    "zoom_out": ZoomOut(),
}
IDLE = [
    Flip(horizontal=0, vertical=0),
    Rotation(degrees=0),
    Colour(brightness=0, contrast=0, saturation=0, hue=0),
    RandAugment(operations=0),
    Mixup(alpha=0),
    Mixup(probability=0),
    CutMix(alpha=0),
    CutMix(probability=0),
    Erasing(probability=0),
    ZoomOut(probability=0),
    ZoomOut(most=1),
]


def pictures(size: int = 6, height: int = 20, width: int = 28, seed: int = 0) -> Tensor:
    """Smooth colourful images, uint8 (B, 3, H, W)."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(0, 255, (size, 3, 4, 5)).astype(np.float32))
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear").round().to(torch.uint8)


def batch_of(images: Tensor, targets: Tensor | None = None) -> Batch:
    return Batch(
        inputs=Features(tensor=images, layout="raw"),
        labels=None if targets is None else Labels.of(targets),
        index=torch.arange(len(images)),
    )


def applied(part: BatchAugmentation, images: Tensor, targets: Tensor | None = None, seed: int = 0, classes: int | None = None) -> Batch:
    return part.apply(batch_of(images, targets), torch.Generator().manual_seed(seed), classes)


def targets_of(batch: Batch) -> Tensor:
    assert batch.target is not None
    return batch.target


@pytest.mark.parametrize("name", PARTS)
def test_a_part_is_registered_and_keeps_shape_dtype_and_its_input(name: str) -> None:
    part, images = PARTS[name], pictures()
    before = images.clone()
    out = applied(part, images).inputs.tensor
    assert registry.load("augmentations", name) is type(part)
    assert (out.shape, out.dtype) == (images.shape, torch.uint8)
    assert torch.equal(images, before)
    assert not torch.equal(out, images)


@pytest.mark.parametrize("name", PARTS)
def test_the_generator_alone_decides(name: str) -> None:
    images, targets = pictures(), torch.tensor([0, 1, 2, 0, 1, 2])
    torch.manual_seed(1)
    first = applied(PARTS[name], images, targets, seed=5, classes=3)
    torch.manual_seed(2)
    again, other = (applied(PARTS[name], images, targets, seed=seed, classes=3) for seed in (5, 6))
    assert torch.equal(first.inputs.tensor, again.inputs.tensor)
    assert torch.equal(targets_of(first), targets_of(again))
    assert not torch.equal(first.inputs.tensor, other.inputs.tensor)


@pytest.mark.parametrize("name", ["flip", "rotation", "colour", "randaugment", "erasing"])
def test_equal_items_are_changed_differently(name: str) -> None:
    images = pictures(1).expand(12, -1, -1, -1)
    assert len(applied(PARTS[name], images).inputs.tensor.flatten(1).unique(dim=0)) > 2


def classes_of(targets: Tensor) -> Tensor:
    return targets if targets.ndim == 1 else targets.argmax(1)


@pytest.mark.parametrize("part", IDLE, ids=repr)
def test_strength_zero_changes_nothing(part: BatchAugmentation) -> None:
    images, targets = pictures(), torch.tensor([0, 1, 2, 0, 1, 2])
    out = applied(part, images, targets, classes=3)
    assert torch.equal(out.inputs.tensor, images)
    assert torch.equal(classes_of(targets_of(out)), targets)


def test_flips_are_mirrors_at_the_asked_rate() -> None:
    images = pictures(1).expand(2000, -1, -1, -1)
    out = applied(Flip(horizontal=0.25), images).inputs.tensor
    mirrored = (out == images.flip(-1)).all(3).all(2).all(1)
    same = (out == images).all(3).all(2).all(1)
    assert (mirrored ^ same).all()
    assert 0.2 < mirrored.float().mean() < 0.3
    assert torch.equal(applied(Flip(horizontal=1, vertical=1), images[:2]).inputs.tensor, images[:2].flip(-1, -2))


def test_rotation_keeps_angles_on_pictures_that_are_not_square(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.zeros(1, 3, 21, 41, dtype=torch.uint8)
    images[..., 10, 28] = 255
    monkeypatch.setattr(torch, "rand", lambda *_, **__: torch.ones(1))
    out = applied(Rotation(degrees=90), images).inputs.tensor
    bright = (out[0, 0] > 128).nonzero().tolist()
    assert bright in ([[2, 20]], [[18, 20]])


def test_colour_moves_mean_and_saturation_as_said() -> None:
    images = pictures(64).float().mul(0.5).add(60).to(torch.uint8)
    mean = images.float().mean((1, 2, 3))
    ratio = applied(Colour(brightness=0.2, contrast=0, saturation=0, hue=0), images).inputs.tensor.float().mean((1, 2, 3)) / mean
    assert 0.79 < ratio.min() < 0.9
    assert 1.1 < ratio.max() < 1.21
    luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    turned = applied(Colour(brightness=0, contrast=0, saturation=0.3, hue=0.05), images).inputs.tensor
    assert ((turned.float() * luma).sum(1) - (images.float() * luma).sum(1)).abs().max() < 2
    contrasted = applied(Colour(brightness=0, contrast=0.4, saturation=0, hue=0), images).inputs.tensor.float()
    assert ((contrasted * luma).sum(1).mean((1, 2)) - (images.float() * luma).sum(1).mean((1, 2))).abs().max() < 1


@pytest.mark.parametrize("index", range(len(OPERATIONS)))
def test_an_operation_leaves_pictures_whole_at_magnitude_zero(index: int) -> None:
    images = pictures(2)
    same = [torch.equal(OPERATIONS[index](images, 0.0, sign), images) for sign in (-1, 1)]
    assert all(same) or index >= len(OPERATIONS) - 2
    for sign in (-1, 1):
        out = OPERATIONS[index](images, 1.0, sign)
        assert (out.shape, out.dtype) == (images.shape, torch.uint8)


def test_randaugment_changes_an_image_as_if_it_were_alone() -> None:
    images = pictures(40)
    which = torch.randint(2 * len(OPERATIONS), (40,), generator=torch.Generator().manual_seed(0))
    out = applied(RandAugment(operations=1, magnitude=5), images).inputs.tensor
    for i, drew in enumerate(which.tolist()):
        assert torch.equal(out[i], OPERATIONS[drew // 2](images[i : i + 1], 0.5, 1 if drew % 2 else -1)[0])


def flat(values: list[int]) -> Tensor:
    """One-coloured images, whose value tells whose pixels they are."""
    return torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 24, 24).contiguous()


@pytest.mark.parametrize("part", [Mixup(alpha=1.0), CutMix()], ids=["mixup", "cutmix"])
def test_targets_mix_in_the_ratio_of_the_pixels(part: BatchAugmentation) -> None:
    targets = torch.arange(8)
    out = applied(part, flat([0, 30, 60, 90, 120, 150, 180, 240]), targets, classes=8)
    values = torch.tensor([0.0, 30, 60, 90, 120, 150, 180, 240])
    mixed = targets_of(out)
    assert mixed.shape == (8, 8)
    torch.testing.assert_close(mixed.sum(1), torch.ones(8))
    torch.testing.assert_close(out.inputs.tensor.float().mean((1, 2, 3)), mixed @ values, atol=0.51, rtol=0)
    assert len(mixed.diagonal().unique()) > 4


def test_soft_and_multihot_targets_and_numbers_mix_too() -> None:
    images, multihot = flat([0, 100, 200]), torch.tensor([[1.0, 1, 0], [0, 1, 0], [0, 0, 1]])
    numbers = torch.tensor([0.0, 100.0, 200.0])
    one, two = applied(Mixup(alpha=1.0), images, multihot), applied(Mixup(alpha=1.0), images, numbers)
    torch.testing.assert_close(two.inputs.tensor.float().mean((1, 2, 3)), targets_of(two), atol=0.51, rtol=0)
    assert targets_of(one).shape == (3, 3)
    assert targets_of(one).max() <= 1
    twice = applied(CutMix(), one.inputs.tensor, one.target)
    assert targets_of(twice).shape == (3, 3)
    assert applied(Mixup(), images).labels is None


def test_mixing_says_what_it_cannot_do() -> None:
    with pytest.raises(SettingError, match="take mixup"):
        applied(CutMix(), flat([0, 9]), torch.tensor([0.5, 0.7]))
    with pytest.raises(SettingError, match="number of classes"):
        applied(Mixup(), flat([0, 9]), torch.tensor([0, 1]))


def test_half_of_the_images_are_mixed_at_probability_a_half() -> None:
    targets = torch.arange(400)
    out = applied(Mixup(alpha=1.0, probability=0.5), pictures(1, 4, 4).expand(400, -1, -1, -1), targets, classes=400)
    assert 0.4 < (targets_of(out).amax(1) < 1).float().mean() < 0.6


def test_erasing_covers_areas_in_its_range() -> None:
    images = torch.full((300, 3, 60, 60), 7, dtype=torch.uint8)
    share = (applied(Erasing(probability=1.0, area=(0.1, 0.3)), images).inputs.tensor != 7).any(1).float().mean((1, 2))
    assert share.min() > 0.08
    assert share.max() < 0.32
    assert share.max() - share.min() > 0.15
    with pytest.raises(SettingError, match=r"erasing\.area"):
        Erasing(area=(0.5, 0.1))


def test_presets_are_parts_and_grow() -> None:
    sizes = [len(preset(name, "image")) for name in ("none", "light", "medium", "strong")]
    assert sizes == sorted(sizes)
    assert sizes[0] == 0
    assert sum(isinstance(part, ViewAugmentation) for part in preset("strong", "image")) == 1
    for modality in ("image", "audio"):
        assert [part for part in preset("strong", modality) if part.mixes]
        assert list(preset("strong", modality, mixes=False)) == [p for p in preset("strong", modality) if not p.mixes]
    assert preset("light", "text") == ()
    with pytest.raises(SettingError, match="no augmentation preset 'strong' for text"):
        preset("strong", "text")
    with pytest.raises(SettingError, match="Did you mean 'strong'"):
        preset("stong", "image")


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_shares_are_beta_distributed(alpha: float) -> None:
    out = applied(Mixup(alpha=alpha), pictures(1, 2, 2).expand(1500, -1, -1, -1), torch.arange(1500), classes=1500)
    share = targets_of(out).diagonal()
    assert math.isclose(float(share.mean()), 0.5, abs_tol=0.05)
    assert math.isclose(float(share.var()), 1 / (4 * (2 * alpha + 1)), rel_tol=0.1)
