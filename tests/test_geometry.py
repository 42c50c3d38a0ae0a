"""Preprocessing of images: sizes, offsets and filters are torchvision's and timm's; `fit` decides what of an image is seen."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow
from timm.data import create_transform
from torchvision.transforms._presets import ImageClassification
from torchvision.transforms.functional import center_crop
from torchvision.transforms.functional import resize as torchvision_resize

from pretune import backbones, config
from pretune.backbones import Backbone
from pretune.errors import SettingError
from pretune.modalities.audio import Audio
from pretune.modalities.image import Image
from pretune.modalities.transforms.geometry import centre, scaled, stored, visible
from pretune.recipe import Inputs
from pretune.runner.inputs import fitted_to_probe, fitted_to_shape, fitted_to_small, set_inputs
from pretune.types import Row

MEAN = (0.485, 0.456, 0.406)


def _ramp(width: int, height: int) -> Pillow.Image:
    """A smooth image in which every place has a colour of its own: an offset of one pixel shows."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    waves = 127 + 120 * np.sin(x / 255 * 12 + y / 255 * 9)
    return Pillow.fromarray(np.stack([x, y, waves], -1).round().astype(np.uint8))


def _encoded(picture: Pillow.Image, kind: str = "BMP", **how: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **how)
    return out.getvalue()


def _timm(raw: bytes, size: int, share: float, mode: str, interpolation: str) -> NDArray[np.int64]:
    transform: Any = create_transform(
        (3, size, size), interpolation=interpolation, crop_pct=share, crop_mode=mode, mean=MEAN, use_prefetcher=True
    )
    return np.asarray(transform(Pillow.open(io.BytesIO(raw)))).transpose(1, 2, 0).astype(int)


def _ours(raw: bytes, image: Image) -> NDArray[np.int64]:
    return np.asarray(image.view(image.decode(raw).array, None, None)).astype(int)


SIZES = [
    (500, 375), (333, 500), (281, 500), (257, 256), (225, 224), (639, 481), (100, 80), (32, 32), (75, 51), (400, 64), (64, 401),
    (1600, 200), (50, 700), (700, 701), (899, 350), (513, 256), (1023, 341),
]  # fmt: skip
MODES = {"center": "crop", "squash": "squash", "border": "pad"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("size", "share", "interpolation"), [(224, 0.875, "bicubic"), (224, 0.95, "bilinear"), (161, 0.9, "bicubic"), (224, 1.0, "bicubic")]
)
def test_a_view_is_timms_to_the_pixel(mode: str, size: int, share: float, interpolation: Any) -> None:
    image: Image = config.build(
        Image, {"size": size, "resize": int(size / share), "interpolation": interpolation, "fit": MODES[mode], "mean": MEAN}
    )
    for width, height in SIZES:
        raw = _encoded(_ramp(width, height))
        difference = np.abs(_ours(raw, image) - _timm(raw, size, share, mode, interpolation))
        assert difference.max() <= 2, (width, height)  # one pixel of offset would be more than that in most of the image
        assert difference.mean() < 0.2, (width, height)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_view_is_torchvisions_to_the_pixel(width: int, height: int) -> None:
    picture = _ramp(width, height)
    image = Image(size=224, resize=232, interpolation="bilinear")
    preset = ImageClassification(crop_size=224, resize_size=232)
    expected = center_crop(torchvision_resize(picture, preset.resize_size, preset.interpolation), preset.crop_size)  # type: ignore[arg-type]
    assert np.abs(_ours(_encoded(picture), image) - np.asarray(expected).astype(int)).max() <= 2


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["BMP", "JPEG"])
def test_what_is_decoded_or_reduced_at_a_fraction_lies_at_the_same_place(kind: str, mode: str) -> None:
    image: Image = config.build(Image, {"fit": MODES[mode], "mean": MEAN})
    for width, height in ((1999, 1201), (2055, 2063), (1033, 2081)):
        raw = _encoded(_ramp(width, height), kind, **({"quality": 98, "subsampling": 0} if kind == "JPEG" else {}))
        difference = _ours(raw, image) - _timm(raw, 224, 0.875, mode, "bicubic")
        assert np.abs(difference.mean((0, 1))).max() < 0.25, (width, height)  # levels: what a shift of a quarter of a pixel makes
        assert np.abs(difference).mean() < 0.6, (width, height)


