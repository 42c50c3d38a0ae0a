"""YOLO: a text file of boxes for each image, centre and size as fractions; names and splits in data.yaml."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Self

from pretune.errors import DataError
from pretune.sources.boxes import BOXES, Box
from pretune.sources.layouts._base import DataPlace, OwnLayout
from pretune.sources.layouts._boxed import AnnotatedImage, Annotations, by_stem, partner, split_in, table_of
from pretune.sources.readers.delimited import decode
from pretune.sources.split_names import split_of
from pretune.sources.table import Table
from pretune.sources.target_type import TargetType
from pretune.sources.tree import FileEntry, Tree
from pretune.types import Split

_NAMES = frozenset(("classes.txt", "obj.names", "classes.names", "_darknet.labels", "labels.names"))
_LINE = re.compile(r"\d+(?:\s+-?\d*\.?\d+(?:[eE][-+]?\d+)?){4,}")
_LOOKED_AT, _START = 20, 4096
_SLACK = 0.02
"""How far beyond its image, as a share of it, a box may reach by rounding."""


@dataclass(frozen=True, kw_only=True)
class Yolo(OwnLayout):
    """Images with label files, in a folder `labels` beside `images` or beside each image."""

    tree: Tree
    settings: FileEntry | None
    """data.yaml, where there is one."""

    @classmethod
    def recognise(cls, place: DataPlace) -> Self | None:
        """Return the data of a folder (or of its data.yaml) whose text files beside images hold boxes."""
        given = place.path.name if place.path.is_file() else None
        if not place.may_be("image", BOXES) or (given is not None and not given.lower().endswith((".yaml", ".yml"))):
            return None
        tree = place.tree
        settings = [file for file in tree.files if _is_settings(tree, file) and given in (None, file.id)]
        if given is not None and not settings:
            return None
        images = by_stem(tree.media("image"))
        strings = [file for file in tree.files if _is_label(file) and PurePosixPath(file.parts[-1]).stem in images]
        if not strings or not (settings or any(_holds_boxes(tree.path(file)) for file in strings[:_LOOKED_AT])):
            return None
        first = min(settings, key=lambda file: (len(file.parts), file.id)) if settings else None
        return cls(columns=place.columns, modality="image", tree=tree, settings=first)

    def read(self, target: TargetType | None) -> Table:
        """Return a row for each image with a label file; an empty one means no objects.

        Raises:
            DataError: data.yaml cannot be read.
        """
        found = Annotations(tree=self.tree, layout="YOLO labels")
        settings = _settings(self.tree.path(self.settings)) if self.settings else {}
        names = self._names(settings, found)
        splits = self._splits(settings, found)
        images, used, kinds = by_stem(self.tree.media("image")), set(), _Kinds()
        for file in self.tree.files:
            if not _is_label(file):
                continue
            stem = PurePosixPath(file.parts[-1]).stem
            image = partner(file, images.get(stem, []))
            if image is None:
                if "labels" in (part.lower() for part in file.parts[:-1]):
                    found.drop(file.id, "orphan_annotation", "is a label file without an image")
                continue
            used.add(image)
            boxes, lost = _boxes(self.tree.path(file), file.parts[-1], names, found, kinds)
            split = splits.get(image.id) or split_in(image)
            found.images.append(AnnotatedImage(file=image, boxes=tuple(boxes), lost=lost, split=split, relative=True))
        for image in self.tree.media("image"):
            if image not in used:
                found.drop(
                    image.id, "no_annotation", "has no label file, and is not taken as an image without objects (an empty one says so)"
                )
        kinds.refuse_ones(names, self.tree.root)
        found.messages += kinds.messages()
        return table_of(found, target)

    def _names(self, settings: dict[str, Any], found: Annotations) -> list[str] | None:
        """Return the class names in the order of their numbers; None where nothing says them."""
        named = settings.get("names")
        if isinstance(named, dict):
            numbers = {int(number): str(name) for number, name in named.items() if str(number).isdigit()}
            return [numbers.get(number, str(number)) for number in range(max(numbers, default=-1) + 1)]
        if isinstance(named, list):
            return [str(name) for name in named]
        for file in self.tree.files:
            if file.parts[-1].lower() in _NAMES:
                text, read_as = decode(self.tree.path(file), self.tree.path(file).read_bytes())
                found.messages += read_as
                return [line.strip() for line in text.split("\n") if line.strip()]
        found.messages.append("nothing names the classes (data.yaml or classes.txt): they are called by their numbers.")
        return None

    def _splits(self, settings: dict[str, Any], found: Annotations) -> dict[str, Split]:
        """Return the split of each image that data.yaml gives one; two that are the same images count as none."""
        if self.settings is None:
            return {}
        home = PurePosixPath(*self.settings.parts[:-1])
        listed: dict[Split, list[str]] = {}
        for key in ("train", "val", "valid", "test"):
            split = split_of(key)
            if settings.get(key) and split is not None:
                places = settings[key] if isinstance(settings[key], list) else [settings[key]]
                images = [image for place in places for image in self._below(home, str(settings.get("path") or ""), str(place))]
                if images:
                    listed[split] = images
        if "train" in listed and any(set(listed["train"]) & set(images) for split, images in listed.items() if split != "train"):
            found.messages.append("data.yaml names the same images for train and val: its splits are not used, and new ones are made.")
            return {}
        return {image: split for split, images in listed.items() for image in images}

    def _below(self, home: PurePosixPath, root: str, place: str) -> list[str]:
        """Return the ids of the images below a folder, or in a list, that data.yaml names."""
        wanted = [part for part in PurePosixPath(root.replace("\\", "/"), place.replace("\\", "/")).parts if part not in (".", "..", "/")]
        images = self.tree.media("image")
        for base in (list(home.parts), []):
            for length in range(len(wanted), 0, -1):  # paths of another machine: their ends count
                folder = [*base, *wanted[-length:]]
                if folder[-1].endswith(".txt") and (file := next((f for f in self.tree.files if list(f.parts) == folder), None)):
                    lines = self.tree.path(file).read_text(encoding="utf-8", errors="replace").split("\n")
                    ends = {PurePosixPath(line.strip()).name for line in lines if line.strip()}
                    return [image.id for image in images if image.parts[-1] in ends]
                inside = [image.id for image in images if list(image.parts[: len(folder)]) == folder]
                if inside:
                    return inside
        return []


def _is_label(file: FileEntry) -> bool:
    name = file.parts[-1].lower()
    return name.endswith(".txt") and name not in _NAMES


def _holds_boxes(path: Path) -> bool:
    """Return whether the first lines of a file are a number and at least four fractions."""
    try:
        with path.open("rb") as file:
            lines = file.read(_START).decode("utf-8", "replace").split("\n")[:_LOOKED_AT]
    except OSError:
        return False
    lines = [line.strip() for line in lines if line.strip()]
    return bool(lines) and all(_LINE.fullmatch(line) for line in lines[:-1] or lines)


def _is_settings(tree: Tree, file: FileEntry) -> bool:
    if not file.parts[-1].lower().endswith((".yaml", ".yml")):
        return False
    try:
        text = tree.path(file).read_text(encoding="utf-8", errors="replace")[: 1 << 16]
    except OSError:
        return False
    return re.search(r"(?m)^names\s*:", text) is not None and re.search(r"(?m)^(train|val|nc)\s*:", text) is not None


def _settings(path: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig", errors="replace"))
    except yaml.YAMLError as error:
        raise DataError(f"{path} is no YAML: {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} must hold names, train and val.")
    return content


@dataclass
class _Kinds:
    """Lines that say more than a box."""

    scored: int = 0
    outlined: int = 0
    numbers: set[int] = field(default_factory=set)
    """Of the classes."""

    def refuse_ones(self, names: Sequence[str] | None, root: Path) -> None:
        """Refuse class numbers that count from 1, by which every box would have the name of the next class.

        Raises:
            DataError: says how far they reach.
        """
        if names and self.numbers and (min(self.numbers), max(self.numbers)) == (1, len(names)):
            raise DataError(
                f"{root}: the class numbers of the label files run from 1 to {len(names)}, and {len(names)} classes have names. YOLO "
                "counts from 0: take one from each number, or put a name in front of the others."
            )

    def messages(self) -> list[str]:
        """Return a sentence for each kind that there is."""
        scored = f"{self.scored:,} lines have" if self.scored > 1 else "1 line has"
        outlined = (
            f"{self.outlined:,} lines are outlines: the boxes around them are"
            if self.outlined > 1
            else "1 line is an outline: the box around it is"
        )
        out = [f"{scored} six columns: the last is taken as a score and is not read."] if self.scored else []
        return out + ([f"{outlined} used."] if self.outlined else [])


def _boxes(path: Path, name: str, names: list[str] | None, found: Annotations, kinds: _Kinds) -> tuple[list[tuple[str, Box]], int]:
    """Return the boxes of a label file with where each is written, and how many lines give none."""
    boxes: list[tuple[str, Box]] = []
    lost = 0
    lines = re.split(r"\r\n|\r|\n", path.read_text(encoding="utf-8-sig", errors="replace"))
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        box = _box(line.split(), names, kinds)
        if isinstance(box, Box):
            boxes.append((f"{name}:{number}", box))
        else:
            lost += 1
            found.repair(f"{name}:{number}", "bad_line", f"{box}; the line is not used")
    return boxes, lost


def _box(words: list[str], names: list[str] | None, kinds: _Kinds) -> Box | str:
    """Return the box of a line, or why there is none."""
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        return "holds something that is no number"
    if not all(map(math.isfinite, numbers)):
        return "holds a number that is not finite"
    if len(numbers) < 5 or (len(numbers) > 6 and len(numbers) % 2 == 0):
        return f"has {len(numbers)} columns, where a box has five: class, x, y, width, height"
    kinds.numbers.add(int(numbers[0]))
    if numbers[0] != int(numbers[0]) or numbers[0] < 0 or (names is not None and numbers[0] >= len(names)):
        known = "" if names is None else f"; there are {len(names)} classes, 0 to {len(names) - 1}"
        return f"has the class {words[0]}{known}"
    name = names[int(numbers[0])] if names is not None else str(int(numbers[0]))
    if len(numbers) > 6:
        corners = (min(numbers[1::2]), min(numbers[2::2]), max(numbers[1::2]), max(numbers[2::2]))
        kinds.outlined += 1
    else:
        x, y, width, height = numbers[1:5]
        if width <= 0 or height <= 0:
            return f"has the width {width:g} and the height {height:g}"
        corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        kinds.scored += len(numbers) == 6
    if max(map(abs, corners)) > 2:
        return f"has coordinates in pixels ({' '.join(words[1:5])}), where fractions of the image are needed"
    if corners[0] >= 1 or corners[1] >= 1 or corners[2] <= 0 or corners[3] <= 0:
        return f"lies outside the image ({' '.join(words[1:5])})"
    if min(corners) < -_SLACK or max(corners) > 1 + _SLACK:
        return Box(name, *corners)  # cut off at the border, and named
    left, top, right, bottom = (min(1.0, max(0.0, value)) for value in corners)
    return Box(name, left, top, right, bottom)
