"""Tables that were cut into several files: which belong together, which part each is of, which are missing."""

from __future__ import annotations

import re
from collections import defaultdict
from itertools import islice
from pathlib import PurePath

from pretune.errors import DataError
from pretune.formats.files import ending
from pretune.sources.readers import arrow
from pretune.sources.readers.dispatch import read_records
from pretune.sources.readers.records import ARROW, Records
from pretune.sources.split_names import split_of, split_of_file, split_of_folder
from pretune.sources.tree import FileEntry, Tree
from pretune.types import Finding, Split

_OF = re.compile(r"(.*?)(\d+)(-of-)(\d+)(\.\w+)")


def is_arrow(file: FileEntry) -> bool:
    """Return whether a file is a Parquet or Arrow table."""
    return ending(file.parts[-1]) in ARROW


def split_of_table(file: FileEntry) -> Split | None:
    """Return the part that a manifest's name stands for, else its folder's: 'test/0000.parquet', 'train/metadata.csv'."""
    named = split_of_file(PurePath(file.parts[-1]).stem)
    return split_of_folder(file.parts[-2]) if named is None and len(file.parts) > 1 else named


def are_one(files: list[FileEntry]) -> bool:
    """Return whether tables are pieces of one: called alike but for numbers and the words for splits."""
    return all(map(is_arrow, files)) and len({_pattern(file.parts[-1]) for file in files}) == 1


def meant(files: list[FileEntry]) -> list[FileEntry]:
    """Return those manifests of a folder that are read together: where some are called train, only those that say their split."""
    splits = [split_of_table(file) for file in files]
    return [file for file, split in zip(files, splits, strict=True) if split] if "train" in splits else files


def read_shards(tree: Tree, files: list[FileEntry], wanted: tuple[str, ...]) -> list[tuple[Split | None, Records]] | None:
    """Read the manifests of a folder that belong together: train and others, pieces of one table, or the only one.

    Args:
        tree: the folder.
        files: its manifests.
        wanted: column names that the person gave.

    Returns:
        Each with its split, None where its name says none or all say the same; None where it is not clear which file is meant.
    """
    chosen = meant(files)
    splits = [split_of_table(file) for file in chosen]
    if not files or ("train" not in splits and len(files) > 1 and not are_one(files)):
        return None
    if "train" not in splits and len(set(splits)) == 1:
        splits = [None] * len(splits)
    if len(chosen) == 1 or not all(map(is_arrow, chosen)):
        read_ones = [read_records(tree.path(file), wanted) for file in chosen]
        _distinguish(read_ones, chosen)
        return list(zip(splits, read_ones, strict=True))
    pieces = _pieces(tree, chosen)
    return [(split, records) for split, records in zip(splits, pieces, strict=True) if records.values]


def _pieces(tree: Tree, files: list[FileEntry]) -> list[Records]:
    """Read Arrow tables that belong together, of which some may have no rows."""
    pieces = [arrow.read_arrow(tree.path(file)) for file in files]
    _distinguish(pieces, files)
    filled = [records for records in pieces if records.values]
    if not filled:
        raise DataError(f"none of the {len(pieces)} tables under {tree.root} ({pieces[0].name} …) has rows.")
    filled[0].messages += [f"{records.name} has no rows." for records in pieces if not records.values]
    return pieces


def _distinguish(tables: list[Records], files: list[FileEntry]) -> None:
    """Call tables of one file name by their folders as well."""
    if len({file.parts[-1] for file in files}) < len(files):
        for records, file in zip(tables, files, strict=True):
            records.called = file.id


def missing(files: list[FileEntry]) -> list[Finding]:
    """Return a warning where names count pieces ('train-00000-of-00002') that are not all there."""
    there: dict[tuple[str, ...], set[int]] = defaultdict(set)
    for file in files:
        if match := _OF.fullmatch(file.id):
            start, number, of, total, end = match.groups()
            there[start, of, total, end, str(len(number))].add(int(number))
    lost, count = [], 0
    for (start, of, total, end, width), numbers in there.items():
        first = int(0 not in numbers and int(total) in numbers)
        absent = (number for number in range(first, first + int(total)) if number not in numbers)
        lost += [f"{start}{number:0{int(width)}d}{of}{total}{end}" for number in islice(absent, 100)]
        count += max(0, int(total) - len(numbers))
    if not lost:
        return []
    shown = ", ".join(lost[:5]) + (" …" if count > 5 else "")
    message = f"{count} piece(s) of the data that the file names count are not there: {shown}. What is there was used."
    return [Finding(kind="missing_shards", severity="warning", message=message, items=tuple(lost))]


def _pattern(name: str) -> tuple[str, ...]:
    tokens = re.split(r"[\W_]+", name.casefold())
    return tuple("0" if token.isdecimal() else token for token in tokens if split_of(token) is None)
