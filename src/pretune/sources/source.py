"""What labelled data lie under a path: decided once, by `source_of`, and kept as a value that reads itself."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from pretune.errors import DataError
from pretune.formats.files import ending, file_kinds
from pretune.sources import classes, folders, joins, lists, manifests, patterns, shards, tables
from pretune.sources.columns import choose_files
from pretune.sources.contents import commonest, named_columns, nothing_found, tables_in
from pretune.sources.folders import Layout
from pretune.sources.layouts import DataPlace, Source, recognised
from pretune.sources.readers import arrow
from pretune.sources.readers.dispatch import read_records
from pretune.sources.readers.records import Records
from pretune.sources.split_names import is_filler, split_of_folder
from pretune.sources.table import Columns, RunColumns, Table
from pretune.sources.target_type import TargetType
from pretune.sources.tree import FileEntry, Tree, modality_by_content, walk

_SHEETS = frozenset((".xlsx", ".xls", ".ods", ".numbers"))


@dataclass(frozen=True, kw_only=True)
class ClassFolders(Source):
    """One folder per class, and tables that may add columns by path."""

    tree: Tree
    layout: Layout
    tables: list[FileEntry]
    modality: str

    def read(self, target: TargetType | None) -> Table:
        """Return the files of the folders, with what the tables add."""
        table = folders.read_folders(self.tree, self.modality, self.layout)
        joins.join(table, self.tree, self.tables, self.columns, target)
        return table if self.columns.label else classes.retarget(table, target)


@dataclass(frozen=True, kw_only=True)
class LabelsInPaths(Source):
    """Files whose paths hold the label, by a pattern: label='([a-z]+)_'."""

    tree: Tree
    pattern: str
    modality: str

    def read(self, target: TargetType | None) -> Table:
        """Return the files that the pattern matches."""
        return classes.retarget(patterns.read_labels(self.tree, self.modality, self.pattern), target)


@dataclass(frozen=True, kw_only=True)
class Tables(Source):
    """A folder whose tables hold the examples or name their files."""

    tree: Tree
    tables: list[FileEntry]

    def read(self, target: TargetType | None) -> Table:
        """Return the rows of the tables that belong together, or of the one that is meant."""
        return tables.read_together(self.tree, self.tables, self.columns, target, self.modality)


@dataclass(frozen=True, kw_only=True)
class Lists(Source):
    """A folder whose text files list other files with their labels, and its `datasets` folders: records that are read already."""

    tree: Tree
    records: list[manifests.SplitRecords]

    def read(self, target: TargetType | None) -> Table:
        """Return the rows of all records."""
        return tables.build(self.records, self.tree, self.columns, target, self.modality)


@dataclass(frozen=True, kw_only=True)
class OneTable(Source):
    """A table that is given itself; its paths are relative to the folder that it lies in."""

    path: Path
    records: Records

    def read(self, target: TargetType | None) -> Table:
        """Return the rows of the table."""
        home = self.path.parent
        found = functools.partial(walk, home)
        table = manifests.build([(None, self.records)], home, found, self.columns, target=target, modality=self.modality)
        return tables.with_folders_splits(table)


@dataclass(frozen=True, kw_only=True)
class Unlabelled(Source):
    """What holds no labels: reading them raises why."""

    why: DataError

    def read(self, target: TargetType | None) -> Table:
        """Refuse."""
        raise self.why


def source_of(path: Path, columns: Columns, modality: str | None, target: TargetType | None = None) -> Source:
    """Return what labelled data lie under a path: the first layout of `layouts` that recognises them, else class folders or tables.

    Args:
        path: a folder or a file that exists.
        columns: the columns that the person named, or of a run those of its training data.
        modality: image, audio or text; None infers it.
        target: the type of target that is wanted; None infers it.

    Raises:
        DataError: a table cannot be read.
        MissingExtra: Parquet or Arrow files without pyarrow.
    """
    place = DataPlace(path=path, columns=columns, modality=modality, target=target)
    if (own := recognised(place)) is not None:
        return own
    if not path.is_dir():
        return _one_table(path, columns, modality)
    return _datasets_folder(path, columns, modality) if arrow.is_datasets_folder(path) else _in_folder(place.tree, columns, modality)


def _one_table(path: Path, columns: Columns, modality: str | None) -> Source:
    unlabelled = functools.partial(Unlabelled, columns=columns, modality=modality)
    if ending(path.name) in _SHEETS:
        return unlabelled(why=DataError(f"{path} is a spreadsheet. Save it as CSV (UTF-8) and give that."))
    if modality_by_content(path) in file_kinds():
        why = f"{path} is one file. Give a folder with one folder per class, or a manifest (CSV) that names files and labels."
        return unlabelled(why=DataError(why))
    records = lists.read_list(path) or read_records(path, named_columns(columns))
    if len(records.columns) == 1 and not columns.label:
        why = (
            f"{path} has one column ({records.columns[0]!r}), so it holds no labels. A manifest needs a content and a label column. "
            "If a sign that was not recognised separates its columns, name it in a first line: sep=X. To train a language model on the "
            "column as plain text, say task=text_generation."
        )
        return unlabelled(why=DataError(why))
    return OneTable(columns=columns, modality=modality, path=path, records=records)


def _datasets_folder(path: Path, columns: Columns, modality: str | None) -> Lists:
    records = arrow.read_datasets_folder(path)
    holds_files = any(choose_files(one.files, columns, modality) or one.linked for _, one in records)
    return Lists(columns=columns, modality=modality if holds_files else "text", tree=walk(path), records=records)


def _in_folder(tree: Tree, columns: Columns, modality: str | None) -> Source:
    """Return the first that fits: labels by a pattern, named tables, class folders, tables, lists, one class folder."""
    kind = modality or commonest(tree)
    found = tables_in(tree)
    columns = _labels_as_trained(tree, found, columns)
    if columns.label and patterns.is_pattern(columns.label) and not _has_column(tree, found, columns.label):
        return LabelsInPaths(columns=columns, modality=kind, tree=tree, pattern=columns.label)
    layout = folders.find_layout(tree, kind)
    of_splits = any(shards.split_of_table(file) == "train" for file in found)
    if layout and _are_classes(tree, kind, layout) and not (columns.label and of_splits):
        return ClassFolders(columns=columns, modality=kind, tree=tree, layout=layout, tables=found)
    if found := found or (lists.tables(tree) if kind == "text" else []):
        return Tables(columns=columns, modality=modality, tree=tree, tables=found)
    if kind != "text" and (listed := lists.labelled(tree, kind)):
        return Lists(columns=columns, modality=kind, tree=tree, records=listed)
    if kind != "text" and layout and _is_one_class(tree, kind, layout):
        return ClassFolders(columns=columns, modality=kind, tree=tree, layout=layout, tables=[])
    why = folders.flat_error(tree, kind) if tree.media(kind) and kind != "text" else _text_error(tree, modality)
    return Unlabelled(columns=columns, modality=modality, why=why)


def _labels_as_trained(tree: Tree, found: list[FileEntry], columns: Columns) -> Columns:
    """Name the label column of the training data where a table of the folder has it: class folders may mean something else."""
    if not isinstance(columns, RunColumns) or columns.label or not columns.schema.label:
        return columns
    tables = (read_records(tree.path(file), named_columns(columns)) for file in found)
    there = any(columns.schema.has(records, columns.schema.label) for records in tables)
    return replace(columns, label=",".join(columns.schema.label)) if there else columns


def _has_column(tree: Tree, found: list[FileEntry], name: str) -> bool:
    return any(name in read_records(tree.path(file)).columns for file in found)


def _class_names(tree: Tree, modality: str, layout: Layout) -> Counter[str]:
    """Return class folder names with the number of files below each."""
    return Counter(
        file.parts[len(prefix)] for _, prefix in layout.splits for file in tree.media(modality, prefix) if len(file.parts) > len(prefix) + 1
    )


def _are_classes(tree: Tree, modality: str, layout: Layout) -> bool:
    """Return whether folders are classes: two at least, or splits; texts also need two files in each of two."""
    names = _class_names(tree, modality, layout)
    if modality == "text":
        return sum(count > 1 for count in names.values()) > 1
    if not layout.folds and layout.splits[0][0] is None:
        return len(names) > 1
    return bool(names) and not all(map(is_filler, names))


def _is_one_class(tree: Tree, modality: str, layout: Layout) -> bool:
    """Return whether there is one class folder, and the names of its files hold no classes of their own."""
    names = _class_names(tree, modality, layout)
    return len(names) == 1 and not any(map(split_of_folder, names)) and not folders.label_in_names(tree.media(modality))


def _text_error(tree: Tree, modality: str | None) -> DataError:
    text_files = tree.media("text")
    if modality == "text" and text_files and not any(len(file.parts) > 1 for file in text_files):
        return folders.flat_error(tree, "text")
    error = nothing_found(tree, modality)
    if not text_files:
        return error
    they = f"The {len(text_files)} .txt files make" if len(text_files) > 1 else "The one .txt file makes"
    return DataError(
        f"{error} {they} no classes: those need two texts at least in each of two folders. To train a language model on plain text, "
        "say task=text_generation."
    )
