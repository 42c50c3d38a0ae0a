"""Boxes drawn into images: what is true in white, what was found green or red, what was missed in amber."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from pretune.printable import printable
from pretune.tasks import Rectangle

_COLOURS = {"": (255, 255, 255), "right": (38, 166, 91), "wrong": (214, 48, 49), "missing": (255, 177, 0)}
Font = ImageFont.ImageFont | ImageFont.FreeTypeFont
_BACK = (0, 0, 0)
_SMALL = 11
"""Height of letters in pixels, in an image of up to 400 pixels."""


def draw(image: Image.Image, rectangles: Sequence[Rectangle]) -> Image.Image:
    """Return the image with boxes and their labels; lines grow with the image."""
    if not rectangles:
        return image
    out = image.convert("RGB")
    pen, scale = ImageDraw.Draw(out), max(1.0, max(out.size) / 400)
    font = ImageFont.load_default(_SMALL * scale)
    for one in rectangles:
        colour, line = _COLOURS[one.mark], round((1 if one.mark == "" else 2) * scale)
        left, right = (min(out.width - 1.0, max(0.0, side * out.width)) for side in (one.left, one.right))
        top, bottom = (min(out.height - 1.0, max(0.0, side * out.height)) for side in (one.top, one.bottom))
        pen.rectangle((left, top, max(left, right), max(top, bottom)), outline=colour, width=max(1, line))
        if one.label and one.mark:
            _write(pen, (left, top), printable(one.label), colour, font)
    return out


def _write(pen: ImageDraw.ImageDraw, corner: tuple[float, float], text: str, colour: tuple[int, int, int], font: Font) -> None:
    """Write a label above its box, or inside it at the image's edge."""
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    high = corner[1] - (bottom - top) - 4
    place = (corner[0], high if high >= 0 else corner[1])
    pen.rectangle((place[0], place[1], place[0] + right - left + 4, place[1] + bottom - top + 4), fill=colour)
    pen.text((place[0] + 2 - left, place[1] + 2 - top), text, fill=_BACK if sum(colour) > 380 else (255, 255, 255), font=font)
