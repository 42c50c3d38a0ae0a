"""Images as batches: random crops, the normaliser, the floor's features, and the settings they depend on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pretune.augmentations.random_resized_crop import RandomResizedCrop
from pretune.errors import SettingError
from pretune.modalities._hog import hog
from pretune.modalities.image import Image
from pretune.types import Features

IMAGE = Image()

# --- random resized crop --------------------------------------------------------------------------


def test_windows_lie_inside_and_have_the_asked_area_and_aspect() -> None:
    crop = RandomResizedCrop(scale=(0.2, 0.9))
    rng = np.random.default_rng(0)
    windows = np.array([crop.window((256, 341, 3), rng) for _ in range(500)])
    top, left, height, width = windows.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 256).all()
    assert (left + width <= 341).all()
    share, ratio = height * width / (256 * 341), width / height
    assert 0.19 < share.min() < 0.25
    assert 0.8 < share.max() < 0.91
    assert 0.74 < ratio.min() < 0.78
    assert 1.28 < ratio.max() < 1.35


def test_extreme_pictures_give_the_widest_allowed_window() -> None:
    rng = np.random.default_rng(0)
    assert RandomResizedCrop(scale=(1.0, 1.0)).window((100, 200, 3), rng) == (0, 33, 100, 133)
    assert RandomResizedCrop().window((1, 1, 3), rng) == (0, 0, 1, 1)


@pytest.mark.parametrize("settings", [{"scale": (0.0, 1.0)}, {"scale": (0.5, 0.2)}, {"scale": (0.1, 1.5)}, {"ratio": (1.0,)}])
def test_impossible_crops_are_refused(settings: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(SettingError, match=next(iter(settings))):
        RandomResizedCrop(**settings)


# --- batches -------------------------------------------------------------------------------------


def batch(count: int = 3, side: int = 32) -> Features:
    rng = np.random.default_rng(0)
    return IMAGE.collate([rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(count)])


def exact(features: Features) -> torch.Tensor:
    mean, std = (torch.tensor(v, dtype=torch.float64).view(1, 3, 1, 1) for v in (IMAGE.mean, IMAGE.std))
    return (features.tensor.double() / 255 - mean) / std


def test_collate_is_channels_last_uint8() -> None:
    tensor = batch().tensor
    assert tensor.shape == (3, 3, 32, 32)
    assert tensor.dtype == torch.uint8
    assert tensor.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("side", [32, 224])
def test_normaliser_is_exact_and_keeps_channels_last(side: int) -> None:
    features = batch(side=side)
    out = IMAGE.normaliser()(features).tensor
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert (out.double() - exact(features)).abs().max() < 1e-5


def test_normaliser_keeps_its_constants_when_the_model_is_cast() -> None:
    normaliser = IMAGE.normaliser().to(torch.bfloat16)
    normaliser.dtype = torch.bfloat16
    out = normaliser(batch()).tensor
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, exact(batch()).float().to(torch.bfloat16))


def test_normaliser_lets_gradients_through() -> None:
    raw = batch().tensor.float().requires_grad_()
    IMAGE.normaliser()(Features(tensor=raw, layout="raw")).tensor.sum().backward()
    assert raw.grad is not None
    assert torch.allclose(raw.grad[0, :, 0, 0], torch.tensor([1 / (255 * s) for s in IMAGE.std]))


def test_normaliser_is_the_same_when_traced_as_one_expression(monkeypatch: pytest.MonkeyPatch) -> None:
    eager = IMAGE.normaliser()(batch()).tensor
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert torch.equal(IMAGE.normaliser()(batch()).tensor, eager)


# --- the floor ------------------------------------------------------------------------------------


def test_hog_equals_scikit_images() -> None:
    reference = pytest.importorskip("skimage.feature")
    grey = np.random.default_rng(0).random((3, 64, 64)).astype(np.float32)
    expected = [reference.hog(g, orientations=9, pixels_per_cell=(8, 8), cells_per_block=(2, 2), block_norm="L2-Hys") for g in grey]
    assert np.allclose(hog(grey), expected, atol=1e-5)


def test_floor_features_separate_colours_and_directions() -> None:
    y, x = np.mgrid[0:100, 0:120]
    across = np.repeat(((np.sin(x / 3) + 1) * 127).astype(np.uint8)[..., None], 3, axis=2)
    along = np.repeat(((np.sin(y / 3) + 1) * 127).astype(np.uint8)[..., None], 3, axis=2)
    red, blue = np.zeros((2, 50, 70, 3), np.uint8)
    red[..., 0], blue[..., 2] = 200, 200
    features = IMAGE.baseline_features([across, along, red, blue])
    assert features.shape == (4, 70 + 1764)
    assert np.isfinite(features).all()
    assert np.abs(features[0, 70:] - features[1, 70:]).sum() > 50
    assert np.abs(features[2, :70] - features[3, :70]).sum() > 1


# --- settings -------------------------------------------------------------------------------------


def test_settings_are_checked() -> None:
    with pytest.raises(SettingError, match=r"at least image\.size = 256"):
        Image(size=256, resize=224)
    with pytest.raises(SettingError, match="3 numbers"):
        Image(mean=(0.5,))
    with pytest.raises(SettingError, match="above 0"):
        Image(std=(0.5, 0.0, 0.5))


def test_the_working_key_knows_what_stored_pictures_depend_on() -> None:
    assert Image(size=192).working() == IMAGE.working()
    assert Image(mean=(0.5, 0.5, 0.5)).working() == IMAGE.working()
    for other in (Image(resize=288), Image(interpolation="bilinear"), Image(fit="squash")):
        assert other.working() != IMAGE.working()
