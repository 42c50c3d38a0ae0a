"""Contact sheets: rows of small pictures with captions on one piece of paper."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.uint8]

_SIDE = 160
_STRIP = 20
"""Height of a line of caption, in pixels."""
_PAPER, _INK = (246, 245, 242), (29, 33, 39)


def sheet(rows: list[tuple[str, list[tuple[Pixels, str]]]], side: int = _SIDE) -> Image.Image:
    """Return rows of pictures on paper, each row as high as its highest picture.

    Args:
        rows: heading of each row (may be empty) and its pictures (H, W, 3) with captions.
        side: the longer one of each picture, in pixels; pictures keep their aspect.
    """
    gap = 6
    columns = max(len(tiles) for _, tiles in rows)
    thumbnails = [[thumbnail(pixels, side) for pixels, _ in tiles] for _, tiles in rows]
    highest = [max(tile.height for tile in tiles) for tiles in thumbnails]
    heights = [
        high + gap + _STRIP * bool(heading) + _STRIP * any(c for _, c in tiles)
        for (heading, tiles), high in zip(rows, highest, strict=True)
    ]
    paper = Image.new("RGB", (columns * (side + gap) + gap, sum(heights) + gap), _PAPER)
    draw, font = ImageDraw.Draw(paper), ImageFont.load_default(13)
    top = gap
    for row, (heading, tiles) in enumerate(rows):
        if heading:
            draw.text((gap, top), _fitting(draw, heading, paper.width - 2 * gap, font), _INK, font)
        for k, (tile, (_, caption)) in enumerate(zip(thumbnails[row], tiles, strict=True)):
            left, under = gap + k * (side + gap), top + _STRIP * bool(heading)
            paper.paste(tile, (left + (side - tile.width) // 2, under + (highest[row] - tile.height) // 2))
            draw.text((left, under + highest[row] + 2), _fitting(draw, caption, side, font), _INK, font)
        top += heights[row]
    return paper


def thumbnail(pixels: Pixels, side: int) -> Image.Image:
    """Return a picture (H, W, 3) whose longer side is `side`; small ones are enlarged without smoothing."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    scale = side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS)


def _fitting(draw: ImageDraw.ImageDraw, text: str, width: int, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    """Shorten a caption to a width; letters that the built-in font lacks become a dot."""
    text = "".join(c if c.isprintable() and c < "\u0250" else "·" for c in text)
    while len(text) > 1 and draw.textlength(text, font) > width:
        text = text.rstrip("…")[:-1] + "…"
    return text
