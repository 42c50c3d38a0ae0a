"""What labelled data lie under a path is decided once, before a row is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import pytest

from pretune.errors import DataError, SettingError
from pretune.sources import layouts, manifests, sources
from pretune.sources.layouts import DataPlace, OwnLayout, Source
from pretune.sources.source import ClassFolders, LabelsInPaths, Lists, OneTable, Tables, Unlabelled, source_of
from pretune.sources.table import Columns, Table
from pretune.sources.target_type import NUMBER, ONE_CLASS, TargetType
from pretune.types import Row
from tests.data_files import messages_of, put, sentences, table_of

PICTURES = [f"{name}/{i}.jpg" for name in ("cat", "dog") for i in range(4)]
FLAT = [f"{name}_{i}.jpg" for name in ("cat", "dog") for i in range(4)]


def listing(root: Path, name: str = "labels.csv") -> Path:
    return table_of(root / name, ["file", "label"], [[file, file[:3]] for file in FLAT])


def class_folders(root: Path) -> Path:
    put(root, *PICTURES)
    return root


def folders_and_a_table(root: Path) -> Path:
    table_of(class_folders(root) / "labels.csv", ["file", "age"], [[file, i] for i, file in enumerate(PICTURES)])
    return root


def one_class(root: Path) -> Path:
    put(root, *(f"3.5/{i}.jpg" for i in range(4)))
    return root


def flat_files_and_a_table(root: Path) -> Path:
    put(root, *FLAT)
    listing(root)
    return root


def flat_files_and_a_list(root: Path) -> Path:
    put(root, *FLAT)
    (root / "all.txt").write_text("".join(f"{file} {file[:3]}\n" for file in FLAT))
    return root


def a_table(root: Path) -> Path:
    return table_of(root / "texts.csv", ["text", "label"], sentences())


@pytest.mark.parametrize(
    ("make", "columns", "kind"),
    [
        (class_folders, Columns(), ClassFolders),
        (folders_and_a_table, Columns(), ClassFolders),
        (folders_and_a_table, Columns(label=r"^(\w+)/"), LabelsInPaths),
        (one_class, Columns(), ClassFolders),
        (flat_files_and_a_table, Columns(), Tables),
        (flat_files_and_a_table, Columns(label=r"^(\w+)_"), LabelsInPaths),
        (flat_files_and_a_list, Columns(), Lists),
        (a_table, Columns(), OneTable),
    ],
)
def test_what_lies_under_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], Path], columns: Columns, kind: type[Source]
) -> None:
    path = make(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(manifests, "build", None)  # no row is made before the source is known
        found = source_of(path, columns, None)
    assert type(found) is kind
    assert len(found.read(None).rows) == (20 if make is a_table else 4 if make is one_class else 8)


def test_what_holds_no_labels_is_refused_before_a_row_is_made(tmp_path: Path) -> None:
    put(tmp_path, "flat/a.jpg", "flat/b.jpg", "book.xlsx")
    for path, words in (("flat", "neither class folders nor a manifest"), ("book.xlsx", "spreadsheet"), ("flat/a.jpg", "one file")):
        found = source_of(tmp_path / path, Columns(), None)
        assert isinstance(found, Unlabelled)
        with pytest.raises(DataError, match=words):
            found.read(None)


def test_settings_hold_for_a_single_class_folder_as_for_several(tmp_path: Path) -> None:
    root = one_class(tmp_path)
    with pytest.raises(SettingError, match="no manifest"):
        sources.read(root, Columns(label="price"), learn=False)
    assert {row.target for row in sources.read(root, target=NUMBER, learn=False).rows} == {3.5}


@pytest.mark.parametrize(
    "inside", [("",), ("a/left/", "a/right/", "b/left/", "b/right/")], ids=["no class folders", "class folders of two levels"]
)
def test_what_is_read_without_labels_keeps_the_splits_of_its_folders(tmp_path: Path, inside: tuple[str, ...]) -> None:
    put(tmp_path, *(f"{split}/{folder}{i}.jpg" for split in ("train", "test") for folder in inside for i in range(3)))
    with pytest.raises(DataError):
        sources.read(tmp_path)
    table = sources.read_items(tmp_path, "image")
    assert {(row.id.split("/")[0], row.split) for row in table.rows} == {("train", "train"), ("test", "test")}
    assert "the folders in which the files lie give the splits" in messages_of(table)
    assert {row.split for row in sources.read_items(tmp_path, "image", Columns(split="new")).rows} == {None}


@pytest.mark.parametrize("end", [".csv", ".txt"], ids=["tables", "lists"])
def test_what_is_read_without_labels_keeps_the_splits_that_tables_and_lists_give(tmp_path: Path, end: str) -> None:
    put(tmp_path, *(f"{i}.jpg" for i in range(12)))
    head = "file\n" if end == ".csv" else ""
    for split, numbers in (("train", range(8)), ("test", range(8, 12))):
        (tmp_path / f"{split}{end}").write_text(head + "".join(f"{i}.jpg\n" for i in numbers))
    table = sources.read_items(tmp_path, "image")
    assert {row.id: row.split for row in table.rows} == {f"{i}.jpg": "train" if i < 8 else "test" for i in range(12)}


def test_tables_of_which_none_is_meant_are_reported_and_not_used(tmp_path: Path) -> None:
    put(tmp_path, *(f"{i}.jpg" for i in range(4)))
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("file\n0.jpg\n1.jpg\n")
    table = sources.read_items(tmp_path, "image")
    assert len(table.rows) == 4
    assert "a.csv, b.csv were not used" in messages_of(table)


# --- layouts of their own --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Boxes(TargetType):
    """Targets of a form of their own, as boxes are."""


BOXES = Boxes(task="detection")


@dataclass(frozen=True, kw_only=True)
class Boxed(OwnLayout):
    """A folder with a file boxes.txt."""

    place: DataPlace

    @classmethod
    def recognise(cls, place: DataPlace) -> Self | None:
        there = any(file.parts[-1] == "boxes.txt" for file in place.tree.files) and place.may_be("image", BOXES)
        return cls(columns=place.columns, modality="image", place=place) if there else None

    def read(self, target: TargetType | None) -> Table:
        rows = [Row(id=file.id, path=self.place.tree.path(file), target=("dog",)) for file in self.place.tree.media("image")]
        return Table(rows=rows, modality="image", target_type=BOXES, root=self.place.path, layout="boxes")

    def read_unlabelled(self) -> Table:
        return replace(self.read(None), target_type=None, layout="without boxes")


def test_a_layout_of_its_own_comes_first_unless_something_else_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, *PICTURES)
    (tmp_path / "boxes.txt").write_text("dog 1 2 3 4\n")
    assert sources.read(tmp_path).task == "classification"
    monkeypatch.setattr(layouts, "RECOGNISERS", (Boxed,))
    table = sources.read(tmp_path)
    assert (table.task, table.layout, len(table.rows)) == ("detection", "boxes", 8), (
        "one class is enough where targets are of their own form"
    )
    assert sources.read(tmp_path, target=ONE_CLASS).layout == "class folders"
    assert sources.read_unlabelled(tmp_path, "image", target=BOXES).layout == "without boxes"
    assert sources.read_unlabelled(tmp_path, "image", target=ONE_CLASS).layout == "bare folder"
    assert sources.read_items(tmp_path, "image").layout == "boxes"


@pytest.mark.parametrize(
    ("table", "modality"),
    [
        ("image,label\na0.jpg,x\na1.jpg,y\na2.jpg,x\n", "image"),
        ("name,label\na0,x\na1,y\na2,x\n", "image"),
        ("text,label\nwhat a fine day,x\nnever again this,y\nall of it is good,x\n", "text"),
    ],
)
def test_a_table_beside_files_lists_them_or_holds_texts(tmp_path: Path, table: str, modality: str) -> None:
    put(tmp_path, *(f"a{i}.jpg" for i in range(3)))
    (tmp_path / "labels.csv").write_text(table)
    read = sources.read(tmp_path, learn=False)
    assert (read.modality, len(read.rows)) == (modality, 3)
    assert ("the image files in the folder are not used" in messages_of(read)) == (modality == "text")


def test_a_table_beside_files_that_names_none_and_holds_no_text_asks_for_the_column(tmp_path: Path) -> None:
    put(tmp_path, *(f"a{i}.jpg" for i in range(3)))
    (tmp_path / "labels.csv").write_text("id,label\n10,x\n20,y\n30,x\n")
    with pytest.raises(DataError, match=r"no column names image files below .* Name it: path=COLUMN"):
        sources.read(tmp_path)
