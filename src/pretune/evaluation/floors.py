"""What needs no network and looks at no example: the same prediction for every one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def frequent_class(train: NDArray[np.integer], size: int, classes: Sequence[str]) -> tuple[str, NDArray[np.floating]]:
    """Return what always predicts the shares (C,) of the classes in training, and its probabilities (size, C)."""
    share = np.bincount(train, minlength=len(classes)) / len(train)
    return f"always the most frequent class in training, {classes[int(share.argmax())]}", np.tile(share, (size, 1))


def frequent_labels(train: NDArray[Any], size: int, classes: Sequence[str]) -> tuple[str, NDArray[np.floating]]:
    """Return what always predicts the most frequent row of (N, C) labels, and its probabilities (size, C), 0 or 1."""
    rows, count = np.unique(train > 0.5, axis=0, return_counts=True)
    common = rows[count.argmax()]
    names = ", ".join(name for name, yes in zip(classes, common, strict=True) if yes) or "no label"
    return f"always the most frequent set of labels in training: {names}", np.tile(common.astype(float), (size, 1))
