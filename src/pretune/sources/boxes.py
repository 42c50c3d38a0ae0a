"""Boxes as targets: rectangles with class names in an image, and what can be wrong with them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pretune.errors import DataError
from pretune.sources.readers.records import Value
from pretune.sources.target_type import ParsedLabels, TargetType
from pretune.types import Structured, Target

_THIN = 50.0
"""Long side over short side from which a box is absurd."""
_LEAST = 1.0
"""Pixels of a side below which a box shows nothing."""


@dataclass(frozen=True, slots=True)
class Box:
    """One object in an image, in pixels from the left upper corner of the upright image."""

    name: str
    left: float
    top: float
    right: float
    bottom: float
    ignored: bool = False
    """A crowd, or an object marked as difficult: neither found nor missed in figures, and not learned where the loss allows it."""

    @property
    def corners(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        return self.left, self.top, self.right, self.bottom


@dataclass(frozen=True, slots=True)
class Boxes(Structured):
    """The objects of one image; none where it is known to show none."""

    boxes: tuple[Box, ...]
    width: int
    """Of the upright image, in pixels."""
    height: int

    @property
    def names(self) -> tuple[str, ...]:
        """The class of each box that counts."""
        return tuple(box.name for box in self.boxes if not box.ignored)


@dataclass(frozen=True, kw_only=True)
class BoxTargets(TargetType):
    """The targets of detection, which are read from files of their own."""

    def parse(self, values: list[Value], column: str) -> ParsedLabels | None:
        """Refuse labels without boxes.

        Raises:
            DataError: always.
        """
        raise DataError(
            "task=detection needs boxes, and these are labels of whole images. Give Pascal VOC files (Annotations/*.xml, JPEGImages/), "
            "a COCO file (instances.json), YOLO files (labels/*.txt beside images/), or a CSV with the columns "
            "image,xmin,ymin,xmax,ymax,class."
        )

    def renamed(self, target: Target, names: Mapping[str, str]) -> Target:
        """Return the boxes with other names for some classes."""
        if not isinstance(target, Boxes):
            return target
        return replace(target, boxes=tuple(replace(box, name=names.get(box.name, box.name)) for box in target.boxes))


BOXES = BoxTargets(task="detection")


@dataclass(frozen=True, slots=True)
class Fault:
    """What was wrong with a box; `words` continue 'box 2 …'."""

    reason: str
    words: str
    dropped: bool


def checked(box: Box, width: int, height: int) -> tuple[Box | None, Fault | None]:
    """Return a box as it can be used, and what was wrong with it.

    Args:
        box: as written.
        width: of the image; 0 where it is not known.
        height: of the image.
    """
    if not all(map(math.isfinite, box.corners)):
        return None, Fault("bad_box", "has a coordinate that is no finite number", True)
    left, right = sorted((box.left, box.right))
    top, bottom = sorted((box.top, box.bottom))
    swapped = (left, top) != (box.left, box.top)
    seen = (max(0.0, left), max(0.0, top), min(right, width or right), min(bottom, height or bottom))
    if (seen[2] <= seen[0] and right > left) or (seen[3] <= seen[1] and bottom > top):
        return None, Fault("outside_image", f"lies outside the image ({width} x {height} pixels): {_shown(box)}", True)
    sides = sorted((seen[2] - seen[0], seen[3] - seen[1]))
    if sides[0] <= 0:
        return None, Fault("empty_box", f"has no area: {_shown(box)}", True)
    if sides[0] < _LEAST or sides[1] > _THIN * sides[0]:
        return None, Fault("absurd_box", f"is absurdly thin, {sides[1]:g} x {sides[0]:g} pixels: {_shown(box)}", True)
    used = replace(box, left=seen[0], top=seen[1], right=seen[2], bottom=seen[3])
    if swapped:
        return used, Fault("swapped_corners", f"had its corners swapped, which was put right: {_shown(box)}", False)
    reach = max(-box.left, -box.top, box.right - (width or box.right), box.bottom - (height or box.bottom))
    if reach > 1:  # a pixel beyond the border is a matter of counting
        return used, Fault("clipped_box", f"reaches {reach:g} pixels beyond the image and was cut off at its border: {_shown(box)}", False)
    return used, None


def repeated(boxes: Sequence[Box]) -> Iterator[int]:
    """Yield the places of boxes that repeat an earlier one exactly."""
    seen: set[Box] = set()
    for place, box in enumerate(boxes):
        if box in seen:
            yield place
        seen.add(box)


def _shown(box: Box) -> str:
    return f"{box.name} ({', '.join(f'{value:g}' for value in box.corners)})"
