"""Boxes between the network's input, the file and a table's cell."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.evaluation.boxes import TrueBoxes, overlap
from pretune.modalities import Modality
from pretune.modalities.image import Image, upright_size
from pretune.modalities.transforms.geometry import stored
from pretune.sources.boxes import Box, Boxes
from pretune.storage.streaming import read_row
from pretune.tasks._marked import Mark, Rectangle
from pretune.types import Row

Array = NDArray[Any]
_HALF = 0.5
_TINY = 8.0
_ONE = re.compile(r"(.*)\((-?[\d.]+) (-?[\d.]+) (-?[\d.]+) (-?[\d.]+)\)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class BoxTruth(TrueBoxes):
    """The boxes of one image, and where it lies in the network's input."""

    shown: Array
    """(2, 3) from pixels of the file to pixels of the input."""


def shown_in(modality: Modality, size: tuple[int, int]) -> Array:
    """Return where a file of this width and height lies in the view that is scored: (2, 3)."""
    assert isinstance(modality, Image)
    kept = stored(size, modality.resize, modality.fit).kept
    blank = np.broadcast_to(np.uint8(0), (kept[1], kept[0], 3))
    return modality.geometry(blank, {"width": size[0], "height": size[1]}, None, None)


def to_file(found: Array, shown: Array, size: tuple[int, int] | None = None) -> Array:
    """Return boxes (K, 6) of the network's input in pixels of the file, cut off at its border where its size is given."""
    scale, offset = np.diag(shown[:, :2]), shown[:, 2]
    out = found.astype(np.float64)
    for first in (0, 2):
        out[:, first : first + 2] = (out[:, first : first + 2] - offset) / scale
        if size is not None:
            out[:, first : first + 2] = np.clip(out[:, first : first + 2], 0, size)
    return out


def tiny(truth: Sequence[BoxTruth]) -> float | None:
    """Return the share of true boxes whose shorter side is below 8 pixels in the network's input; None without boxes."""
    sides = [np.abs((one.boxes[:, 2:] - one.boxes[:, :2]) * np.diag(one.shown[:, :2])).min(1) for one in truth if len(one.boxes)]
    return float((np.concatenate(sides) < _TINY).mean()) if sides else None


def size_of(row: Row) -> tuple[int, int]:
    """Return width and height of an image in pixels: what its annotation says, else what its file says."""
    if isinstance(row.target, Boxes) and row.target.width:
        return row.target.width, row.target.height
    raw = read_row(row)
    assert isinstance(raw, bytes)
    return upright_size(raw)


def written(boxes: Sequence[Box]) -> str:
    """Return boxes as a cell of a table holds them, to a tenth of a pixel: 'dog(10 20.5 110 220)|cat(…)'."""
    return "|".join(f"{box.name.replace('|', '/')}({' '.join(f'{round(value, 1):g}' for value in box.corners)})" for box in boxes)


def read_back(cell: str) -> list[Box]:
    """Return the boxes of a cell."""
    found = (_ONE.fullmatch(part) for part in cell.split("|") if part)
    return [Box(one[1], float(one[2]), float(one[3]), float(one[4]), float(one[5])) for one in found if one]


def paired(found: Sequence[Box], true: Sequence[Box]) -> dict[int, int]:
    """Return which found box is which true one: of the same class, at an overlap of one half at least, each once."""
    pairs: dict[int, int] = {}
    for place, box in enumerate(found):
        free = [at for at, other in enumerate(true) if other.name == box.name and at not in pairs.values()]
        if not free:
            continue
        shared = overlap(np.array([box.corners]), np.array([true[at].corners for at in free]))[0]
        if shared.max() >= _HALF:
            pairs[place] = free[int(shared.argmax())]
    return pairs


def f1(found: Sequence[Box], true: Sequence[Box]) -> float:
    """Return how well boxes agree with the true ones, 0 to 1: F1 at an overlap of one half, classes included."""
    return 2 * len(paired(found, true)) / (len(found) + len(true)) if found or true else 1.0


def rectangle(box: Box, size: tuple[float, float], mark: Mark) -> Rectangle:
    """Return a box of an image of this width and height as it is drawn."""
    width, height = size
    left, top, right, bottom = box.left / width, box.top / height, box.right / width, box.bottom / height
    return Rectangle(left=left, top=top, right=right, bottom=bottom, label=box.name, mark=mark)
