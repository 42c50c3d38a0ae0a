"""From annotated images of any layout to a table: sizes read, boxes checked, splits and classes in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from pretune.errors import DataError
from pretune.sources.boxes import BOXES, Box, Boxes, checked, repeated
from pretune.sources.layouts._turned import StoredFrame, frame_at
from pretune.sources.split_names import split_of_folder
from pretune.sources.table import Table
from pretune.sources.target_type import TargetType
from pretune.sources.targets import clean
from pretune.sources.tree import FileEntry, Tree
from pretune.types import LedgerEntry, Row, Split

_REPORTED = 3


@dataclass(frozen=True, kw_only=True)
class AnnotatedImage:
    """One image with what a layout says of it."""

    file: FileEntry
    boxes: tuple[tuple[str, Box], ...]
    """Each with where it is written, 'a.txt:3', for messages."""
    split: Split | None = None
    group: str | None = None
    written: tuple[int, int] = (0, 0)
    """Width and height as the annotation says; 0 where it does not."""
    relative: bool = False
    """Whether coordinates are fractions of the image's width and height."""
    lost: int = 0
    """Boxes that could not be read: an image that has no others is no negative."""


@dataclass(kw_only=True)
class Annotations:
    """What a layout found."""

    tree: Tree
    layout: str
    images: list[AnnotatedImage] = field(default_factory=list)
    ledger: list[LedgerEntry] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    columns: dict[str, str] = field(default_factory=dict)

    def drop(self, item: str, reason: str, detail: str) -> None:
        """Name what is not used."""
        self.ledger.append(LedgerEntry(item=item, action="dropped", reason=reason, detail=detail))

    def repair(self, item: str, reason: str, detail: str) -> None:
        """Name what is used otherwise than it is written."""
        self.ledger.append(LedgerEntry(item=item, action="repaired", reason=reason, detail=detail))


def table_of(found: Annotations, target: TargetType | None) -> Table:
    """Return the rows of annotated images.

    Raises:
        DataError: no image can be used.
    """
    rows = []
    differs: list[str] = []
    turned: dict[bool | None, list[str]] = {True: [], None: []}
    for image in found.images:
        frame = frame_at(found.tree.path(image.file))
        stored = frame.in_stored_pixels(_absolute(image), image.written) if frame and image.boxes else False
        if stored is not False:
            turned[stored].append(image.file.id)
        if stored and frame is not None:
            image = _upright(image, frame)
        size = frame.upright if frame else image.written
        if all(image.written) and size != image.written:
            differs.append(f"{image.file.id} ({image.written[0]} x {image.written[1]}, the file {size[0]} x {size[1]})")
        boxes = _checked(found, image, size)
        if boxes is not None:
            where = Boxes(boxes=boxes, width=size[0], height=size[1])
            rows.append(Row(id=image.file.id, path=found.tree.path(image.file), target=where, split=image.split, group=image.group))
    if not rows:
        first = f" The first problem: {found.ledger[0].item}: {found.ledger[0].detail}." if found.ledger else ""
        raise DataError(f"{found.tree.root}: {found.layout}, of which no image can be used.{first}")
    table = Table(rows=rows, modality="image", target_type=target or BOXES, root=found.tree.root, layout=found.layout)
    table.ledger, table.columns = [*found.ledger, *found.tree.ledger("image")], found.columns
    table.messages = [*found.messages, *_counted(rows), *found.tree.messages()]
    table.messages += _of_turned(turned)
    if differs:
        more = " …" if len(differs) > _REPORTED else ""
        table.messages.append(
            f"{len(differs)} annotations give another image size than the file has; boxes are taken as pixels of the file: "
            f"{', '.join(differs[:_REPORTED])}{more}."
        )
    return table


def _absolute(image: AnnotatedImage) -> list[Box]:
    """Return the boxes whose coordinates are pixels: fractions fit any image."""
    return [] if image.relative else [box for _, box in image.boxes]


def _upright(image: AnnotatedImage, frame: StoredFrame) -> AnnotatedImage:
    """Return an image whose boxes were drawn on its pixels as they are stored, with boxes of the upright one."""
    stored = (frame.width, frame.height)
    boxes = ((where, frame.turned(_in_pixels(box, stored) if image.relative else box)) for where, box in image.boxes)
    return replace(image, boxes=tuple(boxes), written=frame.upright, relative=False)


