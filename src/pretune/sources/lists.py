"""Plain text files that list other files, one a line (with labels after a space, or the files of one split), or that are tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path

from pretune.errors import BadItem, DataError
from pretune.formats.files import ending, modality_of
from pretune.sources.outcome import Refused, outcome
from pretune.sources.readers import spaced
from pretune.sources.readers.delimited import decode
from pretune.sources.readers.dispatch import read_records
from pretune.sources.readers.records import Records, read_bytes
from pretune.sources.split_names import split_of_file
from pretune.sources.tree import FileEntry, Tree
from pretune.types import Split

_ENDINGS = frozenset((".txt", ".lst", ".list", ".text", ""))
_MOST_BYTES = 64 << 20
_FEWEST_ROWS = 10
"""Lines from which a text file may be a table by itself."""
_SURE = frozenset(("\t", ";", "|"))
"""Delimiters that no running text has equally often in every line."""
_MOST_LISTS = 20
"""Text files that may be lists; more of them are one for each example."""


def read_list(path: Path) -> Records | None:
    """Return a text file whose lines are a file name and its label, separated by spaces, as a table; None for any other file.

    Several values after the name become several columns.
    """
    records = spaced.parse(path, lines_of(path), [])
    return records if records is not None and records.values and records.columns[0] != "label" else None


def lines_of(path: Path) -> dict[int, str]:
    """Return the lines of a text file that are not blank by their number, from 1 on; none where it is no such file."""
    if ending(path.name) not in _ENDINGS or path.stat().st_size > _MOST_BYTES:
        return {}
    decoded = outcome(lambda: decode(path, read_bytes(path)), DataError, BadItem)
    lines = [] if isinstance(decoded, Refused) else decoded[0].splitlines()
    return {number: line.strip() for number, line in enumerate(lines, start=1) if line.strip()}


def labelled(tree: Tree, modality: str) -> list[tuple[Split | None, Records]]:
    """Return the lists in a folder that give files of a modality their labels, with the split that the name of each stands for.

    Raises:
        DataError: there are several, and it is not clear which is meant.
    """
    found: list[tuple[Split | None, Records]] = []
    for file in _candidates(tree):
        records = read_list(tree.path(file))
        if records and modality_of(str(records.values[0][0])) == modality:
            found.append((split_of_file(Path(file.parts[-1]).stem), records))
    if len(found) > 1 and "train" in [split for split, _ in found]:
        found = [(split, records) for split, records in found if split]
    if len(found) > 1 and len({split for split, _ in found}) < len(found):
        names = ", ".join(str(records.path.relative_to(tree.root)) for _, records in found[:5])
        raise DataError(
            f"{tree.root} holds several lists of files ({names}) and it is not clear which is meant. Name one: {found[0][1].path}."
        )
    return found if len(found) > 1 else [(None, records) for _, records in found]


def tables(tree: Tree) -> list[FileEntry]:
    """Return the text files in the root of a folder that are tables of texts and labels: train.txt and test.txt with `a text;joy`."""
    near = [file for file in tree.media("text") if len(file.parts) == 1]
    return [file for file in near if _is_table(tree.path(file))] if len(near) <= _MOST_LISTS else []


def _is_table(path: Path) -> bool:
    """Return whether nearly all lines of a text file have the same columns, by a sign that running text does not hold so evenly."""
    if path.stat().st_size > _MOST_BYTES:
        return False
    records = outcome(lambda: read_records(path), DataError, BadItem)
    if isinstance(records, Refused):
        return False
    even = len(records.columns) > 1 and len(records.values) >= max(_FEWEST_ROWS, 9 * len(records.ledger))
    return even and (records.delimiter in _SURE or records.columns[0] == "label")


def of_splits(tree: Tree, examples: Collection[str] = ()) -> list[tuple[FileEntry, Split, dict[int, str]]]:
    """Return the text files whose names stand for a split, with their lines: testing_list.txt, meta/train.txt.

    Args:
        tree: the folder.
        examples: ids of files that are examples themselves.
    """
    named = [(file, split) for file in _candidates(tree) if file.id not in examples and (split := split_of_file(Path(file.parts[-1]).stem))]
    if len(named) > _MOST_LISTS:
        return []
    return [(file, split, lines) for file, split in named if (lines := lines_of(tree.path(file)))]


def _candidates(tree: Tree) -> list[FileEntry]:
    """Return the text files in the root, and in folders right below it that hold few of them."""
    near = [file for file in tree.files if len(file.parts) <= 2 and ending(file.parts[-1]) in _ENDINGS - {""}]
    often = Counter(file.parts[:-1] for file in near)
    return [file for file in near if often[file.parts[:-1]] <= _MOST_LISTS]
