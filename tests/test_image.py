"""Images: every mode and format becomes the same upright 8-bit RGB, and what is not an image is named."""

from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageFile

from pretune.augmentations.random_resized_crop import RandomResizedCrop
from pretune.errors import BadItem
from pretune.modalities import _image_formats
from pretune.modalities._image_decode import eight_bits
from pretune.modalities._image_resize import resize
from pretune.modalities.image import Image

IMAGE = Image()


def photo(width: int = 96, height: int = 96, seed: int = 0) -> Pillow.Image:
    """A smooth image with some texture, bright at the top left."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = 120 + 60 * np.sin(x / width * 7)[..., None] * np.cos(y / height * np.array([3, 5, 4]).reshape(3, 1, 1)).transpose(1, 2, 0)
    return Pillow.fromarray(
        (waves + rng.integers(-6, 7, (height, width, 3)) - 40 * (x + y)[..., None] / (width + height)).clip(0, 255).astype(np.uint8)
    )


def encoded(picture: Pillow.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def reason_of(raw: bytes) -> tuple[str, str]:
    with pytest.raises(BadItem) as caught:
        IMAGE.decode(raw)
    return caught.value.reason, caught.value.detail


def png_of(width: int, height: int) -> bytes:
    """A PNG that says how large it is and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


# --- formats and modes ---------------------------------------------------------------------------


WRITTEN = {
    "PNG": "RGB L LA RGBA P 1",
    "TIFF": "RGB L LA RGBA P 1 CMYK",
    "JPEG": "RGB L 1 CMYK",
    "WEBP": "RGB L LA RGBA P 1 CMYK",
    "BMP": "RGB L RGBA P 1",
    "GIF": "RGB L LA RGBA P 1",
    "PPM": "RGB L RGBA 1",
    "TGA": "RGB L LA RGBA P 1",
    "JPEG2000": "RGB L LA RGBA CMYK",
}
"""The modes that Pillow writes, by format."""


@pytest.mark.parametrize(("kind", "mode"), [(kind, mode) for kind, modes in WRITTEN.items() for mode in modes.split()])
def test_every_mode_becomes_rgb(kind: str, mode: str) -> None:
    picture = photo().convert(mode)
    raw = encoded(picture, kind, **({"lossless": True} if kind == "WEBP" else {}))
    decoded = IMAGE.decode(raw)
    assert decoded.array.shape == (96, 96, 3)
    assert decoded.array.dtype == np.uint8
    assert decoded.info["format"] == kind
    expected = np.asarray(picture.convert("RGB")).astype(float)
    assert np.abs(decoded.array - expected).mean() < (6 if kind in ("JPEG", "GIF") else 2)


def test_transparent_parts_become_white() -> None:
    picture = photo().convert("RGBA")
    alpha = Pillow.new("L", picture.size, 255)
    alpha.paste(0, (0, 0, 40, 40))
    picture.putalpha(alpha)
    pixels = IMAGE.decode(encoded(picture)).array
    assert (pixels[:40, :40] == 255).all()
    assert np.array_equal(pixels[50:], np.asarray(photo())[50:])


def test_palette_with_a_transparent_entry_is_composed() -> None:
    picture = photo().quantize(16)
    picture.paste(3, (0, 0, 30, 30))
    pixels = IMAGE.decode(encoded(picture, transparency=3)).array
    assert (pixels[:30, :30] == 255).all()


def test_an_alpha_channel_that_hides_everything_is_ignored() -> None:
    picture = photo()
    hidden = picture.copy()
    hidden.putalpha(0)
    assert np.array_equal(IMAGE.decode(encoded(hidden)).array, np.asarray(picture))


def test_first_frame_of_an_animation() -> None:
    frames = [photo(seed=i).point(lambda v, i=i: min(255, v + 40 * i)) for i in range(3)]
    raw = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.abs(IMAGE.decode(raw).array - np.asarray(frames[0]).astype(float)).mean() < 8


def test_deep_greys_are_scaled_not_clipped() -> None:
    grey = np.asarray(photo().convert("L"))
    for values in (grey.astype(np.uint16) * 200 + 3000, grey.astype(np.uint16) * 16):
        pixels = IMAGE.decode(encoded(Pillow.fromarray(values))).array
        assert pixels.std() > 10
        assert (pixels == 255).mean() < 0.01
    tiff = IMAGE.decode(encoded(Pillow.fromarray(grey.astype(np.float32) / 255), "TIFF"))
    assert tiff.info["mode"] == "F"
    assert np.abs(tiff.array[..., 0].astype(int) - grey).max() <= 1


def test_depth_is_found_from_the_largest_value() -> None:
    assert eight_bits(np.array([[0, 4095]], np.uint16)).tolist() == [[0, 255]]
    assert eight_bits(np.array([[0, 2048, 65535]], np.uint16)).tolist() == [[0, 8, 255]]
    assert eight_bits(np.array([[-5, 5]], np.int32)).tolist() == [[0, 255]]
    assert eight_bits(np.array([[0.0, 0.5, np.nan]], np.float32)).tolist() == [[0, 128, 0]]
    assert eight_bits(np.array([[-100.0, 300.0]], np.float32)).tolist() == [[0, 255]]
    with pytest.raises(BadItem, match="finite"):
        eight_bits(np.full((2, 2), np.nan, np.float32))