def _of_turned(turned: Mapping[bool | None, Sequence[str]]) -> list[str]:
    """Return what was done about images that EXIF data turn: their boxes were turned too, or nothing tells where they were drawn."""
    out = []
    if sure := turned[True]:
        out.append(f"{len(sure)} images are turned by their EXIF data; their boxes were drawn before that, and turned too ({sure[0]} …).")
    if open_ := turned[None]:
        out.append(
            f"{len(open_)} images are turned by their EXIF data, and no annotation tells whether boxes were drawn before or after that: "
            f"they are taken as drawn on the upright image ({open_[0]} …). Look at the report's images."
        )
    return out


def _checked(found: Annotations, image: AnnotatedImage, size: tuple[int, int]) -> tuple[Box, ...] | None:
    """Return the boxes of an image that can be used; None where it has boxes and none of them can."""
    kept: list[Box] = []
    for where, box in image.boxes:
        scaled = _in_pixels(box, size) if image.relative else box
        used, fault = checked(replace(scaled, name=clean(scaled.name)), *size)
        if fault is not None:
            (found.repair if used or len(image.boxes) > 1 else found.drop)(image.file.id, fault.reason, f"{where} {fault.words}")
        if used is not None:
            kept.append(used)
    twice = set(repeated(kept))
    for place in sorted(twice):
        found.repair(image.file.id, "repeated_box", f"has the box {kept[place].name} {kept[place].corners} twice; one is used")
    if not kept and (image.boxes or image.lost):
        if len(image.boxes) != 1 or image.lost:
            found.drop(image.file.id, "no_usable_box", "has boxes, none of which can be used; it is not taken as an image without objects")
        return None
    return tuple(box for place, box in enumerate(kept) if place not in twice)


def _in_pixels(box: Box, size: tuple[int, int]) -> Box:
    width, height = size
    return replace(box, left=box.left * width, right=box.right * width, top=box.top * height, bottom=box.bottom * height)


def _counted(rows: Sequence[Row]) -> list[str]:
    """Return a sentence with the boxes of each class, and the images without any."""
    counts = Counter(name for row in rows if isinstance(row.target, Boxes) for name in row.target.names)
    empty = sum(isinstance(row.target, Boxes) and not row.target.boxes for row in rows)
    ignored = sum(box.ignored for row in rows if isinstance(row.target, Boxes) for box in row.target.boxes)
    named = ", ".join(f"{name} {count:,}" for name, count in counts.most_common(8)) + (" …" if len(counts) > 8 else "")
    out = [f"{counts.total():,} boxes in {len(rows):,} images: {named or 'none'}."]
    if empty:
        out.append(
            f"{empty:,} images show no objects and are kept as negatives."
            if empty > 1
            else "1 image shows no objects and is kept as a negative."
        )
    if ignored:
        what = f"{ignored:,} boxes are crowds" if ignored > 1 else "1 box is a crowd"
        out.append(f"{what} or marked as difficult: {'they do' if ignored > 1 else 'it does'} not count.")
    return out


def by_stem(files: Iterable[FileEntry]) -> dict[str, list[FileEntry]]:
    """Return files by their name without file extension."""
    out: dict[str, list[FileEntry]] = {}
    for file in files:
        out.setdefault(PurePosixPath(file.parts[-1]).stem, []).append(file)
    return out


def partner(file: FileEntry, others: Sequence[FileEntry]) -> FileEntry | None:
    """Return which of the files with the same stem belongs to a file: the one whose folders differ least; None where two are as near."""
    ranked = sorted(others, key=lambda other: _distance(file, other))
    if not ranked or (len(ranked) > 1 and _distance(file, ranked[0]) == _distance(file, ranked[1])):
        return None
    return ranked[0]


def _distance(one: FileEntry, other: FileEntry) -> int:
    """Return how many folders are in one path and not in the other."""
    mine, theirs = Counter(one.parts[:-1]), Counter(other.parts[:-1])
    return ((mine - theirs) + (theirs - mine)).total()


def split_in(file: FileEntry) -> Split | None:
    """Return the split that a folder of a file's path names, the innermost first."""
    named = (split_of_folder(part) for part in reversed(file.parts[:-1]))
    return next((split for split in named if split), None)
