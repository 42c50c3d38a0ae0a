"""Images of discs and squares with their boxes, in the layouts that people have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

Shape = tuple[str, int, int, int, int]
NAMES = ("disc", "square")
SIZE = (96, 64)


def scene(number: int, size: tuple[int, int] = SIZE) -> tuple[Image.Image, list[Shape]]:
    """Return an image of one or two bright shapes on dark ground, and their boxes."""
    rng = np.random.default_rng(number)
    picture = Image.new("RGB", size, tuple(int(v) for v in rng.integers(0, 60, 3)))
    draw, boxes = ImageDraw.Draw(picture), []
    for _ in range(int(rng.integers(1, 3))):
        side = int(rng.integers(16, 30))
        left, top = (int(rng.integers(0, length - side)) for length in size)
        kind = int(rng.integers(2))
        corners = (left, top, left + side, top + side)
        (draw.ellipse if kind == 0 else draw.rectangle)(corners, fill=tuple(int(v) for v in rng.integers(150, 255, 3)))
        boxes.append((NAMES[kind], *corners))
    return picture, boxes


def xml(name: str, boxes: list[Shape], size: tuple[int, int] = SIZE) -> str:
    """Return a Pascal VOC annotation."""
    things = "".join(
        f"<object><name>{label}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for label, x0, y0, x1, y1 in boxes
    )
    return f"<annotation><filename>{name}</filename><size><width>{size[0]}</width><height>{size[1]}</height></size>{things}</annotation>"


def write_voc(folder: Path, count: int) -> list[list[Shape]]:
    """Write a Pascal VOC folder without splits, and return the boxes of its images in order."""
    (folder / "JPEGImages").mkdir(parents=True)
    (folder / "Annotations").mkdir()
    out = []
    for number in range(count):
        picture, boxes = scene(number)
        picture.save(folder / "JPEGImages" / f"{number:03d}.jpg", quality=92)
        (folder / "Annotations" / f"{number:03d}.xml").write_text(xml(f"{number:03d}.jpg", boxes))
        out.append(boxes)
    return out
