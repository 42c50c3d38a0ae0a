"""From a path on disk to a table of typed rows: class folders, manifests, `datasets` folders, bare folders."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import replace
from pathlib import Path

from pretune.errors import DataError, MissingExtra, SettingError
from pretune.modalities._encodings import damaged
from pretune.modalities._formats import ending, file_kinds, kinds
from pretune.sources import classes, folders, joins, lists, manifests, patterns, shards, vocabulary
from pretune.sources.columns import choose_files
from pretune.sources.contents import check_modality, commonest, existing, modality_inside, named_columns, nothing_found, tables_in
from pretune.sources.folders import Layout
from pretune.sources.parts import is_filler, part_of_folder
from pretune.sources.readers import arrow
from pretune.sources.readers.delimited import decode
from pretune.sources.readers.dispatch import read_records
from pretune.sources.readers.records import ARROW, Records, is_manifest
from pretune.sources.table import Columns, RunColumns, Table
from pretune.sources.targets import check_task
from pretune.sources.tree import File, Tree, modality_by_content, walk
from pretune.types import Finding, LedgerEntry, Row

_SHEETS = frozenset((".xlsx", ".xls", ".ods", ".numbers"))
_FOUND = Columns()


def read(
    path: Path,
    columns: Columns = _FOUND,
    *,
    task: str | None = None,
    modality: str | None = None,
    learn: bool = True,
) -> Table:
    """Read labelled data.

    Args:
        path: a folder of class folders (with or without parts), a folder with manifests, a manifest, a `datasets` folder.
        columns: the columns that the person named; the others are found, and said.
        task: classification, multilabel or regression; None infers it.
        modality: image, audio or text; None infers it.
        learn: refuse data from which nothing can be learned (one class, a constant target); False for evaluation.

    Raises:
        DataError: the data as a whole cannot be used.
        SettingError: a named column, task or modality does not exist.
        MissingExtra: Parquet or Arrow files without pyarrow.
    """
    path = existing(path)
    check_task(task)
    check_modality(modality)
    table = _read_labelled(path, columns, task, modality)
    _ignore_parts(table, columns)
    if columns.group not in (None, "none") and "group" not in table.columns:
        patterns.take_groups(table, columns.group)
    table.said.insert(0, f"{path}: {table.layout}, {table.task} of {kinds()[table.modality].unit}s.")
    _settle_schema(table, path, columns)
    return classes.settle(table, path, learn=learn, merge=columns.merge_classes)


def _read_labelled(path: Path, columns: Columns, task: str | None, modality: str | None) -> Table:
    return _read_folder(path, columns, task, modality) if path.is_dir() else _read_file(path, columns, task, modality)


def read_items(path: Path, modality: str, columns: Columns = _FOUND) -> Table:
    """Read what is learned from without labels: labelled data with their parts, items without a label among them, or bare ones.

    Raises:
        DataError: there is nothing of this modality.
        SettingError: a column is named where nothing has columns.
    """
    path = existing(path)
    try:
        table = _read_labelled(path, columns, None, modality)
    except DataError:
        table = _read_bare(path, modality, columns)
    else:
        parted = any(row.split for row in table.rows)
        more = [row for row in table.unlabelled if row.split or not parted]  # of others nobody knows that they are not held out
        free = {row.id for row in more}
        table.rows = sorted([*table.rows, *more], key=lambda row: row.id)
        table.ledger = [entry for entry in table.ledger if entry.item not in free]
    _ignore_parts(table, columns)
    if columns.group not in (None, "none") and "group" not in table.columns:
        patterns.take_groups(table, columns.group)
    unit = kinds()[modality].unit + "s" * (len(table.rows) != 1)
    unused = "; labels are not looked at" if table.task else ""
    table.said.insert(0, f"{path}: {len(table.rows):,} {unit}, {table.layout}{unused}.")
    table.said += classes.left_out(table.ledger)
    return table


def read_unlabelled(path: Path, modality: str, columns: Columns = _FOUND) -> Table:
    """Read what is to be predicted: a file, a folder of any depth, a manifest whose labels are ignored.

    `Table.inputs` holds the id of every input in order; those without a row are in the ledger.

    Raises:
        DataError: there is nothing of this modality.
    """
    path = existing(path)
    check_modality(modality)
    table = _read_unlabelled(path, modality, replace(columns, label=None))
    _settle_schema(table, path, columns)
    return table


def _read_unlabelled(path: Path, modality: str, columns: Columns) -> Table:
    if path.is_dir():
        return _unlabelled_folder(path, modality, columns)
    if modality_by_content(path) == modality and modality != "text":
        row = Row(id=path.name, path=path)
        return Table(rows=[row], modality=modality, task=None, root=path.parent, layout="one file", inputs=[row.id])
    if modality == "text" and modality_by_content(path) == "text":
        return _lines_of(path, columns)
    records = read_records(path, named_columns(columns))
    return _build_unlabelled(path, records, modality, columns)


def _build_unlabelled(path: Path, records: Records, modality: str, columns: Columns) -> Table:
    return manifests.build([(None, records)], path.parent, functools.partial(walk, path.parent), columns, modality=modality, labelled=False)


def _settle_schema(table: Table, path: Path, columns: Columns) -> None:
    """Note how many texts an example has; refuse another number than the run was trained with."""
    if table.modality == "text" and table.rows:
        table.schema = replace(table.schema, texts=len(table.rows[0].text or ("",)))
    table.schema = replace(table.schema, missing=columns.missing)
    if isinstance(columns, RunColumns) and table.modality == "text":
        columns.schema.check(table.rows, str(path))


def modality_at(path: Path, columns: Columns = _FOUND) -> str:
    """Return what the data under a path are, labelled or not: image, audio or text.

    Raises:
        DataError: there is no such path, or a folder without any file.
    """
    path = existing(path)
    tree = walk(path) if path.is_dir() else None
    if tree is not None:
        if not tree.files:
            raise nothing_found(tree, None)
        return modality_inside(tree, columns, []) or commonest(tree)
    if ending(path.name) in ARROW and (inside := choose_files(found := arrow.files_inside(path), columns, None)):
        return found[inside[0]]
    if not is_manifest(path.name) or ending(path.name) in (".jsonl", ".parquet"):
        return modality_by_content(path) or "text"
    try:
        return read(path, columns, learn=False).modality
    except DataError:
        return "text"


# --- one file ------------------------------------------------------------------------------------


def _read_file(path: Path, columns: Columns, task: str | None, modality: str | None) -> Table:
    kind = ending(path.name)
    if kind in _SHEETS:
        raise DataError(f"{path} is a spreadsheet. Save it as CSV (UTF-8) and give that.")
    if modality_by_content(path) in file_kinds():
        raise DataError(f"{path} is one file. Give a folder with one folder per class, or a manifest (CSV) that names files and labels.")
    records = lists.read_list(path) or read_records(path, named_columns(columns))
    if len(records.columns) == 1 and not columns.label:
        raise DataError(
            f"{path} has one column ({records.columns[0]!r}), so it holds no labels. A manifest needs a content and a label column. "
            "If a sign that was not recognised separates its columns, name it in a first line: sep=X."
        )
    table = manifests.build([(None, records)], path.parent, functools.partial(walk, path.parent), columns, task=task, modality=modality)
    return _with_folders_splits(table)


def _lines_of(path: Path, columns: Columns) -> Table:
    """Read a .txt file to predict: a table where it has the columns that are read, else one text per line."""
    try:
        records = read_records(path, named_columns(columns))
    except DataError:
        records = None  # a single line, or lines of no common form; what is no text is refused below
    if records is not None and len(records.columns) > 1 and _is_table(records, columns):
        return _build_unlabelled(path, records, "text", columns)
    text, said = decode(path, path.read_bytes())
    lines = {f"{path.name}:{n}": line.rstrip("\r") for n, line in enumerate(text.rstrip("\n").split("\n"), start=1)}
    table = Table(rows=[], modality="text", task=None, root=path.parent, layout="lines", inputs=list(lines))
    table.said = [*said, f"{path.name}: each line is one text."]
    for item, line in lines.items():
        if damaged(line):
            table.ledger.append(LedgerEntry(item=item, action="dropped", reason="bad_bytes", detail=f"{item} holds bytes that are no text"))
        else:
            table.rows.append(Row(id=item, text=(line,)))
    return table


def _is_table(records: Records, columns: Columns) -> bool:
    """Tell whether a .txt file of several columns is a table rather than texts with commas in them."""
    trained = isinstance(columns, RunColumns) and columns.schema.has(records, columns.schema.text)
    named = not records.headerless and any(vocabulary.plain(name) in vocabulary.TEXT for name in records.columns)
    return bool(columns.text) or trained or named or records.delimiter == "\t"


# --- folders -------------------------------------------------------------------------------------


def _read_folder(path: Path, columns: Columns, task: str | None, modality: str | None) -> Table:
    if arrow.is_datasets_folder(path):
        parts = arrow.read_datasets_folder(path)
        holds_files = any(choose_files(records.files, columns, modality) or records.linked for _, records in parts)
        return _build(parts, walk(path), columns, task, modality if holds_files else "text")
    tree = walk(path)
    kind = modality or commonest(tree)
    found = tables_in(tree)
    columns = _labels_as_trained(tree, found, columns)
    if columns.label and patterns.is_pattern(columns.label) and not _has_column(tree, found, columns.label):
        return classes.retarget(patterns.read_labels(tree, kind, columns.label), task)
    layout = folders.find_layout(tree, kind)
    names = _class_names(tree, kind, layout)
    if columns.label and any(shards.part_of_table(file) == "train" for file in found):
        return _read_manifests(tree, found, columns, task, modality)
    if layout and _are_classes(tree, kind, layout, names):
        table = folders.read_folders(tree, kind, layout)
        joins.join(table, tree, found, columns, task)
        return table if columns.label else classes.retarget(table, task)
    if found := found or (lists.tables(tree) if kind == "text" else []):
        return _read_manifests(tree, found, columns, task, modality)
    if kind != "text" and (listed := lists.labelled(tree, kind)):
        return _build(listed, tree, columns, task, kind)
    one_class = layout is not None and len(names) == 1 and not any(map(part_of_folder, names))
    if layout and one_class and kind != "text" and not folders.label_in_names(tree.media(kind)):
        return folders.read_folders(tree, kind, layout)
    if tree.media(kind) and kind != "text":
        raise folders.flat_error(tree, kind)
    raise _text_error(tree, modality)


def _labels_as_trained(tree: Tree, found: list[File], columns: Columns) -> Columns:
    """Name the label column of the training data where a table of the folder has it: class folders may mean something else."""
    if not isinstance(columns, RunColumns) or columns.label or not columns.schema.label:
        return columns
    tables = (read_records(tree.path(file), named_columns(columns)) for file in found)
    there = any(columns.schema.has(records, columns.schema.label) for records in tables)
    return replace(columns, label=",".join(columns.schema.label)) if there else columns


def _has_column(tree: Tree, found: list[File], name: str) -> bool:
    return any(name in read_records(tree.path(file)).columns for file in found)


def _class_names(tree: Tree, modality: str, layout: Layout | None) -> Counter[str]:
    """Return class folder names with the number of items below each."""
    if layout is None:
        return Counter()
    return Counter(
        file.parts[len(prefix)] for _, prefix in layout.parts for file in tree.media(modality, prefix) if len(file.parts) > len(prefix) + 1
    )


def _are_classes(tree: Tree, modality: str, layout: Layout, names: Counter[str]) -> bool:
    """Tell whether folders are classes: two at least, or parts; texts also need two files in each of two."""
    if modality == "text":
        return sum(count > 1 for count in names.values()) > 1
    if not layout.folds and layout.parts[0][0] is None:
        return len(names) > 1
    return bool(names) and not all(map(is_filler, names))


def _text_error(tree: Tree, modality: str | None) -> DataError:
    texts = tree.media("text")
    if modality == "text" and texts and not any(len(file.parts) > 1 for file in texts):
        return folders.flat_error(tree, "text")
    error = nothing_found(tree, modality)
    few = f" The {len(texts)} .txt files make no classes: those need two texts at least in each of two folders." if texts else ""
    return DataError(f"{error}{few}")


def _read_manifests(tree: Tree, found: list[File], columns: Columns, task: str | None, modality: str | None) -> Table:
    """Read train and test manifests together, else the only manifest, else the only one that fits."""
    parts = shards.read(tree, found, named_columns(columns))
    if parts is not None:
        table = _build(parts, tree, columns, task, modality)
        left = [file.id for file in found if file not in shards.meant(found)]
        table.said += tree.said()
        table.said += [f"not used, as their names say no split: {', '.join(left)}."] if left else []
        table.findings += shards.missing(found)
        return table
    usable = [table for file in found for table in [_try(tree, file, columns, task, modality)] if table]
    if len(usable) != 1:
        names = ", ".join(file.id for file in found[:8])
        raise DataError(
            f"{tree.root} holds several manifests ({names}) and it is not clear which is meant. "
            f"Name one, for example {tree.path(found[0])}."
        )
    usable[0].said += tree.said()
    return usable[0]


def _try(tree: Tree, file: File, columns: Columns, task: str | None, modality: str | None) -> Table | None:
    """Return the table of one manifest out of several, None where it is none."""
    try:
        table = _build([(None, read_records(tree.path(file), named_columns(columns)))], tree, columns, task, modality)
    except (DataError, SettingError):
        return None
    return table if table.rows else None


def _build(parts: list[manifests.Part], tree: Tree, columns: Columns, task: str | None, modality: str | None) -> Table:
    """Build the table of manifests inside a folder; files that the folder holds are what they list."""
    lists_files = commonest(tree) if modality is None and not columns.text else modality
    build = functools.partial(manifests.build, parts, tree.root, lambda: tree, columns, task=task)
    if modality is None and lists_files in file_kinds():
        try:
            return _with_folders_splits(build(modality=lists_files))
        except DataError as error:
            try:
                table = build(modality=None)
            except DataError:
                raise error from None
            table.said.append(f"the {lists_files} files in the folder are not used ({error})")
            return table
    return _with_folders_splits(build(modality=modality))


def _with_folders_splits(table: Table) -> Table:
    """Take the splits of files that a table lists from their folders, train/ and test/, where the table itself has none."""
    folders_of = [tuple(row.id.split("/")[:-1]) if isinstance(row.path, Path) else () for row in table.rows]
    splits = patterns.splits_of(folders_of)
    if not any(splits):
        return table
    if not any(row.split for row in table.rows):
        table.rows = [replace(row, split=split) for row, split in zip(table.rows, splits, strict=True)]
        table.said.append("the folders in which the files lie give the splits (train and others).")
        return table
    apart = [row.id for row, split in zip(table.rows, splits, strict=True) if split and row.split and split != row.split]
    if apart:
        message = f"{len(apart)} file(s) lie in the folder of another split than the table says: {', '.join(apart[:3])}. The table is used."
        table.findings.append(Finding(kind="split_disagreement", severity="warning", message=message, items=tuple(apart[:300])))
    return table


def _unlabelled_folder(path: Path, modality: str, columns: Columns) -> Table:
    tree = walk(path)
    files = tree.media(modality)
    said = tree.said()
    if files and modality_inside(tree, columns, said) == modality:
        raise DataError(
            f"{path} holds {len(files)} {kinds()[modality].noun} ({files[0].id} …) and tables with {kinds()[modality].noun} inside. "
            "Give the folder or the table that is meant."
        )
    if files:
        rows = [Row(id=file.id, path=tree.path(file)) for file in files]
        ledger = tree.ledger(modality)
        inputs = sorted([row.id for row in rows] + [entry.item for entry in ledger])
        return Table(rows=rows, modality=modality, task=None, root=path, layout="bare folder", ledger=ledger, said=said, inputs=inputs)
    found = tables_in(tree)
    parts = arrow.read_datasets_folder(path) if arrow.is_datasets_folder(path) else shards.read(tree, found, named_columns(columns))
    if not parts:
        raise nothing_found(tree, modality)
    left = [file.id for file in found if file not in shards.meant(found)] if len(parts) < len(found) else []
    if left:
        raise DataError(
            f"{path} holds tables of splits and others whose names say no split ({', '.join(left[:5])}). Give the file that is meant."
        )
    table = manifests.build(parts, path, lambda: tree, columns, modality=modality, labelled=False)
    table.findings += shards.missing(found)
    return table


def _read_bare(path: Path, modality: str, columns: Columns) -> Table:
    """Read items that nothing labels: those that a manifest lists, else all that there are."""
    tree = walk(path) if path.is_dir() else None
    found = tables_in(tree) if tree else []
    unused = []
    if tree and len(found) == 1 and tree.media(modality):
        try:
            records = read_records(tree.path(found[0]), named_columns(columns))
            return manifests.build([(None, records)], path, lambda: tree, columns, modality=modality, labelled=False)
        except (DataError, MissingExtra) as error:
            unused = [f"{found[0].id} was not used: {error}"]
    table = read_unlabelled(path, modality, columns)
    named = [f"{key}={value}" for key in ("label", "text", "path", "split") if (value := getattr(columns, key)) and value != "new"]
    if named and table.layout in ("bare folder", "one file"):
        raise SettingError(f"{', '.join(named)}: {path} has no manifest, so there are no columns to name. Leave it out.")
    table.said += unused
    if tree and table.layout == "bare folder":
        table.said += folders.mention_others(tree, modality)
    return table


# --- settings that any source obeys --------------------------------------------------------------


def _ignore_parts(table: Table, columns: Columns) -> None:
    if columns.split == "new" and any(row.split for row in table.rows):
        table.rows = [replace(row, split=None) for row in table.rows]
        table.said.append("the splits in the data are ignored (split=new); new ones are made.")