def test_orientation_and_rounding_go_together() -> None:
    picture = _ramp(500, 333)
    turned = picture.transpose(Pillow.Transpose.ROTATE_90)
    exif = Pillow.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    raw = _encoded(turned, "PNG", exif=exif)
    difference = np.abs(_ours(raw, Image()) - _timm(_encoded(picture), 224, 0.875, "center", "bicubic"))
    assert difference.max() <= 2


def test_rules_of_size_and_offset() -> None:
    assert scaled((500, 375), 256, "crop") == (341, 256)  # 341.33: rounded down
    assert scaled((500, 376), 256, "pad") == (256, 193)  # 192.51: rounded
    assert [centre(length, 224) for length in (224, 225, 226, 227, 229)] == [0, 0, 1, 2, 2]
    for length in range(513, 1500):
        kept = stored((length, 256), 256, "crop")
        assert kept.left + centre(kept.kept[0], 224) == centre(kept.size[0], 224)
        assert kept.kept[0] <= 512


# --- fit -----------------------------------------------------------------------------------------------


def _strip(at: int) -> bytes:
    """A strip of 400x64 with a red block at a place."""
    pixels = np.full((64, 400, 3), 128, np.uint8)
    pixels[:, at : at + 40] = (230, 20, 20)
    return _encoded(Pillow.fromarray(pixels))


def _red(view: NDArray[np.int64]) -> float:
    return float(((view[..., 0] - view[..., 1]) > 100).mean())


def test_crop_cuts_the_ends_off_and_squash_and_pad_show_them() -> None:
    image = Image()
    for at in (0, 360):
        assert _red(_ours(_strip(at), image)) == 0
        assert _red(_ours(_strip(at), image.fitted("squash"))) == pytest.approx(0.1, abs=0.01)
        assert _red(_ours(_strip(at), image.fitted("pad"))) == pytest.approx(0.1 * 36 / 224, abs=0.003)
    padded = _ours(_strip(0), image.fitted("pad"))
    assert tuple(padded[0, 0]) == tuple(round(255 * value) for value in image.mean)
    assert image.fitted("crop") is image
    assert image.fitted("pad").resize == image.size


def test_random_windows_of_a_padded_picture_are_cut_from_the_square() -> None:
    class All:
        def window(self, shape: tuple[int, ...], rng: object) -> tuple[int, int, int, int]:
            assert shape[0] == shape[1]
            return 0, 0, shape[0], shape[1]

    image = Image().fitted("pad")
    crop: Any = All()
    view = image.view(image.decode(_strip(0)).array, crop, np.random.default_rng(0))
    assert tuple(view[0, 0]) == tuple(round(255 * value) for value in image.mean)


def test_what_the_centre_crop_leaves_out_is_said() -> None:
    image = Image()
    wide = [{"width": 400, "height": 64}] * 6 + [{"width": 400, "height": 300}] * 4
    (finding,) = image.findings(wide)
    assert "6 of 10 images are far from square (up to 6.2:1)" in finding.message
    assert "leaves out 88%" in finding.message
    assert "fit=squash" in finding.message
    assert finding.severity == "warning"
    assert image.findings(wide[-4:]) == []
    assert image.findings([]) == []
    assert image.fitted("squash").findings(wide) == []
    assert image.findings([{"width": 16, "height": 9}])[0].severity == "note"
    assert visible((256, 256), 256, 224, "crop") == pytest.approx((224 / 256) ** 2)
    assert visible((400, 64), 224, 224, "pad") == 1.0


