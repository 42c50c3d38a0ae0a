"""Width and height of images, read from the first bytes of their files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pretune.errors import BadItem
from pretune.modalities.image import size_of
from pretune.storage.streaming import read_row
from pretune.types import Row

_LOOKED_AT = 200
"""Images that are looked at."""
_START = 1 << 16
"""Bytes read of a file, where they suffice."""


def sizes_of(rows: Sequence[Row]) -> list[tuple[int, int]]:
    """Return width and height of some of the images; those that cannot be read are reported when all are decoded."""
    looked = (rows[i] for i in np.linspace(0, len(rows) - 1, min(len(rows), _LOOKED_AT)).astype(int)) if rows else ()
    return [size for row in looked if (size := _size(row)) is not None]


def _size(row: Row) -> tuple[int, int] | None:
    try:
        return _size_at_start(row) or size_of(read_row(row))
    except (OSError, BadItem):
        return None


def _size_at_start(row: Row) -> tuple[int, int] | None:
    """Return what a file's first bytes say, None where they do not reach."""
    if not isinstance(row.path, Path):
        return None
    with row.path.open("rb") as file:
        start = file.read(_START)
    try:
        return size_of(start)
    except BadItem:
        return None
