"""A table of boxes: one row a box, with the image's name, four coordinates and a class."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal, Self

from pretune.errors import DataError
from pretune.formats.files import IMAGE, ending
from pretune.sources.boxes import BOXES, Box
from pretune.sources.layouts._base import DataPlace, OwnLayout
from pretune.sources.layouts._boxed import AnnotatedImage, Annotations, split_in, table_of
from pretune.sources.names import folded, variants
from pretune.sources.outcome import outcome
from pretune.sources.readers.dispatch import read_records
from pretune.sources.readers.records import DELIMITED, Records, Value
from pretune.sources.split_names import split_of, split_of_file
from pretune.sources.table import Table
from pretune.sources.target_type import TargetType
from pretune.sources.tree import FileEntry, Tree
from pretune.sources.vocabulary import ID, plain
from pretune.types import Split

BoxForm = Literal["corners", "size", "centre"]
"""What four numbers are: left, top, right, bottom; left, top, width, height; centre, width, height."""
_CORNERS = (
    ("xmin", "ymin", "xmax", "ymax"),
    ("x1", "y1", "x2", "y2"),
    ("x0", "y0", "x1", "y1"),
    ("left", "top", "right", "bottom"),
    ("minx", "miny", "maxx", "maxy"),
    ("bboxx1", "bboxy1", "bboxx2", "bboxy2"),
    ("bboxxmin", "bboxymin", "bboxxmax", "bboxymax"),
    ("boxxmin", "boxymin", "boxxmax", "boxymax"),
)
_SIZES = (
    ("x", "y", "w", "h"),
    ("x", "y", "width", "height"),
    ("left", "top", "width", "height"),
    ("xmin", "ymin", "width", "height"),
    ("bboxx", "bboxy", "bboxw", "bboxh"),
    ("bboxx", "bboxy", "bboxwidth", "bboxheight"),
    ("bboxleft", "bboxtop", "bboxwidth", "bboxheight"),
)
_CENTRES = (
    *(("xcenter", "ycenter", width, height) for width, height in (("width", "height"), ("w", "h"))),
    *(("xcentre", "ycentre", width, height) for width, height in (("width", "height"), ("w", "h"))),
    *(("centerx", "centery", width, height) for width, height in (("width", "height"), ("w", "h"))),
    *(("cx", "cy", width, height) for width, height in (("width", "height"), ("w", "h"))),
    *(("xc", "yc", width, height) for width, height in (("width", "height"), ("w", "h"))),
)
"""Spellings of coordinates, without case and signs."""
_SPELLINGS: tuple[tuple[BoxForm, tuple[tuple[str, str, str, str], ...]], ...] = (
    ("corners", _CORNERS),
    ("centre", _CENTRES),
    ("size", _SIZES),
)
_DECIMAL_COMMA = re.compile(r"\s*-?\d+,\d+\s*")
_IMAGES = (
    "image",
    "filename",
    "file",
    "imagename",
    "imageid",
    "imagepath",
    "filepath",
    "path",
    "img",
    "imgname",
    "name",
    "imgpath",
    "image_path",
)
_CLASSES = ("class", "label", "classname", "labelname", "category", "name", "object", "categoryname", "target", "species", "type")
_HEADER = re.compile(rb"x_?min|min_?x|x_?[01]|left|bbox|\bx\b|x_?c|cx|cent(er|re)")
"""What is in the header of every table of boxes."""
_START = 4096
_PLACES = ("image", "xmin", "ymin", "xmax", "ymax", "class")
"""Columns of a table without a header line."""


@dataclass(frozen=True, kw_only=True)
class BoxRoles:
    """Which column means what."""

    image: str
    corners: tuple[str, str, str, str]
    form: BoxForm
    label: str | None
    split: str | None


@dataclass(frozen=True, kw_only=True)
class BoxTable(OwnLayout):
    """The tables of a folder that list boxes, or one of them."""

    tree: Tree
    files: tuple[FileEntry, ...]

    @classmethod
    def recognise(cls, place: DataPlace) -> Self | None:
        """Return the tables whose header names an image and four coordinates."""
        if not place.may_be("image", BOXES):
            return None
        tables = place.files(DELIMITED)
        if not tables or not place.tree.media("image"):
            return None
        found = tuple(file for file in tables if _lists_boxes(place.tree, file))
        return cls(columns=place.columns, modality="image", tree=place.tree, files=found) if found else None

    def read(self, target: TargetType | None) -> Table:
        """Return a row for each image that a table names; a row without coordinates says that its image shows no objects.

        Raises:
            DataError: no column holds classes.
        """
        names = ", ".join(file.id for file in self.files[:4])
        found = Annotations(tree=self.tree, layout=f"table{'s' * (len(self.files) > 1)} of boxes {names}")
        images = _by_ends(self.tree)
        collected: dict[FileEntry, _Rows] = {}
        for file in self.files:
            self._collect(file, found, images, collected)
        for image, rows in collected.items():
            split = rows.split or split_in(image)
            one = AnnotatedImage(file=image, boxes=tuple(rows.boxes), split=split, lost=rows.lost, relative=rows.relative)
            found.images.append(one)
        left = [image.id for image in self.tree.media("image") if image not in collected]
        if left:
            found.messages.append(f"{len(left)} images are in no table and are not used: {', '.join(left[:3])}{' …' if left[3:] else ''}.")
        return table_of(found, target)

    def _collect(self, file: FileEntry, found: Annotations, images: dict[str, list[FileEntry]], collected: dict[FileEntry, _Rows]) -> None:
        """Add the boxes of one table to their images."""
        records = read_records(self.tree.path(file))
        roles = roles_of(records, self.columns.label, self.columns.path)
        if roles is None or roles.label is None:
            raise DataError(
                f"{file.id}: no column holds the classes of boxes. Name it: label=COLUMN. Columns: {', '.join(records.columns)}."
            )
        found.ledger += records.ledger
        named = {
            "path": roles.image,
            "label": roles.label,
            "box": ",".join(roles.corners),
            **({"split": roles.split} if roles.split else {}),
        }
        found.columns |= named
        found.messages += [
            *records.messages,
            f"{file.id}: image from {roles.image!r}, class from {roles.label!r}, boxes from {', '.join(roles.corners)}.",
        ]
        comma = records.delimiter not in ("", ",")
        columns = (records.column(name) for name in roles.corners)
        values = [[_number(value, comma=comma) for value in four] for four in zip(*columns, strict=True)]
        relative = _are_fractions(values)
        if relative:
            found.messages.append(f"{file.id}: all coordinates lie between 0 and 1: they are fractions of the image.")
        splits: list[Value] = records.column(roles.split) if roles.split else [None] * len(values)
        of_file = split_of_file(file.parts[-1].rpartition(".")[0])
        written = zip(records.column(roles.image), records.column(roles.label), values, splits, strict=True)
        for index, (name, label, numbers, split) in enumerate(written):
            image = _find(str(name or ""), images)
            if image is None:
                why = "no image or several images have this name"
                found.drop(records.where(index), "missing_file", f"names {name!r}: {why}")
                continue
            rows = collected.setdefault(image, _Rows(split_of(split) or of_file, relative))
            rows.add(records.where(index), label, numbers, roles.form, found)


class _Rows:
    """The rows of one image."""

    def __init__(self, split: Split | None, relative: bool) -> None:
        self.split, self.relative, self.lost = split, relative, 0
        self.boxes: list[tuple[str, Box]] = []

    def add(self, where: str, label: Value, numbers: list[float | None], form: BoxForm, found: Annotations) -> None:
        """Add a box; a row without coordinates and class adds none."""
        there = [number for number in numbers if number is not None]
        name = str(label if label is not None else "").strip()
        if not there and not name:
            return
        if len(there) < 4 or not name:
            self.lost += 1
            found.repair(where, "bad_box", "has no class" if not name else "has fewer than four coordinates that are numbers")
            return
        left, top, third, fourth = there
        if form == "centre":
            left, top = left - third / 2, top - fourth / 2
        corners = (left, top, third, fourth) if form == "corners" else (left, top, left + third, top + fourth)
        self.boxes.append((where, Box(name, *corners)))


def roles_of(records: Records, label: str | None = None, path: str | None = None) -> BoxRoles | None:
    """Return which columns hold boxes; None where a table has none.

    Args:
        records: the table.
        label: the column of classes that the person named.
        path: the column of images that the person named.
    """
    if records.headerless:
        return _by_place(records)
    by_name = {plain(name).replace(" ", "").replace("_", ""): name for name in reversed(records.columns)}
    for form, spellings in _SPELLINGS:
        for four in spellings:
            if not all(name in by_name for name in four):
                continue
            corners = (by_name[four[0]], by_name[four[1]], by_name[four[2]], by_name[four[3]])
            image = path or next((by_name[name] for name in _IMAGES if name in by_name), None) or _of_files(records)
            if image is None:
                return None
            classes = (by_name[name] for name in _CLASSES if name in by_name and by_name[name] != image)
            split = next((by_name[name] for name in ("split", "subset", "set", "partition") if name in by_name), None)
            named = label or next(classes, None) or _only_words(records, {image, *corners, split})
            return BoxRoles(image=image, corners=corners, form=form, label=named, split=split)
    return None


def _only_words(records: Records, taken: set[str | None]) -> str | None:
    """Return the only column that is left, where it holds words; None where there are others, or it holds numbers."""
    left = [name for name in records.columns if name not in taken and plain(name) not in ID]
    if len(left) != 1 or any(_number(value) is not None for value in records.column(left[0])):
        return None
    return left[0]


def _of_files(records: Records) -> str | None:
    """Return the column whose values are names of image files; None where there is none."""
    return next((name for name in records.columns if _name_images(records.column(name))), None)


def _name_images(values: list[Value]) -> bool:
    there = [str(value) for value in values if value]
    return bool(there) and all(ending(name) in IMAGE for name in there)


def _by_place(records: Records) -> BoxRoles | None:
    """Return the roles of a table without a header: image, four coordinates, class."""
    if len(records.columns) != len(_PLACES):
        return None
    numbers = [_number(value) for name in records.columns[1:5] for value in records.column(name)]
    if not _name_images(records.column(records.columns[0])) or not any(number is not None for number in numbers):
        return None
    image, left, top, right, bottom, label = records.columns
    return BoxRoles(image=image, corners=(left, top, right, bottom), form="corners", label=label, split=None)


def _lists_boxes(tree: Tree, file: FileEntry) -> bool:
    """Return whether a table lists boxes; most others are recognised by their first line."""
    try:
        with tree.path(file).open("rb") as stream:
            first = stream.read(_START).replace(b"\0", b"").lower().split(b"\n")[0]
    except OSError:
        return False
    if not _HEADER.search(first) and first.count(b",") != len(_PLACES) - 1:
        return False
    return isinstance(outcome(lambda: roles_of(read_records(tree.path(file))), DataError), BoxRoles)


def _number(value: Value, *, comma: bool = False) -> float | None:
    """Return a finite number; `comma` reads 12,5 too, of a table that commas do not separate."""
    text = str(value).strip()
    try:
        number = float(text.replace(",", ".") if comma and _DECIMAL_COMMA.fullmatch(text) else text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _are_fractions(values: list[list[float | None]]) -> bool:
    there = [number for four in values for number in four if number is not None]
    return bool(there) and all(0 <= number <= 1 for number in there) and any(number != int(number) for number in there)


def _by_ends(tree: Tree) -> dict[str, list[FileEntry]]:
    """Return image files by the ends of their paths, with and without file extension."""
    out: dict[str, list[FileEntry]] = {}
    for file in tree.media("image"):
        for start in range(len(file.parts)):
            path = PurePosixPath(*file.parts[start:])
            for name in {folded(str(path)), folded(str(path.with_suffix("")))}:
                out.setdefault(name, []).append(file)
    return out


def _find(written: str, images: dict[str, list[FileEntry]]) -> FileEntry | None:
    for variant in variants(written.strip()):
        parts = [part for part in PurePosixPath(variant).parts if part not in (".", "..", "/")]
        for start in range(len(parts)):
            found = images.get(folded("/".join(parts[start:])), [])
            if found:
                return found[0] if len(Counter(found)) == 1 else None
    return None
