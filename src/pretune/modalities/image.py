"""Pictures: every raster format that Pillow decodes itself, as upright 8-bit RGB."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from torch import nn

from pretune.config import Within
from pretune.errors import BadItem, SettingError
from pretune.modalities import _formats
from pretune.modalities._image_decode import MAX_ASPECT, decode
from pretune.modalities._image_floor import describe
from pretune.modalities._image_formats import open_raster
from pretune.modalities._image_resize import Interpolation, resize
from pretune.types import Decoded, Features

if TYPE_CHECKING:
    from pretune.augmentations import Augmentation, ViewAugmentation

_FORMAT = 1
"""Version of what `decode` returns; raised whenever stored pictures would come out differently."""

_SERIAL = 32_768
"""Numbers up to which torch works in one thread: pieces of this size stay in the processor's cache, which is
three times as fast, and meet no barrier, at which threads wait long on a busy machine."""


@dataclass(frozen=True, kw_only=True)
class Image:
    """Preprocessing of pictures, as a set of weights carries it.

    A file is decoded once to its working size (short side `resize`, never enlarged, the long side at
    most twice the short one by cutting the ends); views are cut from that.
    """

    component: ClassVar[bool] = True
    extensions: ClassVar[frozenset[str]] = _formats.IMAGE
    unit: ClassVar[str] = "image"
    floor_words: ClassVar[str] = "colours and gradient orientations (HOG)"

    size: Annotated[int, Within(8, 4096)] = 224
    """Side of the square that the network sees, in pixels."""
    resize: Annotated[int, Within(8, 4096)] = 256
    """Short side before the centre square is cut, in pixels; at least `size`."""
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    """Mean of red, green, blue in 0..1 that is subtracted."""
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    """Standard deviation of red, green, blue in 0..1 that is divided by."""
    interpolation: Interpolation = "bicubic"
    """Filter of every resize, always antialiased but for nearest."""
    fit: Literal["crop", "squash"] = "crop"
    """crop keeps the aspect and cuts the centre; squash scales the whole picture to a square first."""

    def __post_init__(self) -> None:
        if self.resize < self.size:
            raise SettingError(f"image.resize must be at least image.size = {self.size}; got {self.resize}.")
        for name in ("mean", "std"):
            if len(getattr(self, name)) != 3:
                raise SettingError(f"image.{name} must be 3 numbers, red, green and blue; got {getattr(self, name)}.")
        if min(self.std) <= 0:
            raise SettingError(f"image.std must be above 0; got {self.std}.")

    def working(self) -> dict[str, Any]:
        """Return what stored pictures depend on: part of the store's cache key."""
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
            BadItem: the bytes are not a picture that can be decoded whole.
        """
        if not isinstance(raw, bytes):
            raise BadItem("not_an_image", "is text, not an image file")
        pixels, info = decode(raw, self.resize, self.interpolation, squash=self.fit == "squash")
        return Decoded(array=pixels, info=info)

    def view(self, array: NDArray[np.uint8], crop: Augmentation | None, rng: np.random.Generator | None) -> NDArray[np.uint8]:
        """Return uint8 (size, size, 3): the window that `crop` draws, or the centre square."""
        if crop is not None and rng is not None:
            top, left, height, width = cast("ViewAugmentation", crop).window(array.shape, rng)
            return resize(array[top : top + height, left : left + width], self.size, self.size, self.interpolation)
        height, width = array.shape[:2]
        if min(height, width) < self.resize:
            array = self._enlarged(array)
            height, width = array.shape[:2]
        top, left = (height - self.size) // 2, (width - self.size) // 2
        return array[top : top + self.size, left : left + self.size]

    def _enlarged(self, array: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Scale a picture that was stored below the working size up to it."""
        height, width = array.shape[:2]
        if self.fit == "squash":
            return resize(array, self.resize, self.resize, self.interpolation)
        scale = self.resize / min(height, width)
        return resize(array, round(height * scale), round(width * scale), self.interpolation)

    def collate(self, views: list[NDArray[np.uint8]]) -> Features:
        """Stack views into raw uint8 (B, 3, size, size), channels last in memory."""
        return Features(tensor=torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2), layout="raw")

    def normaliser(self) -> Normaliser:
        """Return the module that turns a raw uint8 batch into what the network takes."""
        return Normaliser(self.mean, self.std)

    def floor_features(self, arrays: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return colours and gradient orientations, (N, 1834), for a linear model."""
        return describe(arrays)


def shorter_side(raw: bytes | tuple[str, ...]) -> int:
    """Return the shorter side of a picture in pixels, from its first bytes.

    Raises:
        BadItem: the bytes are no picture.
    """
    if not isinstance(raw, bytes):
        raise BadItem("not_an_image", "is text, not an image file")
    return min(open_raster(raw).size)


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
