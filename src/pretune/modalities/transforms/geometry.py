"""How large an image becomes and which part of it is seen: the rules of torchvision and timm, to the pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Fit = Literal["crop", "squash", "pad"]
Size = tuple[int, int]
"""Width and height."""

MAX_ASPECT = 2
"""Of an image longer than this many times its short side, the ends are not kept: the centre square does not reach them."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What an image is scaled to, and the part of that which is kept."""

    size: Size
    """Of the whole image after scaling."""
    left: int = 0
    top: int = 0
    kept: Size
    """Width and height of the part that is kept, from `left` and `top`."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing is cut off."""
        return self.kept == self.size


def scaled(size: Size, side: int, fit: Fit) -> Size:
    """Return the width and height of an image whose `side` is scaled to that many pixels.

    crop: the short side, as torchvision's Resize(side), the other rounded down; squash: both; pad: the long side, as timm's
    ResizeKeepRatio(longest=1), the other rounded.
    """
    width, height = size
    if fit == "squash":
        return side, side
    if fit == "pad":
        ratio = max(size) / side
        return max(1, round(width / ratio)), max(1, round(height / ratio))
    return (side, int(side * height / width)) if width <= height else (int(side * width / height), side)


def stored(size: Size, side: int, fit: Fit) -> Target:
    """Return what is kept of an image: scaled down to `side` and never up, its ends cut off where it is very long.

    A small image keeps its size, unless it is so long that it would take more room than one of working size.
    """
    width, height = size
    if fit == "squash":
        smaller = min(side, width), min(side, height)
        return Target(size=smaller, kept=smaller)
    if fit == "pad":
        smaller = size if max(size) <= side else scaled(size, side, fit)
        return Target(size=smaller, kept=smaller)
    if min(size) <= side and width * height <= MAX_ASPECT * side * side:
        return Target(size=size, kept=size)
    return centre_crop(scaled(size, side, fit), side)


def centre_crop(size: Size, side: int) -> Target:
    """Return the middle of a scaled image of which one side is `side`, such that its centre square is that of the whole.

    torchvision rounds a half to the even number, so that the offset must be a multiple of two.
    """
    width, height = size
    longest = MAX_ASPECT * side
    if max(size) <= longest:
        return Target(size=size, kept=size)
    kept = longest - (longest - max(size)) % 4
    offset = (max(size) - kept) // 2
    if width > height:
        return Target(size=size, left=offset, kept=(kept, height))
    return Target(size=size, top=offset, kept=(width, kept))


def centre(length: int, size: int) -> int:
    """Return where torchvision's CenterCrop begins."""
    return round((length - size) / 2)


def visible(size: Size, side: int, seen: int, fit: Fit) -> float:
    """Return the share of an image's area that is seen where `side` is scaled to and the middle `seen` pixels are shown."""
    width, height = scaled(size, side, fit)
    return min(1.0, seen / width) * min(1.0, seen / height)
