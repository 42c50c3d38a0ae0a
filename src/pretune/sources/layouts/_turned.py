"""Images that are stored lying on their side, whose boxes were drawn before they were turned upright."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pretune.errors import BadItem
from pretune.sources.boxes import Box

_START = 1 << 16
_SIDEWAYS = frozenset((5, 6, 7, 8))


@dataclass(frozen=True, slots=True)
class StoredFrame:
    """How the pixels of an image file lie."""

    width: int
    """As they are stored."""
    height: int
    orientation: int = 1
    """Of the EXIF data: 1 upright; 2, 4, 5, 7 mirrored; 3, 6, 8 turned; others stand for nothing."""

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height of the image as it is shown."""
        return (self.height, self.width) if self.orientation in _SIDEWAYS else (self.width, self.height)

    def in_stored_pixels(self, boxes: Sequence[Box], written: tuple[int, int]) -> bool | None:
        """Return whether pixel coordinates are of the stored image, not of the upright one; None where nothing tells.

        The annotation's image size tells, else boxes that reach out of one of the two.

        Args:
            boxes: in pixels.
            written: width and height as the annotation says; zeros where it does not.
        """
        stored = (self.width, self.height)
        if not 2 <= self.orientation <= 8:  # upright, or a number that stands for nothing
            return False
        if stored == self.upright:
            return None
        if written in (stored, self.upright):
            return written == stored
        fits = [all(box.right <= width and box.bottom <= height for box in boxes) for width, height in (stored, self.upright)]
        return fits[0] if fits[0] != fits[1] else None

    def turned(self, box: Box) -> Box:
        """Return a box of the stored image in pixels of the upright one."""
        (left, top), (right, bottom) = self._moved(box.left, box.top), self._moved(box.right, box.bottom)
        return replace(box, left=min(left, right), top=min(top, bottom), right=max(left, right), bottom=max(top, bottom))

    def _moved(self, x: float, y: float) -> tuple[float, float]:
        width, height = self.width, self.height
        return {
            2: (width - x, y),
            3: (width - x, height - y),
            4: (x, height - y),
            5: (y, x),
            6: (height - y, x),
            7: (height - y, width - x),
            8: (y, width - x),
        }.get(self.orientation, (x, y))


def frame_at(path: Path) -> StoredFrame | None:
    """Return how an image lies in a file, from its first bytes where they reach; None where it is no image."""
    from pretune.modalities.image import stored_size

    try:
        with path.open("rb") as file:
            start = file.read(_START)
        try:
            size, orientation = stored_size(start)
        except BadItem:
            size, orientation = stored_size(path.read_bytes())
    except (OSError, BadItem):
        return None
    return StoredFrame(*size, orientation)