@pytest.mark.parametrize("orientation", range(1, 10))
def test_exif_orientation_is_applied(orientation: int) -> None:
    upright = Pillow.new("RGB", (80, 60), (20, 20, 20))
    upright.paste((230, 230, 230), (0, 0, 80, 30))
    turn = Pillow.Transpose
    undo = {
        2: turn.FLIP_LEFT_RIGHT,
        3: turn.ROTATE_180,
        4: turn.FLIP_TOP_BOTTOM,
        5: turn.TRANSPOSE,
        6: turn.ROTATE_90,
        7: turn.TRANSVERSE,
        8: turn.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        decoded = IMAGE.decode(encoded(stored, kind, exif=exif.tobytes()))
        assert decoded.array.shape == (60, 80, 3), kind
        assert decoded.array[:28].mean() > 220 > 40 > decoded.array[32:].mean(), kind
        assert (decoded.info["width"], decoded.info["height"]) == (80, 60), kind


# --- what is not an image ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "reason", "words"),
    [
        (b"", "empty", "0 bytes"),
        (b"this is not a picture\n" * 20, "not_an_image", "plain text"),
        (b"<!DOCTYPE html><html><body>403</body></html>", "not_an_image", "HTML"),
        (b"PK\x05\x06" + b"\0" * 18, "not_an_image", "ZIP"),
        (b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj<<>>endobj", "not_an_image", "PDF"),
        (b"\0\0\0\x1cftypheic\0\0\0\0mif1heic" + b"\0" * 40, "heic", "pip install pillow-heif"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp41isom" + b"\0" * 40, "not_an_image", "video"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not_an_image", "external program"),
        (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported", "SVG"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "not_an_image", "git lfs pull"),
        (b"\0" * 5000, "not_an_image", "zero bytes"),
        (bytes(range(256)) * 4, "not_an_image", "any format"),
    ],
)
def test_what_is_not_a_picture_is_named(raw: bytes, reason: str, words: str) -> None:
    got, detail = reason_of(raw)
    assert got == reason
    assert words in detail


@pytest.mark.parametrize(("kind", "share"), [("JPEG", 0.6), ("JPEG", 0.02), ("PNG", 0.5), ("GIF", 0.5), ("TIFF", 0.5), ("BMP", 0.5)])
def test_a_file_cut_off_is_truncated(kind: str, share: float) -> None:
    raw = encoded(photo(200, 200), kind)
    assert reason_of(raw[: int(len(raw) * share)])[0] == "truncated"


def test_damage_is_named_and_junk_after_the_end_is_not_damage() -> None:
    raw = encoded(photo())
    place = raw.index(b"IDAT") + 10
    damaged = raw[:place] + bytes(255 - b for b in raw[place : place + 30]) + raw[place + 30 :]
    assert reason_of(damaged)[0] in ("corrupt", "truncated")
    assert np.array_equal(IMAGE.decode(raw + b"junk" * 100).array, np.asarray(photo()))


def test_random_bytes_never_crash() -> None:
    rng = np.random.default_rng(0)
    sources = [encoded(photo(40, 30), kind) for kind in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TGA", "PPM", "ICO")]
    outcomes = set()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\b")
        for number in range(400):
            raw = bytearray(sources[number % len(sources)])
            for _ in range(4):
                raw[int(rng.integers(len(raw)))] = int(rng.integers(256))
            try:
                outcomes.add(IMAGE.decode(bytes(raw)).array.shape[2])
            except BadItem as bad:
                outcomes.add(bad.reason)
    assert 3 in outcomes
    assert "corrupt" in outcomes


def test_decompression_bombs_are_refused_quietly() -> None:
    before = Pillow.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reason, detail = reason_of(png_of(30_000, 20_000))
        assert (reason, "600 million" in detail) == ("too_large", True)
        assert reason_of(png_of(12_000, 9_000))[0] in ("truncated", "corrupt")  # Pillow would warn; we go on and find no pixels
    assert before == Pillow.MAX_IMAGE_PIXELS


def test_a_jpeg_of_a_size_that_its_bytes_cannot_hold_is_refused() -> None:
    raw = bytearray(encoded(photo(64, 64), "JPEG"))
    struct.pack_into(">HH", raw, raw.index(b"\xff\xc0") + 5, 12_000, 12_000)
    with pytest.raises(BadItem, match="12000x12000 pixels, which its"):
        IMAGE.decode(bytes(raw))
    flat = encoded(Pillow.new("RGB", (2000, 2000)), "JPEG", optimize=True)
    assert IMAGE.decode(flat).array.shape == (256, 256, 3), "the smallest that there is"
    assert IMAGE.decode(encoded(Pillow.new("RGB", (3000, 3000)), "JPEG", progressive=True)).array.shape == (256, 256, 3)


def test_memory_errors_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = encoded(photo(), "PNG")

    def refuse(self: object) -> None:
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)
    assert reason_of(raw)[0] == "too_large"


def test_text_rows_are_not_pictures() -> None:
    with pytest.raises(BadItem, match="is text, not an image file"):
        IMAGE.decode(("a caption",))


def test_pillows_stub_formats_are_left_out() -> None:
    Pillow.init()
    assert _image_formats._NOT_DECODED_HERE & set(Pillow.ID)


# --- sizes and views ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "stored"),
    [
        ((1, 1), (1, 1)),
        ((1, 500), (500, 1)),
        ((4000, 3), (3, 4000)),
        ((7, 7), (7, 7)),
        ((64, 48), (48, 64)),
        ((500, 375), (256, 341)),
        ((2000, 250), (256, 512)),
        ((2000, 300), (256, 510)),
    ],
)
def test_working_size_is_bounded_and_never_enlarged(size: tuple[int, int], stored: tuple[int, int]) -> None:
    decoded = IMAGE.decode(encoded(photo(*size)))
    assert decoded.array.shape[:2] == stored
    assert (decoded.info["width"], decoded.info["height"]) == size
    assert IMAGE.view(decoded.array, None, None).shape == (224, 224, 3)
    crop = IMAGE.view(decoded.array, RandomResizedCrop(), np.random.default_rng(0))
    assert crop.shape == (224, 224, 3)


def test_view_equals_pillows_resize_and_centre_crop() -> None:
    picture = photo(500, 375)
    expected = np.asarray(picture.resize((341, 256), Pillow.Resampling.BICUBIC))[16:240, 58:282]
    got = IMAGE.view(IMAGE.decode(encoded(picture)).array, None, None)
    assert np.abs(got.astype(int) - expected.astype(int)).max() <= 2


@pytest.mark.parametrize("name", ["bicubic", "bilinear", "lanczos", "nearest"])
@pytest.mark.parametrize("size", [(40, 60), (300, 200)])
def test_every_filter_equals_pillows(name: str, size: tuple[int, int]) -> None:
    pixels = np.asarray(photo(128, 100))
    expected = np.asarray(Pillow.fromarray(pixels).resize((size[1], size[0]), Pillow.Resampling[name.upper()]))
    got = resize(pixels, *size, interpolation=name)  # type: ignore[arg-type]
    assert np.abs(got.astype(int) - expected.astype(int)).max() <= 2


def test_large_jpeg_is_decoded_small_and_looks_the_same() -> None:
    picture = photo(1067, 800)
    small = IMAGE.decode(encoded(picture, "JPEG", quality=95)).array
    exact = np.asarray(picture.resize((341, 256), Pillow.Resampling.BICUBIC))
    assert np.abs(small.astype(int) - exact.astype(int)).mean() < 2


def test_large_bitmap_is_reduced_and_looks_the_same() -> None:
    picture = photo(1450, 1088)
    exact = np.asarray(picture.resize((341, 256), Pillow.Resampling.BICUBIC))
    assert np.abs(IMAGE.decode(encoded(picture, "BMP")).array.astype(int) - exact.astype(int)).mean() < 2


def test_squash_shows_all_of_the_picture() -> None:
    picture = Pillow.new("RGB", (400, 300), (0, 0, 0))
    picture.paste((255, 255, 255), (0, 0, 20, 300))
    squash = Image(size=64, resize=64, fit="squash")
    view = squash.view(squash.decode(encoded(picture)).array, None, None)
    assert view.shape == (64, 64, 3)
    assert view[:, 0].mean() > 200
    tiny = squash.decode(encoded(photo(20, 10))).array
    assert tiny.shape == (10, 20, 3)
    assert squash.view(tiny, None, None).shape == (64, 64, 3)


def test_difference_hash_survives_saving_and_tells_pictures_apart() -> None:
    def bits(raw: bytes) -> int:
        return int(str(IMAGE.decode(raw).info["dhash"]), 16)

    one = bits(encoded(photo(300, 300), "PNG"))
    saved = bits(encoded(photo(300, 300).resize((290, 290)), "JPEG", quality=60))
    turned = bits(encoded(photo(300, 300).transpose(Pillow.Transpose.ROTATE_90)))
    assert (one ^ saved).bit_count() <= 4
    assert (one ^ turned).bit_count() > 10


def test_decoding_is_the_same_from_many_threads() -> None:
    raws = [encoded(photo(400, 300, seed), "JPEG") for seed in range(8)]
    expected = [IMAGE.decode(raw).array for raw in raws]
    got: dict[int, NDArray[np.uint8]] = {}
    threads = [threading.Thread(target=lambda i=i: got.update({i: IMAGE.decode(raws[i]).array})) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(got[i], expected[i]) for i in range(8))
