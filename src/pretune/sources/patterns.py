"""Settings that are patterns over the ids of examples: label= and group=, each with one capture group."""

from __future__ import annotations

import re
from dataclasses import replace

from pretune.errors import SettingError
from pretune.sources.names import composed
from pretune.sources.split_names import splits_of_folders
from pretune.sources.table import Table
from pretune.sources.target_type import ONE_CLASS
from pretune.sources.tree import PathParts, Tree
from pretune.types import LedgerEntry, Row, Split

_EXAMPLES = {"group": r"group='(patient\d+)'", "label": r"label='([a-z]+)_\d+'"}


def is_pattern(value: str | None) -> bool:
    """Return whether a setting is a pattern rather than the name of a column."""
    return value is not None and "(" in value


def compiled(role: str, value: str) -> re.Pattern[str]:
    """Return a setting as a pattern with one capture group.

    Raises:
        SettingError: it is none.
    """
    try:
        pattern = re.compile(value)
    except re.error as error:
        raise SettingError(f"{role}={value} is no valid pattern: {error}.") from None
    if pattern.groups != 1:
        raise SettingError(
            f"{role}={value} names no column and has {pattern.groups} capture groups; a pattern needs one, as in {_EXAMPLES[role]}."
        )
    return pattern


def read_labels(tree: Tree, modality: str, label: str) -> Table:
    """Return one row per file whose path has a label by a pattern; folders give the splits.

    Args:
        tree: the folder.
        modality: of the files that are read.
        label: a pattern with one capture group over paths relative to the folder, with '/'.

    Raises:
        SettingError: the pattern is none, or matches no file.
    """
    pattern = compiled("label", label)
    files = tree.media(modality)
    splits = splits_of([file.parts[:-1] for file in files])
    table = Table(rows=[], modality=modality, target_type=ONE_CLASS, root=tree.root, layout="files with labels in their paths")
    table.ledger += tree.ledger(modality)
    for file, split in zip(files, splits, strict=True):
        match = pattern.search(file.id)
        if match and match[1]:
            table.rows.append(Row(id=file.id, path=tree.path(file), target=composed(match[1]), split=split))
        else:
            table.ledger.append(LedgerEntry(item=file.id, action="dropped", reason="no_label", detail=f"has no label by label={label}"))
            table.unlabelled.append(Row(id=file.id, path=tree.path(file), split=split))
    if not table.rows:
        shown = f"they look like {files[0].id!r}" if files else "there are none"
        raise SettingError(f"label={label} matches none of the paths; {shown}.")
    table.messages += tree.messages()
    return table


def splits_of(folders: list[PathParts]) -> list[Split | None]:
    """Return the split that the folders of each file stand for, outermost first; None for all where they are not train and another."""
    named = splits_of_folders({name for one in folders for name in one})
    found = [next((named[name] for name in one if name in named), None) for one in folders]
    present = {split for split in found if split}
    return found if "train" in present and len(present) > 1 else [None] * len(folders)


def take_groups(table: Table, group: str) -> None:
    """Take each row's group from its id by a pattern.

    Raises:
        SettingError: the pattern is none, or matches no id.
    """
    pattern = compiled("group", group)
    matches = [pattern.search(row.id) for row in table.rows]
    if not any(matches):
        raise SettingError(f"group={group} matches none of the ids; they look like {table.rows[0].id!r}.")
    table.rows = [replace(row, group=match[1]) if match else row for row, match in zip(table.rows, matches, strict=True)]
    table.columns["group"] = group
    alone = sum(match is None for match in matches)
    rest = f"; {alone} rows match nothing and stand alone" if alone else ""
    table.messages.append(f"group={group} makes {len({row.group for row in table.rows if row.group})} groups{rest}.")
