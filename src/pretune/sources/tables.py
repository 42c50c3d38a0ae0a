"""The tables of a folder: which of them are read together, which one is meant, and the splits of the files that they list."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from pretune.errors import DataError, SettingError
from pretune.formats.files import file_kinds
from pretune.sources import manifests, patterns, shards
from pretune.sources.columns import content_of
from pretune.sources.contents import commonest, named_columns
from pretune.sources.files_below import FilesBelow
from pretune.sources.outcome import outcome
from pretune.sources.readers.dispatch import read_records
from pretune.sources.table import Columns, Table
from pretune.sources.target_type import TargetType
from pretune.sources.tree import FileEntry, Tree
from pretune.types import Finding


def read_together(tree: Tree, found: list[FileEntry], columns: Columns, target: TargetType | None, modality: str | None) -> Table:
    """Read train and test manifests together, else the only manifest, else the only one that fits."""
    splits = shards.read_shards(tree, found, named_columns(columns))
    if splits is not None:
        table = build(splits, tree, columns, target, modality)
        left = [file.id for file in found if file not in shards.meant(found)]
        table.messages += tree.messages()
        table.messages += [f"not used, as their names say no split: {', '.join(left)}."] if left else []
        table.findings += shards.missing(found)
        return table
    each = (outcome(partial(_read_one, tree, file, columns, target, modality), DataError, SettingError) for file in found)
    usable = [table for table in each if isinstance(table, Table) and table.rows]
    if len(usable) != 1:
        names = ", ".join(file.id for file in found[:8])
        raise DataError(
            f"{tree.root} holds several manifests ({names}) and it is not clear which is meant. "
            f"Name one, for example {tree.path(found[0])}."
        )
    usable[0].messages += tree.messages()
    return usable[0]


def _read_one(tree: Tree, file: FileEntry, columns: Columns, target: TargetType | None, modality: str | None) -> Table:
    records = read_records(tree.path(file), named_columns(columns))
    return build([(None, records)], tree, columns, target, modality)


def build(splits: list[manifests.SplitRecords], tree: Tree, columns: Columns, target: TargetType | None, modality: str | None) -> Table:
    """Build the table of manifests inside a folder; files that the folder holds are what they list, where a column names such files."""
    rows_of = partial(manifests.build, splits, tree.root, lambda: tree, columns, target=target)
    kind = commonest(tree)
    if modality is not None or columns.text or kind not in file_kinds():
        return with_folders_splits(rows_of(modality=modality))
    lead = manifests.leading(splits)
    if content_of(lead, columns, kind, FilesBelow(root=tree.root, walk=lambda: tree).knows) == "files":
        return with_folders_splits(rows_of(modality=kind))
    table = rows_of(modality=None)
    table.messages.append(f"the {kind} files in the folder are not used: no column of {lead.name} names any (path= names the column).")
    return table


def with_folders_splits(table: Table) -> Table:
    """Take the splits of files that a table lists from their folders, train/ and test/, where the table itself has none."""
    folders_of = [tuple(row.id.split("/")[:-1]) if isinstance(row.path, Path) else () for row in table.rows]
    splits = patterns.splits_of(folders_of)
    if not any(splits):
        return table
    if not any(row.split for row in table.rows):
        table.rows = [replace(row, split=split) for row, split in zip(table.rows, splits, strict=True)]
        table.messages.append("the folders in which the files lie give the splits (train and others).")
        return table
    apart = [row.id for row, split in zip(table.rows, splits, strict=True) if split and row.split and split != row.split]
    if apart:
        message = f"{len(apart)} file(s) lie in the folder of another split than the table says: {', '.join(apart[:3])}. The table is used."
        table.findings.append(Finding(kind="split_disagreement", severity="warning", message=message, items=tuple(apart[:300])))
    return table