def test_fit_is_a_setting_of_the_run_and_travels_with_its_preprocessing(tmp_path: Path) -> None:
    backbone = backbones.load("scratch:cnn,width=8,depth=1,stages=2,size=64")
    set_inputs(backbone, Inputs(fit="squash"))
    assert isinstance(backbone.modality, Image)
    assert (backbone.modality.fit, backbone.modality.resize) == ("squash", 64)
    assert backbone.modality.working() != Image(size=64, resize=64).working(), "the cache keeps them apart"
    backbones.save(backbone, tmp_path)
    assert backbones.read(tmp_path).modality == backbone.modality


def test_fit_survives_a_smaller_input_and_is_refused_for_sounds(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(_encoded(_ramp(30, 20)))
    backbone = backbones.load("scratch:cnn,width=8,depth=1,stages=2")
    set_inputs(backbone, Inputs(fit="pad"))
    smaller, message = fitted_to_small(
        backbone, [Row(id="a.png", path=tmp_path / "a.png")], named="scratch:cnn", inputs=Inputs(fit="pad"), seed=0
    )
    assert isinstance(smaller.modality, Image)
    assert "the network from scratch sees them at" in message
    assert smaller.modality.fit == "pad"
    sounds: Backbone = backbones.load("scratch:audiocnn,width=4,blocks=2")
    assert isinstance(sounds.modality, Audio)
    with pytest.raises(SettingError, match="fit=pad does not apply"):
        set_inputs(sounds, Inputs(fit="pad"))


@pytest.mark.parametrize(("side", "size"), [(20, 128), (32, 128), (40, 160), (60, 224), (300, 224)])
def test_a_probe_sees_small_images_at_four_times_their_size_and_says_so(side: int, size: int, tmp_path: Path) -> None:
    rows = [Row(id=f"{i}.png", path=tmp_path / f"{i}.png") for i in range(3)]
    for row in rows:
        assert isinstance(row.path, Path)
        row.path.write_bytes(_encoded(_ramp(side, side + 5)))
    backbone = backbones.build(backbones.Builder(id="package:efficientnet_lite0"))
    message = fitted_to_probe(backbone, rows, Inputs())
    assert isinstance(backbone.modality, Image)
    assert backbone.modality.size == size
    assert (f"sees them at {size} pixels" in message) == (size < 224)
    backbone = backbones.build(backbones.Builder(id="package:efficientnet_lite0"))
    assert fitted_to_probe(backbone, rows, Inputs(image_size=224)) == "", "whoever names a size keeps it"


@pytest.mark.parametrize(("long", "fit"), [(0, "crop"), (2, "crop"), (3, "squash"), (10, "squash")])
def test_where_a_crop_would_hide_most_of_many_pictures_they_are_squashed_and_it_is_said(long: int, fit: str, tmp_path: Path) -> None:
    rows = []
    for i in range(10):
        path = tmp_path / f"{i}.png"
        path.write_bytes(_encoded(Pillow.new("RGB", (500, 200) if i < long else (200, 130))))
        rows.append(Row(id=path.name, path=path))
    backbone = backbones.load("scratch:cnn,width=8,depth=1,stages=2,size=64")
    rows.append(Row(id="gone", path=tmp_path / "gone.png"))
    messages = fitted_to_shape(backbone, rows, Inputs())
    assert isinstance(backbone.modality, Image)
    assert backbone.modality.fit == fit
    assert bool(messages) is (fit == "squash")
    assert not messages or "fit=crop cuts" in messages
    again = backbones.load("scratch:cnn,width=8,depth=1,stages=2,size=64")
    assert fitted_to_shape(again, rows, Inputs(fit="crop")) == "", "whoever names a fit decides"
    assert isinstance(again.modality, Image)
    assert again.modality.fit == "crop"


def test_a_network_that_timm_pads_for_is_padded_for() -> None:
    from pretune.backbones.timm import _image

    facts: Any = type("Facts", (), {"input_size": (3, 224, 224), "crop_pct": 1.0, "mean": MEAN, "std": MEAN, "interpolation": "bicubic"})
    for mode, fit in MODES.items():
        facts.crop_mode = mode
        assert _image("x", facts, None).fit == fit
