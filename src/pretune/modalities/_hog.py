"""Classical features of images for the floor: joint colour histogram, channel moments, and HOG.

HOG: N. Dalal and B. Triggs, "Histograms of oriented gradients for human detection", CVPR 2005:
9 unsigned orientations, cells of 8x8 pixels, blocks of 2x2 cells, L2-Hys.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pretune.modalities._image_resize import resize

SIDE = 64
"""Images are scaled to this square before they are described."""
_CELL, _BINS, _CHUNK = 8, 9, 256


def describe(arrays: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Return (N, 70 + 1764) features of N images (H, W, 3)."""
    chunks = [arrays[start : start + _CHUNK] for start in range(0, len(arrays), _CHUNK)]
    return np.concatenate([_describe(np.stack([resize(a, SIDE, SIDE, "bilinear") for a in chunk])) for chunk in chunks])


def _describe(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    grey = pixels @ np.array((0.299, 0.587, 0.114), np.float32) / 255
    return np.concatenate([colours(pixels), hog(grey)], axis=1)


def colours(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (N, 70): root of the joint histogram over 4x4x4 colours, mean and deviation of each channel."""
    count = len(pixels)
    cells = (pixels >> 6).astype(np.intp) @ np.array((16, 4, 1)) + 64 * np.arange(count).reshape(-1, 1, 1)
    histogram = np.bincount(cells.ravel(), minlength=64 * count).reshape(count, 64) / (SIDE * SIDE)
    flat = pixels.reshape(count, -1, 3).astype(np.float32) / 255
    return np.concatenate([np.sqrt(histogram), flat.mean(axis=1), flat.std(axis=1)], axis=1).astype(np.float32)


def hog(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (N, blocks * blocks * 36) histograms of oriented gradients of (N, side, side) grey images."""
    count, side = grey.shape[:2]
    cells = side // _CELL
    down, right = np.zeros_like(grey), np.zeros_like(grey)
    down[:, 1:-1] = grey[:, 2:] - grey[:, :-2]
    right[:, :, 1:-1] = grey[:, :, 2:] - grey[:, :, :-2]
    orientation = np.rad2deg(np.arctan2(down, right)) % 180
    bins = np.minimum((orientation * (_BINS / 180)).astype(np.intp), _BINS - 1)
    rows = np.arange(side) // _CELL
    place = ((np.arange(count).reshape(-1, 1, 1) * cells + rows[:, None]) * cells + rows) * _BINS + bins
    energy = np.bincount(place.ravel(), weights=np.hypot(down, right).ravel(), minlength=count * cells * cells * _BINS)
    histogram = (energy / _CELL**2).reshape(count, cells, cells, _BINS).astype(np.float32)
    blocks = np.concatenate([histogram[:, i : cells - 1 + i, j : cells - 1 + j] for i in (0, 1) for j in (0, 1)], axis=-1)
    return _l2_hys(blocks).reshape(count, -1)


def _l2_hys(blocks: NDArray[np.float32]) -> NDArray[np.float32]:
    for clip in (0.2, 1.0):  # normalise, clip at 0.2, normalise again
        blocks = np.minimum(blocks / np.sqrt((blocks**2).sum(axis=-1, keepdims=True) + 1e-10), clip)
    return blocks
