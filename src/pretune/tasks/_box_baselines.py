"""What can be found in an image without looking for anything: baselines of detection."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.errors import BadItem
from pretune.modalities.image import Image
from pretune.sources.boxes import Boxes
from pretune.storage.streaming import read_row
from pretune.tasks._base import Examples
from pretune.tasks._boxes import BoxTruth
from pretune.types import Row

Array = NDArray[Any]
_SIDE, _MOST = 16, 1000
_SURE = 0.5


def mean_box(train: Examples, held_out: Examples) -> list[Array]:
    """Return, for each held-out image, the mean box of the most frequent class, in pixels of the network's input."""
    counts = Counter(int(name) for one in train.truth for name in one.classes[~one.ignored])
    if not counts:
        return [np.zeros((0, 6)) for _ in held_out.truth]
    name = counts.most_common(1)[0][0]
    pairs = zip(train.rows, train.truth, strict=True)
    relative = np.concatenate([_relative(row, one)[(one.classes == name) & ~one.ignored] for row, one in pairs])
    return [_guess(row, one, relative.mean(0)[None], np.array([name])) for row, one in zip(held_out.rows, held_out.truth, strict=True)]


def nearest(train: Examples, held_out: Examples) -> list[Array]:
    """Return, for each held-out image, the boxes of the training image that looks most alike; of many training images, the first."""
    rows, truth = train.rows[:_MOST], train.truth[:_MOST]
    known = np.stack([_thumbnail(row) for row in rows])
    out = []
    for row, one in zip(held_out.rows, held_out.truth, strict=True):
        at = int(np.square(known - _thumbnail(row)).sum(1).argmin())
        counted = ~truth[at].ignored
        out.append(_guess(row, one, _relative(rows[at], truth[at])[counted], truth[at].classes[counted]))
    return out


def _thumbnail(row: Row) -> Array:
    try:
        pixels = Image(size=_SIDE, resize=_SIDE, fit="squash")
        return pixels.view(pixels.decode(read_row(row)).array, None, None).astype(np.float32).ravel()
    except BadItem:
        return np.full(3 * _SIDE**2, 127.5, np.float32)


def _relative(row: Row, truth: BoxTruth) -> Array:
    """Return the boxes (N, 4) as fractions of their image."""
    return truth.boxes.reshape(-1, 4) / _scale(row)


def _scale(row: Row) -> Array:
    assert isinstance(row.target, Boxes)
    return np.array([row.target.width, row.target.height] * 2, float)


def _guess(row: Row, truth: BoxTruth, relative: Array, classes: Array) -> Array:
    """Return boxes that are fractions of an image as a network would give them."""
    scale, offset = np.diag(truth.shown[:, :2]), truth.shown[:, 2]
    boxes = (relative * _scale(row)).reshape(-1, 2, 2) * scale + offset
    return np.column_stack([boxes.reshape(-1, 4), np.full(len(boxes), _SURE), classes])
