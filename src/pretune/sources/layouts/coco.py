"""COCO: one JSON file a split, with images, categories, and boxes as [left, top, width, height]."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Self

from pretune.errors import DataError
from pretune.sources.boxes import BOXES, Box
from pretune.sources.layouts._base import DataPlace, OwnLayout
from pretune.sources.layouts._boxed import AnnotatedImage, Annotations, split_in, table_of
from pretune.sources.names import folded, variants
from pretune.sources.split_names import split_of_file
from pretune.sources.table import Table
from pretune.sources.target_type import TargetType
from pretune.sources.tree import FileEntry, Tree
from pretune.types import Split

_KEYS = (b'"images"', b'"annotations"', b'"categories"')
_PIECE = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Coco(OwnLayout):
    """The annotation files of a folder, or one of them, with the images that they name."""

    tree: Tree
    files: tuple[FileEntry, ...]

    @classmethod
    def recognise(cls, place: DataPlace) -> Self | None:
        """Return the JSON files that have images, annotations and categories."""
        if not place.may_be("image", BOXES):
            return None
        found = tuple(file for file in place.files((".json",)) if _is_coco(place.tree.path(file)))
        return cls(columns=place.columns, modality="image", tree=place.tree, files=found) if found else None

    def read(self, target: TargetType | None) -> Table:
        """Return a row for each image; classes are the categories' names, whatever their numbers.

        Raises:
            DataError: a file is no JSON.
        """
        found = Annotations(tree=self.tree, layout=f"COCO annotations ({', '.join(file.id for file in self.files[:4])})")
        images = _Images(self.tree)
        used: set[FileEntry] = set()
        for file in self.files:
            one = _File(found, file, _content(self.tree.path(file)), images)
            taken = one.images(used, split_of_file(file.parts[-1].rpartition(".")[0]))
            found.images += taken
            used |= {image.file for image in taken}
        left = [image.id for image in self.tree.media("image") if image not in used]
        if left:
            found.messages.append(
                f"{len(left)} images are in no annotation file and are not used: {', '.join(left[:3])}{' …' if left[3:] else ''}."
            )
        return table_of(found, target)


def _is_coco(path: Path) -> bool:
    """Return whether a JSON file has the keys of COCO in its first or last bytes, or, of a long one, anywhere."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(_PIECE)
            if not start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
                return False
            file.seek(max(0, size - _PIECE))
            ends = start + file.read()
            if any(key in ends for key in _KEYS) and size > 2 * _PIECE:
                file.seek(0)
                ends = file.read()
    except OSError:
        return False
    return all(key in ends for key in _KEYS)


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no whole JSON file: {error}.") from None
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in ("images", "annotations", "categories")):
        raise DataError(f"{path} must hold lists called images, annotations and categories.")
    return content


class _Images:
    """The image files of a folder, by the ends of their paths."""

    def __init__(self, tree: Tree) -> None:
        self.by_name: dict[str, list[FileEntry]] = {}
        for file in tree.media("image"):
            self.by_name.setdefault(folded(file.parts[-1]), []).append(file)

    def find(self, written: str, annotation: FileEntry) -> FileEntry | None:
        """Return the file that a path means: the one whose path ends so, and of several the one that is nearest to the annotations."""
        for variant in variants(written):
            wanted = [folded(part) for part in PurePosixPath(variant).parts if part not in (".", "..", "/")]
            near = self.by_name.get(wanted[-1], []) if wanted else []
            for length in range(len(wanted), 0, -1):
                fits = [file for file in near if [folded(part) for part in file.parts[-length:]] == wanted[-length:]]
                split = split_of_file(annotation.parts[-1].rpartition(".")[0])
                chosen = [file for file in fits if split_in(file) == split or file.parts[:-1] == annotation.parts[:-1]] or fits
                if len(chosen) == 1:
                    return chosen[0]
                if chosen:
                    return None
        return None


class _File:
    """One annotation file while it is read."""

    def __init__(self, found: Annotations, file: FileEntry, content: Mapping[str, list[Any]], images: _Images) -> None:
        self.found, self.file, self.content, self.files = found, file, content, images
        self.names = {entry.get("id"): str(entry.get("name", "")).strip() for entry in content["categories"] if isinstance(entry, dict)}

    def images(self, used: set[FileEntry], split: Split | None) -> list[AnnotatedImage]:
        """Return the images with their boxes; those of the first file that names an image count."""
        boxes, lost = self._boxes()
        out = []
        for entry in self.content["images"]:
            name = str(entry.get("file_name") or "")
            image = self.files.find(name, self.file)
            if image is None:
                self.found.drop(
                    name or f"{self.file.id} image {entry.get('id')}", "missing_file", f"is named in {self.file.id} and is not there"
                )
            elif image in used or any(one.file == image for one in out[-1:]):
                self.found.drop(f"{self.file.id}: {name}", "repeated_image", "was named before; the first mention counts")
            else:
                size = (_whole(entry.get("width")), _whole(entry.get("height")))
                mine, gone = tuple(boxes.get(entry.get("id"), ())), lost.get(entry.get("id"), 0)
                out.append(AnnotatedImage(file=image, boxes=mine, split=split or split_in(image), written=size, lost=gone))
        return out

    def _boxes(self) -> tuple[dict[Any, list[tuple[str, Box]]], dict[Any, int]]:
        """Return the boxes by image id, and how many of each could not be read."""
        known, seen = {entry.get("id") for entry in self.content["images"]}, set()
        boxes: dict[Any, list[tuple[str, Box]]] = {}
        lost: dict[Any, int] = {}
        for entry in self.content["annotations"]:
            where, image = f"annotation {entry.get('id')}", entry.get("image_id")
            if image not in known:
                self.found.drop(f"{self.file.id} {where}", "unknown_image", f"has the image_id {image}, which no image has")
                continue
            fault, numbers = self._fault(entry, seen), _numbers(entry.get("bbox"))
            seen.add(entry.get("id"))
            if fault is not None or numbers is None:
                fault = fault or ("bad_box", "has no box")
                self.found.repair(f"{self.file.id} {where}", fault[0], f"{fault[1]}; it is not used")
                lost[image] = lost.get(image, 0) + 1
                continue
            crowd = str(entry.get("iscrowd", 0)) in ("1", "True") or bool(entry.get("ignore"))
            left, top, width, height = numbers
            box = Box(self.names[entry.get("category_id")], left, top, left + width, top + height, ignored=crowd)
            boxes.setdefault(image, []).append((where, box))
        return boxes, lost

    def _fault(self, entry: Mapping[str, Any], seen: set[Any]) -> tuple[str, str] | None:
        """Return why an annotation gives no box."""
        if entry.get("id") is not None and entry.get("id") in seen:
            return "repeated_id", f"has the id {entry.get('id')} of an annotation before it"
        if not self.names.get(entry.get("category_id")):
            return "unknown_category", f"has the category_id {entry.get('category_id')}, which no category has"
        numbers = _numbers(entry.get("bbox"))
        if numbers is None:
            return "bad_box", f"has a bbox of other than four numbers: {entry.get('bbox')}"
        if min(numbers[2:]) < 0:
            return "bad_box", f"has a bbox of negative width or height: {entry.get('bbox')}"
        return None


def _numbers(box: Any) -> tuple[float, float, float, float] | None:
    """Return four numbers, as they are or written as text."""
    if not isinstance(box, list) or len(box) != 4:
        return None
    try:
        left, top, width, height = (float(value) for value in box)
    except (TypeError, ValueError):
        return None
    return (left, top, width, height) if all(map(math.isfinite, (left, top, width, height))) else None


def _whole(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else 0
