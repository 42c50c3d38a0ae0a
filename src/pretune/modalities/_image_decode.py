"""From a file's bytes to upright RGB pixels at working size."""

from __future__ import annotations

import threading
from contextlib import nullcontext

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from pretune.errors import BadItem
from pretune.modalities._image_formats import open_raster
from pretune.modalities._image_resize import Interpolation, resize, resize_crop
from pretune.modalities.transforms.geometry import Fit, Size, stored

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

SIDEWAYS = frozenset((5, 6, 7, 8))
"""Orientations of images that are stored lying on their side."""

Info = dict[str, int | float | str]


def decode(raw: bytes, side: int, interpolation: Interpolation, fit: Fit) -> tuple[NDArray[np.uint8], Info]:
    """Return (H, W, 3) pixels, scaled down to `side` as `fit` says, and the facts of the file.

    Smaller images keep their size (the view scales them up), so that a store of 32x32 images stays small.

    Raises:
        BadItem: the bytes are no image that can be decoded whole.
    """
    image = open_raster(raw)
    _require_data(image, len(raw))
    info: Info = {"format": image.format or "", "mode": image.mode, "width": image.width, "height": image.height}
    size, target = image.size, stored(image.size, side, fit)
    image.draft(None, target.size)  # JPEG: decode at 1/2, 1/4 or 1/8, not below the target
    with _one_at_a_time if image.width * image.height > _BIG else nullcontext():
        pixels = resize_crop(_load(image), target, interpolation, _drafted(size, image.size))
    orientation = orientation_of(image)
    if orientation in _TURNS:
        pixels = np.asarray(Image.fromarray(pixels).transpose(_TURNS[orientation]))
        if orientation in SIDEWAYS:
            info["width"], info["height"] = info["height"], info["width"]
    info["dhash"] = difference_hash(pixels)
    return pixels, info


def _require_data(image: Image.Image, size: int) -> None:
    """Refuse a JPEG too small for the size its header gives: libjpeg would fill the rest with grey and say nothing.

    A block of 8x8 pixels takes two bits at least, where the image is not progressive.
    """
    if image.format == "JPEG" and not image.info.get("progressive") and size < image.width * image.height // 256:
        raise BadItem("corrupt", f"says that it is {image.width}x{image.height} pixels, which its {size:,} bytes cannot hold")


def _drafted(size: Size, decoded: Size) -> tuple[float, float]:
    """Return how many decoded pixels stand for the whole image: libjpeg fills the last ones up where its size is no multiple."""
    scale = next((s for s in (1, 2, 4, 8) if (-(-size[0] // s), -(-size[1] // s)) == decoded), 1)
    return size[0] / scale, size[1] / scale


def _load(image: Image.Image) -> Image.Image:
    """Decode the pixels and return them as 8-bit RGB."""
    try:
        image.load()
        return _rgb(image)
    except BadItem:
        raise
    except Exception as error:  # Pillow's plug-ins raise whatever their format's mess leads to
        raise _bad(image, error) from error


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation of an image, 1 where there is none or it makes no sense."""
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
    """Compose RGBA on white; an alpha channel that hides everything counts as a writer's mistake."""
    alpha = image.getchannel("A")
    low, high = alpha.getextrema()
    if low == 255 or high == 0:
        return image.convert("RGB")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=alpha)
    return white


def eight_bits(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Scale deep grey values to 0..255.

    Unsigned integers by the depth (8, 10, 12, 14, 16 bits) that holds the largest, so that images of
    one camera stay comparable; floats from 0 to 1 by 255; anything else from its own minimum to its maximum.

    Raises:
        BadItem: no value is finite.
    """
    scaled = values.astype(np.float32)  # changed in place below: such images can be large
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


def difference_hash(pixels: NDArray[np.uint8]) -> str:
    """Return 64 bits as 16 hex digits: is each of 8x9 grey cells darker than its right neighbour (dHash, N. Krawetz 2013)."""
    grey = resize(pixels, 8, 9, "bilinear") @ np.array((299, 587, 114))
    return np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes().hex()
