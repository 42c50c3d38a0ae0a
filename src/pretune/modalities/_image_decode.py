"""From a file's bytes to upright RGB pixels at working size."""

from __future__ import annotations

import threading
from contextlib import nullcontext

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from pretune.errors import BadItem
from pretune.modalities._image_formats import open_raster
from pretune.modalities._image_resize import Interpolation, resize, resize_image

MAX_ASPECT = 2
"""A picture longer than this many times its short side is cut at the centre before it is scaled."""

_BIG = 32_000_000
_one_at_a_time = threading.Lock()
"""Held while more than `_BIG` pixels are decoded: memory must not grow with the number of threads."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Info = dict[str, int | float | str]


def decode(raw: bytes, short: int, interpolation: Interpolation, *, squash: bool) -> tuple[NDArray[np.uint8], Info]:
    """Return (H, W, 3) pixels whose short side is at most `short`, and the facts of the file.

    Smaller pictures keep their size (the view scales them up), so that a store of 32x32 pictures stays
    small. With `squash` the whole picture is scaled to a square, whatever its aspect.

    Raises:
        BadItem: the bytes are no picture that can be decoded whole.
    """
    image = open_raster(raw)
    info: Info = {"format": image.format or "", "mode": image.mode, "width": image.width, "height": image.height}
    target = _working_size(image.size, short, squash=squash)
    image.draft(None, target)  # JPEG: decode at 1/2, 1/4 or 1/8, not below the target
    with _one_at_a_time if image.width * image.height > _BIG else nullcontext():
        pixels = _scaled(_load(image), target, interpolation, squash=squash)
    orientation = _orientation(image)
    if orientation in _TURNS:
        pixels = np.asarray(Image.fromarray(pixels).transpose(_TURNS[orientation]))
        if orientation > 4:
            info["width"], info["height"] = info["height"], info["width"]
    info["dhash"] = difference_hash(pixels)
    return pixels, info


def _working_size(size: tuple[int, int], short: int, *, squash: bool) -> tuple[int, int]:
    """Return the (width, height) that the whole picture is scaled to."""
    if squash:
        return min(short, size[0]), min(short, size[1])
    scale = min(1.0, short / min(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _load(image: Image.Image) -> Image.Image:
    """Decode the pixels and return them as 8-bit RGB."""
    try:
        image.load()
        return _rgb(image)
    except BadItem:
        raise
    except Exception as error:  # Pillow's plug-ins raise whatever their format's mess leads to
        raise _bad(image, error) from error


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of a decoded picture, 1 where there is none or it makes no sense."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 - a broken EXIF block says nothing about the pixels
        return 1


def _bad(image: Image.Image, error: Exception) -> BadItem:
    text = str(error) or type(error).__name__
    if isinstance(error, MemoryError):
        return BadItem("too_large", f"has {image.width}x{image.height} pixels, which do not fit into memory")
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return BadItem("truncated", f"ends before its {image.format} image does ({text})")
    return BadItem("corrupt", f"holds a damaged {image.format} image ({text})")


def _rgb(image: Image.Image) -> Image.Image:
    """Return 8-bit RGB; transparent parts become white, deep greys are scaled, not clipped."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(eight_bits(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        return _on_white(image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    """Compose RGBA on white; an alpha channel that hides everything is taken for a writer's mistake."""
    alpha = image.getchannel("A")
    low, high = alpha.getextrema()
    if low == 255 or high == 0:
        return image.convert("RGB")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=alpha)
    return white


def eight_bits(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Scale deep grey values to 0..255.

    Unsigned integers by the depth (8, 10, 12, 14, 16 bits) that holds the largest, so that pictures of
    one camera stay comparable; floats from 0 to 1 by 255; anything else from its own minimum to its maximum.

    Raises:
        BadItem: no value is finite.
    """
    scaled = values.astype(np.float32)  # changed in place below: such pictures can be large
    finite = np.isfinite(scaled)
    if not finite.any():
        raise BadItem("corrupt", "has no finite pixel value")
    low, high = float(scaled.min(where=finite, initial=np.inf)), float(scaled.max(where=finite, initial=-np.inf))
    depth = next((bits for bits in (8, 10, 12, 14, 16) if high < 2**bits), None)
    if values.dtype.kind in "iu" and low >= 0 and depth:
        low, high = 0.0, 2.0**depth - 1
    elif values.dtype.kind == "f" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    np.copyto(scaled, low, where=~finite)
    scaled -= low
    scaled *= 255 / max(high - low, 1e-12)
    return np.rint(scaled, out=scaled).astype(np.uint8)


def _scaled(image: Image.Image, target: tuple[int, int], interpolation: Interpolation, *, squash: bool) -> NDArray[np.uint8]:
    """Return the pixels of the picture's central part (aspect at most `MAX_ASPECT`) at its target size."""
    (width, height), (to_width, to_height) = image.size, target
    if not squash:
        keep_width, keep_height = min(width, MAX_ASPECT * height), min(height, MAX_ASPECT * width)
        to_width, to_height = min(to_width, MAX_ASPECT * to_height), min(to_height, MAX_ASPECT * to_width)
        left, top = (width - keep_width) // 2, (height - keep_height) // 2
        width, height = keep_width, keep_height
        box = (left, top, left + width, top + height)
    else:
        box = (0, 0, width, height)
    factor = min(width // to_width, height // to_height) // 2  # a box filter down to twice the target, then the real filter
    if factor > 1 or (width, height) != image.size:
        image = image.reduce(max(1, factor), box)
    return resize_image(image, to_height, to_width, interpolation)


def difference_hash(pixels: NDArray[np.uint8]) -> str:
    """Return 64 bits as 16 hex digits: is each of 8x9 grey cells darker than its right neighbour (dHash, N. Krawetz 2013)."""
    grey = resize(pixels, 8, 9, "bilinear") @ np.array((299, 587, 114))
    return np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes().hex()
