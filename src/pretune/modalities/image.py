"""Images: every raster format that Pillow decodes itself, as upright 8-bit RGB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import nn

from pretune.config import Within
from pretune.errors import BadItem, SettingError
from pretune.formats.files import IMAGE
from pretune.geometry import scaling
from pretune.modalities._base import Modality
from pretune.modalities._hog import describe
from pretune.modalities._image_decode import SIDEWAYS, decode, orientation_of
from pretune.modalities._image_formats import open_raster
from pretune.modalities._image_resize import Interpolation, resize, resize_crop
from pretune.modalities.transforms.geometry import MAX_ASPECT, Fit, Size, Target, centre, centre_crop, scaled, stored, visible
from pretune.types import Decoded, Features, Finding

if TYPE_CHECKING:
    from pretune.augmentations import ViewAugmentation

_FORMAT = 2
"""Version of what `decode` returns; raised whenever stored images would come out differently."""

_SERIAL = 32_768
"""Numbers up to which torch works in one thread: pieces of this size stay in the processor's cache, which is
three times as fast, and meet no barrier, at which threads wait long on a busy machine."""


_LONG = 1.6
"""Long side over short side from which an image is far from square; photographs have 1.33 or 1.5."""
_MANY = 0.1
"""Share of such images from which they are worth a sentence."""
_LITTLE = 0.4
"""Share of an image below which what is seen is little."""


@dataclass(frozen=True, kw_only=True)
class Image(Modality):
    """Preprocessing of images, as a set of weights carries it.

    A file is decoded once to its working size (`resize`, never enlarged, the ends of very long images cut off); views are cut
    from that. Sizes, offsets and filters are those of torchvision's and timm's evaluation transforms.
    """

    extensions: ClassVar[frozenset[str]] = IMAGE
    unit: ClassVar[str] = "image"
    baseline_words: ClassVar[str] = "colours and gradient orientations (HOG)"

    size: Annotated[int, Within(8, 4096)] = 224
    """Side of the square that the network sees, in pixels."""
    resize: Annotated[int, Within(8, 4096)] = 256
    """Side that an image is scaled to before the centre square is cut, in pixels; at least `size`."""
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    """Mean of red, green, blue in 0..1 that is subtracted."""
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    """Standard deviation of red, green, blue in 0..1 that is divided by."""
    interpolation: Interpolation = "bicubic"
    """Filter of every resize, always antialiased but for nearest."""
    fit: Fit = "crop"
    """crop scales the short side to `resize` and cuts the ends off; squash scales both; pad the long side, and fills up with `mean`."""

    def __post_init__(self) -> None:
        if self.resize < self.size:
            raise SettingError(f"image.resize must be at least image.size = {self.size}; got {self.resize}.")
        for name in ("mean", "std"):
            if len(getattr(self, name)) != 3:
                raise SettingError(f"image.{name} must be 3 numbers, red, green and blue; got {getattr(self, name)}.")
        if min(self.std) <= 0:
            raise SettingError(f"image.std must be above 0; got {self.std}.")

    def working(self) -> dict[str, Any]:
        """Return what stored images depend on: part of the store's cache key."""
        return {
            "modality": "image",
            "format": _FORMAT,
            "resize": self.resize,
            "interpolation": self.interpolation,
            "fit": self.fit,
            "max_aspect": MAX_ASPECT,
            "pillow": PIL.__version__,
            "torch": torch.__version__,
        }

    def decode(self, raw: bytes | tuple[str, ...]) -> Decoded:
        """Return uint8 (H, W, 3) at working size, with width, height, format, mode and dhash of the file.

        Raises:
            BadItem: the bytes are not an image that can be decoded whole.
        """
        if not isinstance(raw, bytes):
            raise BadItem("not_an_image", "is text, not an image file")
        pixels, info = decode(raw, self.resize, self.interpolation, self.fit)
        return Decoded(array=pixels, info=info)

    def view(self, array: NDArray[np.uint8], crop: ViewAugmentation | None, rng: np.random.Generator | None) -> NDArray[np.uint8]:
        """Return uint8 (size, size, 3): the window that `crop` samples, or the centre square."""
        if crop is not None and rng is not None:
            array = self._padded(array, max(array.shape[:2])) if self.fit == "pad" else array
            top, left, height, width = crop.window(array.shape, rng)
            return resize(array[top : top + height, left : left + width], self.size, self.size, self.interpolation)
        array = self._enlarged(array)
        if self.fit == "pad":
            array = self._padded(array, self.size)
        top, left = (centre(length, self.size) for length in array.shape[:2])
        return array[top : top + self.size, left : left + self.size]

    def geometry(
        self, array: NDArray[np.uint8], info: Mapping[str, Any], crop: ViewAugmentation | None, rng: np.random.Generator | None
    ) -> NDArray[np.float64]:
        """Return the map (2, 3) from (x, y) in pixels of the upright file to pixels of what `view` returns with the same arguments."""
        file = int(info["width"]), int(info["height"])
        kept = stored(file, self.resize, self.fit)  # what `decode` kept of it, in pixels of the array
        top, left, height, width = self._shown(array, crop, rng)
        across, down = self.size / width, self.size / height
        scale = across * kept.size[0] / file[0], down * kept.size[1] / file[1]
        return scaling(scale, (-(kept.left + left) * across, -(kept.top + top) * down))

    def _shown(
        self, array: NDArray[np.uint8], crop: ViewAugmentation | None, rng: np.random.Generator | None
    ) -> tuple[float, float, float, float]:
        """Return (top, left, height, width) of what `view` shows, in pixels of the array; padding lies beyond it."""
        height, width = array.shape[:2]
        if crop is not None and rng is not None:
            side = (max(height, width),) * 2 if self.fit == "pad" else (height, width)
            top, left, tall, wide = crop.window((*side, 3), rng)
            return top - (side[0] - height) // 2, left - (side[1] - width) // 2, tall, wide
        reached = max(height, width) if self.fit == "pad" else min(height, width)
        wide, tall = (width, height) if reached >= self.resize else scaled((width, height), self.resize, self.fit)
        begins = [centre(max(length, self.size), self.size) - (max(length, self.size) - length) // 2 for length in (tall, wide)]
        down, across = height / tall, width / wide  # stored pixels that one of the view's is
        return begins[0] * down, begins[1] * across, self.size * down, self.size * across

    def _enlarged(self, array: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Scale an image that was stored below the working size up to it; of a very long one only the middle."""
        height, width = array.shape[:2]
        reached = max(height, width) if self.fit == "pad" else min(height, width)
        if reached >= self.resize:
            return array
        size = scaled((width, height), self.resize, self.fit)
        target = centre_crop(size, self.resize) if self.fit == "crop" else Target(size=size, kept=size)
        if target.is_whole:
            return resize(array, size[1], size[0], self.interpolation)
        return resize_crop(PIL.Image.fromarray(array), target, self.interpolation, (width, height))

    def _padded(self, array: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
        """Put what is smaller than `side` on a square, or a bar, of the mean colour; where an odd pixel is left it is below and right."""
        height, width = (max(length, side) for length in array.shape[:2])
        if (height, width) == array.shape[:2]:
            return array
        out = np.empty((height, width, 3), np.uint8)
        out[:] = [round(255 * value) for value in self.mean]
        top, left = (height - array.shape[0]) // 2, (width - array.shape[1]) // 2
        out[top : top + array.shape[0], left : left + array.shape[1]] = array
        return out

    def findings(self, infos: Sequence[dict[str, Any]]) -> list[Finding]:
        """Return what the centre crop leaves out of images far from square."""
        if self.fit != "crop" or not infos:
            return []
        sizes = [(int(info["width"]), int(info["height"])) for info in infos]
        long = [size for size in sizes if max(size) > _LONG * min(size)]
        if len(long) < _MANY * len(sizes):
            return []
        shown = float(np.median([self.shown(size) for size in long]))
        aspect = max(max(size) / min(size) for size in long)
        message = (
            f"{len(long):,} of {len(sizes):,} images are far from square (up to {aspect:.1f}:1). "
            f"The centre crop leaves out {1 - shown:.0%} of such an image. fit=squash or fit=pad shows all of it."
        )
        return [Finding(kind="cropped", severity="warning" if shown < _LITTLE else "note", message=message)]

    def fitted(self, fit: Fit) -> Image:
        """Return the same preprocessing with another fit; squash and pad then show all of an image, without a margin to crop."""
        return self if fit == self.fit else replace(self, fit=fit, resize=self.resize if fit == "crop" else self.size)

    def shown(self, size: Size) -> float:
        """Return the share of an image of some width and height that the network sees, 0 to 1."""
        return visible(size, self.resize, self.size, self.fit)

    def collate(self, views: list[NDArray[np.uint8]]) -> Features:
        """Stack views into raw uint8 (B, 3, size, size), channels last in memory."""
        return Features(tensor=torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2), layout="raw")

    def normaliser(self) -> Normaliser:
        """Return the module that turns a raw uint8 batch into what the network takes."""
        return Normaliser(self.mean, self.std)

    def baseline_features(self, arrays: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return colours and gradient orientations, (N, 1834), for a linear model."""
        return describe(arrays)


def size_of(raw: bytes | tuple[str, ...]) -> Size:
    """Return the width and height of an image in pixels, from its first bytes.

    Raises:
        BadItem: the bytes are no image.
    """
    if not isinstance(raw, bytes):
        raise BadItem("not_an_image", "is text, not an image file")
    return open_raster(raw).size


def upright_size(raw: bytes) -> Size:
    """Return the width and height in pixels of an image as it is decoded: turned upright where its EXIF data say so.

    Raises:
        BadItem: the bytes are no image.
    """
    (width, height), orientation = stored_size(raw)
    return (height, width) if orientation in SIDEWAYS else (width, height)


def stored_size(raw: bytes) -> tuple[Size, int]:
    """Return the width and height in pixels of an image as it is stored, and its EXIF orientation: 1 to 8.

    Raises:
        BadItem: the bytes are no image.
    """
    image = open_raster(raw)
    return image.size, orientation_of(image)


class Normaliser(nn.Module):
    """(x / 255 - mean) / std as one multiply-add, channels last kept; float input is taken as 0..255 too."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.scale = tuple(1 / (255 * s) for s in std)
        self.shift = tuple(-m / s for m, s in zip(mean, std, strict=True))
        self.dtype = torch.float32
        """What the network computes in. Not a buffer: casting the module must not round the constants."""

    def forward(self, features: Features) -> Features:
        """Normalise raw (B, 3, H, W)."""
        x_BHWC = features.tensor.permute(0, 2, 3, 1)
        batch, height, width, _ = x_BHWC.shape
        # Rows of W*3 numbers keep the inner loop long: broadcasting over three channels takes three times as long.
        scale, shift = (torch.tensor(v * width, device=x_BHWC.device) for v in (self.scale, self.shift))
        rows = x_BHWC.reshape(batch * height, width * 3)
        if rows.device.type != "cpu" or torch.compiler.is_compiling() or torch.jit.is_tracing():
            x = torch.addcmul(shift, rows.float(), scale).to(self.dtype)
        else:
            x = torch.empty(rows.shape, dtype=self.dtype)
            count = max(1, _SERIAL // (width * 3))
            for start in range(0, len(rows), count):
                part = slice(start, start + count)
                x[part] = torch.addcmul(shift, rows[part].float(), scale)
        return features.with_tensor(x.view(batch, height, width, 3).permute(0, 3, 1, 2))

    def extra_repr(self) -> str:
        """Return the constants."""
        return f"scale={tuple(round(s, 5) for s in self.scale)}, shift={tuple(round(s, 3) for s in self.shift)}"
