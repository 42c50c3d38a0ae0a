"""From a path on disk to a table of typed rows: class folders, manifests, `datasets` folders, bare folders."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

from pretune.errors import DataError, MissingExtra, SettingError
from pretune.formats.encodings import damaged
from pretune.formats.files import ending, kinds
from pretune.sources import classes, folders, joins, manifests, patterns, shards, vocabulary
from pretune.sources.columns import choose_files
from pretune.sources.contents import check_modality, commonest, modality_inside, named_columns, nothing_found, tables_in
from pretune.sources.layouts import DataPlace, recognised
from pretune.sources.outcome import Refused, outcome
from pretune.sources.readers import arrow
from pretune.sources.readers.delimited import decode
from pretune.sources.readers.dispatch import read_records
from pretune.sources.readers.records import ARROW, Records, is_manifest
from pretune.sources.source import source_of
from pretune.sources.special import existing
from pretune.sources.table import Columns, RunColumns, Table
from pretune.sources.tables import with_folders_splits
from pretune.sources.target_type import TargetType
from pretune.sources.tree import FileEntry, Tree, modality_by_content, walk
from pretune.types import LedgerEntry, Row

_FOUND = Columns()


def read(
    path: Path,
    columns: Columns = _FOUND,
    *,
    target: TargetType | None = None,
    modality: str | None = None,
    learn: bool = True,
) -> Table:
    """Read labelled data.

    Args:
        path: a folder of class folders (with or without splits), a folder with manifests, a manifest, a `datasets` folder.
        columns: the columns that the person named; the others are found, and reported.
        target: the type of target that is wanted; None infers it.
        modality: image, audio or text; None infers it.
        learn: refuse data from which nothing can be learned (one class, a constant target); False for evaluation.

    Raises:
        DataError: the data as a whole cannot be used.
        SettingError: a named column or modality does not exist.
        MissingExtra: Parquet or Arrow files without pyarrow.
    """
    path = existing(path)
    check_modality(modality)
    table = source_of(path, columns, modality, target).read(target)
    _ignore_splits(table, columns)
    if columns.group not in (None, "none") and "group" not in table.columns:
        patterns.take_groups(table, columns.group)
    table.messages.insert(0, f"{path}: {table.layout}, {table.task} of {kinds()[table.modality].unit}s.")
    _settle_schema(table, path, columns)
    return classes.settle(table, path, learn=learn, merge=columns.merge_classes)


def labelled(path: Path, modality: str | None, columns: Columns = _FOUND, *, learn: bool = False) -> Table | None:
    """Return labelled data, with `learn` those from which something can be learned; None where there are no labels that can be read.

    Raises:
        SettingError: a named column does not exist.
    """
    found = outcome(functools.partial(read, path, columns, modality=modality, learn=learn), DataError)
    return found if isinstance(found, Table) else None


def read_items(path: Path, modality: str, columns: Columns = _FOUND) -> Table:
    """Read what is learned from without labels: labelled data with their splits, examples without a label among them, or bare ones.

    Raises:
        DataError: there is nothing of this modality.
        SettingError: a column is named where nothing has columns.
    """
    path = existing(path)
    table = outcome(lambda: source_of(path, columns, modality).read(None), DataError)
    if isinstance(table, Table):
        parted = any(row.split for row in table.rows)
        more = [row for row in table.unlabelled if row.split or not parted]  # of others nobody knows that they are not held out
        free = {row.id for row in more}
        table.rows = sorted([*table.rows, *more], key=lambda row: row.id)
        table.ledger = [entry for entry in table.ledger if entry.item not in free]
    else:  # none are needed here
        table = _read_bare(path, modality, columns)
    _ignore_splits(table, columns)
    if columns.group not in (None, "none") and "group" not in table.columns:
        patterns.take_groups(table, columns.group)
    unit = kinds()[modality].unit + "s" * (len(table.rows) != 1)
    unused = "; labels are not looked at" if table.task else ""
    table.messages.insert(0, f"{path}: {len(table.rows):,} {unit}, {table.layout}{unused}.")
    table.messages += classes.left_out(table.ledger)
    return table


def read_unlabelled(path: Path, modality: str, columns: Columns = _FOUND, *, target: TargetType | None = None) -> Table:
    """Read what is to be predicted: a file, a folder of any depth, a manifest whose labels are ignored.

    `Table.inputs` holds the id of every input in order; those without a row are in the ledger.

    Args:
        path: where.
        modality: image, audio or text.
        columns: the columns that the person named, or of a run those of its training data.
        target: the type of target that the run predicts: only its layouts are looked for.

    Raises:
        DataError: there is nothing of this modality.
    """
    path = existing(path)
    check_modality(modality)
    columns_read = replace(columns, label=None)
    own = recognised(DataPlace(path=path, columns=columns_read, modality=modality, target=target)) if target is not None else None
    table = (own.read_unlabelled() if own is not None else None) or _read_unlabelled(path, modality, columns_read)
    _settle_schema(table, path, columns)
    return table


def _read_unlabelled(path: Path, modality: str, columns: Columns) -> Table:
    if path.is_dir():
        return _unlabelled_folder(path, modality, columns)
    if modality_by_content(path) == modality and modality != "text":
        row = Row(id=path.name, path=path)
        return Table(rows=[row], modality=modality, target_type=None, root=path.parent, layout="one file", inputs=[row.id])
    if modality == "text" and modality_by_content(path) == "text":
        return _lines_of(path, columns)
    records = read_records(path, named_columns(columns))
    return _build_unlabelled(path, records, modality, columns)


def _build_unlabelled(path: Path, records: Records, modality: str, columns: Columns) -> Table:
    return manifests.build([(None, records)], path.parent, functools.partial(walk, path.parent), columns, modality=modality, labelled=False)


def _settle_schema(table: Table, path: Path, columns: Columns) -> None:
    """Note how many texts an example has; refuse another number than the run was trained with."""
    if table.modality == "text" and table.rows:
        table.schema = replace(table.schema, text_count=len(table.rows[0].text or ("",)))
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
    table = labelled(path, None, columns)
    return "text" if table is None else table.modality


def _lines_of(path: Path, columns: Columns) -> Table:
    """Read a .txt file to predict: a table where it has the columns that are read, else one text per line."""
    records = outcome(
        lambda: read_records(path, named_columns(columns)), DataError
    )  # a single line, or lines of no common form, is refused
    if isinstance(records, Records) and len(records.columns) > 1 and _is_table(records, columns):
        return _build_unlabelled(path, records, "text", columns)
    text, messages = decode(path, path.read_bytes())
    lines = {f"{path.name}:{n}": line.rstrip("\r") for n, line in enumerate(text.rstrip("\n").split("\n"), start=1)}
    table = Table(rows=[], modality="text", target_type=None, root=path.parent, layout="lines", inputs=list(lines))
    table.messages = [*messages, f"{path.name}: each line is one text."]
    for item, line in lines.items():
        if damaged(line):
            table.ledger.append(LedgerEntry(item=item, action="dropped", reason="bad_bytes", detail=f"{item} holds bytes that are no text"))
        else:
            table.rows.append(Row(id=item, text=(line,)))
    return table


def _is_table(records: Records, columns: Columns) -> bool:
    """Return whether a .txt file of several columns is a table rather than texts with commas in them."""
    trained = isinstance(columns, RunColumns) and columns.schema.has(records, columns.schema.text)
    named = not records.headerless and any(vocabulary.plain(name) in vocabulary.TEXT for name in records.columns)
    return bool(columns.text) or trained or named or records.delimiter == "\t"


def _unlabelled_folder(path: Path, modality: str, columns: Columns) -> Table:
    tree = walk(path)
    files = tree.media(modality)
    messages = tree.messages()
    if files and modality_inside(tree, columns, messages) == modality:
        raise DataError(
            f"{path} holds {len(files)} {kinds()[modality].noun} ({files[0].id} …) and tables with {kinds()[modality].noun} inside. "
            "Give the folder or the table that is meant."
        )
    if files:
        rows = [Row(id=file.id, path=tree.path(file)) for file in files]
        ledger = tree.ledger(modality)
        inputs = sorted([row.id for row in rows] + [entry.item for entry in ledger])
        return Table(
            rows=rows, modality=modality, target_type=None, root=path, layout="bare folder", ledger=ledger, messages=messages, inputs=inputs
        )
    found = tables_in(tree)
    splits = arrow.read_datasets_folder(path) if arrow.is_datasets_folder(path) else shards.read_shards(tree, found, named_columns(columns))
    if not splits:
        raise nothing_found(tree, modality)
    left = [file.id for file in found if file not in shards.meant(found)] if len(splits) < len(found) else []
    if left:
        raise DataError(
            f"{path} holds tables of splits and others whose names say no split ({', '.join(left[:5])}). Give the file that is meant."
        )
    table = manifests.build(splits, path, lambda: tree, columns, modality=modality, labelled=False)
    table.findings += shards.missing(found)
    return table


def _read_bare(path: Path, modality: str, columns: Columns) -> Table:
    """Read examples without labels: those that tables list, else all that there are; folders and lists still give their splits."""
    tree = walk(path) if path.is_dir() else None
    listed, unused = _listed(tree, modality, columns) if tree else (None, [])
    if listed is not None:
        return listed
    table = with_folders_splits(read_unlabelled(path, modality, columns))
    named = [f"{key}={value}" for key in ("label", "text", "path", "split") if (value := getattr(columns, key)) and value != "new"]
    if named and table.layout in ("bare folder", "one file"):
        raise SettingError(f"{', '.join(named)}: {path} has no manifest, so there are no columns to name. Leave it out.")
    table.messages += unused
    if tree and table.layout == "bare folder":
        joins.take_text_lists(table, tree)
        table.messages += folders.mention_others(tree, modality)
    return table


def _listed(tree: Tree, modality: str, columns: Columns) -> tuple[Table | None, list[str]]:
    """Return the files of a folder that its tables list, None where none do, and messages about tables that are not used."""
    found = tables_in(tree)
    if not found or not tree.media(modality):
        return None, []
    names = ", ".join(file.id for file in found[:5])
    table = outcome(lambda: _of_tables(tree, found, modality, columns), DataError, MissingExtra)
    if isinstance(table, Refused):
        return None, [f"{names} {'was' if len(found) == 1 else 'were'} not used: {table.why}"]
    return table, [] if table else [f"{names} were not used: it is not clear which of them lists the files."]


def _of_tables(tree: Tree, found: list[FileEntry], modality: str, columns: Columns) -> Table | None:
    """Return the files that some tables list; None where it is not clear which table is meant."""
    records = shards.read_shards(tree, found, named_columns(columns))
    if records is None:
        return None
    return with_folders_splits(manifests.build(records, tree.root, lambda: tree, columns, modality=modality, labelled=False))


# --- settings that any source obeys --------------------------------------------------------------


def _ignore_splits(table: Table, columns: Columns) -> None:
    if columns.split == "new" and any(row.split for row in table.rows):
        table.rows = [replace(row, split=None) for row in table.rows]
        table.messages.append("the splits in the data are ignored (split=new); new ones are made.")
