"""Pascal VOC: an XML file for each image, splits as lists of names in ImageSets/Main."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from xml.etree import ElementTree
from xml.parsers import expat

from pretune.errors import BadItem
from pretune.sources.boxes import BOXES, Box
from pretune.sources.layouts._base import DataPlace, OwnLayout
from pretune.sources.layouts._boxed import AnnotatedImage, Annotations, by_stem, partner, split_in, table_of
from pretune.sources.split_names import split_of
from pretune.sources.table import Table
from pretune.sources.target_type import TargetType
from pretune.sources.tree import FileEntry, Tree
from pretune.types import Split

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_LOOKED_AT = 20
_START = 4096


@dataclass(frozen=True, kw_only=True)
class PascalVoc(OwnLayout):
    """A folder of images and XML files, together or in folders of their own."""

    tree: Tree

    @classmethod
    def recognise(cls, place: DataPlace) -> Self | None:
        """Return the data of a folder whose XML files are annotations."""
        if not place.path.is_dir() or not place.may_be("image", BOXES):
            return None
        files = _annotations(place.tree)[:_LOOKED_AT]
        if not any(_is_annotation(place.tree.path(file)) for file in files) or not place.tree.media("image"):
            return None
        return cls(columns=place.columns, modality="image", tree=place.tree)

    def read(self, target: TargetType | None) -> Table:
        """Return a row for each image that has an XML file, paired by name."""
        found = Annotations(tree=self.tree, layout="Pascal VOC annotations")
        images, splits = by_stem(self.tree.media("image")), _image_sets(self.tree)
        used, unlisted = set(), 0
        for file in _annotations(self.tree):
            stem = file.parts[-1].rpartition(".")[0]
            image = partner(file, images.get(stem, []))
            if image is None:
                why = "several images have its name" if stem in images else "no image has its name"
                found.drop(file.id, "orphan_annotation", f"is an annotation without an image: {why}")
                continue
            used.add(image)
            if splits and stem not in splits:
                unlisted += 1
                continue
            try:
                found.images.append(_image(image, file, self.tree.path(file), splits.get(stem) or split_in(image)))
            except BadItem as bad:
                found.drop(file.id, bad.reason, str(bad))
        for image in self.tree.media("image"):
            if image not in used:
                found.drop(image.id, "no_annotation", "has no annotation, and is not taken as an image without objects")
        if unlisted:
            found.messages.append(f"{unlisted} images are in no list of ImageSets/Main and are not used.")
        return table_of(found, target)


def _annotations(tree: Tree) -> list[FileEntry]:
    return [file for file in tree.files if file.parts[-1].lower().endswith(".xml")]


def _is_annotation(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return b"<annotation" in file.read(_START).replace(b"\0", b"")
    except OSError:
        return False


def _image_sets(tree: Tree) -> dict[str, Split]:
    """Return the split of each name in ImageSets/Main; trainval counts where there is no list for train."""
    lists = {
        file.parts[-1][:-4].lower(): file
        for file in tree.files
        if len(file.parts) > 1 and file.parts[-2].lower() == "main" and file.parts[-1].lower().endswith(".txt")
    }
    out: dict[str, Split] = {}
    for name, file in sorted(lists.items(), key=lambda pair: pair[0] != "trainval"):  # others count where both name an image
        split = split_of(name)
        if split is None or (name == "trainval" and "train" in lists):
            continue
        lines = tree.path(file).read_text(encoding="utf-8", errors="replace").split("\n")
        out |= {line.split()[0].rpartition("/")[2].removesuffix(".jpg"): split for line in lines if line.split()}
    return out


def _image(image: FileEntry, file: FileEntry, path: Path, split: Split | None) -> AnnotatedImage:
    root = parsed(path)
    boxes, lost = [], 0
    for number, thing in enumerate(root.iter("object"), start=1):
        name, where = (thing.findtext("name") or "").strip(), f"{file.parts[-1]}: box {number}"
        corners = [_number(thing.findtext(f"bndbox/{corner}")) for corner in _CORNERS]
        if not name:
            lost += 1
            continue
        ignored = (thing.findtext("difficult") or "").strip() == "1"
        boxes.append((where, Box(name, *corners, ignored=ignored)))
    written = tuple(int(_number(root.findtext(f"size/{side}"), 0.0)) for side in ("width", "height"))
    return AnnotatedImage(file=image, boxes=tuple(boxes), split=split, written=(written[0], written[1]), lost=lost)


def _number(text: str | None, otherwise: float = float("nan")) -> float:
    try:
        value = float(text or "")
    except ValueError:
        return otherwise
    return value if otherwise != otherwise or value == value else otherwise


def parsed(path: Path) -> ElementTree.Element:
    """Return the root of an XML file; a document type, which could name other files or grow without end, is refused.

    Raises:
        BadItem: it has one, or is no XML.
    """
    builder, parser = ElementTree.TreeBuilder(), expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = lambda name, attributes: builder.start(name, _plain(attributes))
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        parser.Parse(path.read_bytes(), True)
        return builder.close()
    except OSError as error:
        raise BadItem("unreadable", f"cannot be read: {error.strerror}") from None
    except (expat.ExpatError, AssertionError) as error:
        raise BadItem("bad_xml", f"is no whole XML file ({error})") from None


def _plain(attributes: Mapping[str, str]) -> dict[str, str]:
    return dict(attributes)


def _refuse_doctype(*_: object) -> None:
    raise BadItem("unsafe_xml", "declares a document type with entities, which annotations do not need; it is not read")
