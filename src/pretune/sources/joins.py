"""Class folders beside a manifest: folders give the labels, the manifest adds columns by path."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from pretune.errors import DataError, MissingExtra, SettingError, did_you_mean
from pretune.formats.files import modality_of
from pretune.printable import shell_word
from pretune.sources import columns as finder
from pretune.sources import lists as lists_of_files
from pretune.sources import targets as target_parser
from pretune.sources.column import as_text
from pretune.sources.files_below import FilesBelow
from pretune.sources.outcome import Refused, outcome
from pretune.sources.paths import Listed, Locator
from pretune.sources.readers.dispatch import read_records
from pretune.sources.readers.records import Records
from pretune.sources.reading import Reading, reading_of
from pretune.sources.roles import Roles
from pretune.sources.split_names import split_of, split_of_file
from pretune.sources.table import Columns, Table
from pretune.sources.target_type import TargetType
from pretune.sources.tree import FileEntry, Tree
from pretune.types import Finding, LedgerEntry, Row, Split


def join(table: Table, tree: Tree, manifests: list[FileEntry], columns: Columns, target: TargetType | None) -> None:
    """Add part and group (and, where label= names a column, the target) of a manifest to rows of class folders.

    Raises:
        SettingError: label=, group=, split= or path= name a column that no manifest has.
    """
    found = {file: pair for file in manifests if (pair := _matching(table, tree, file, columns))}
    if not any(split_of_file(Path(file.parts[-1]).stem) for file in found):
        take_text_lists(table, tree)
    if not found:
        _refuse_names(table, columns, [])
        return
    lists = [(split, records.name, set(at)) for file, (records, at) in found.items() if (split := split_of_file(Path(file.parts[-1]).stem))]
    if (
        len({split for split, _, _ in lists}) > 1
        and any(split == "train" for split, _, _ in lists)
        and not any(row.split for row in table.rows)
    ):
        _take_lists(table, lists)
    wanted = [name for name in (columns.label, columns.split, columns.group) if name]
    records, at = max(found.values(), key=lambda pair: sum(name in pair[0].columns for name in wanted))
    _refuse_names(table, columns, records.columns)
    roles = finder.find(records, columns, modality=table.modality)
    table.columns = {role: name for role, name in roles.used().items() if role in ("path", "split", "group") or columns.label}
    table.schema = replace(roles.schema(records), label=roles.label if columns.label else ())
    table.messages += [*records.messages, *roles.messages]
    _apply(table, records, roles, at, columns, target)


def _matching(table: Table, tree: Tree, file: FileEntry, columns: Columns) -> tuple[Records, dict[str, int]] | None:
    """Return a manifest and row id -> record, where most of its paths are rows of the table."""
    found = outcome(lambda: _read(tree.path(file), columns, table.modality), DataError, MissingExtra)
    if isinstance(found, Refused):
        table.messages.append(f"{file.id} was not used: {found.why}")
        return None
    records, roles = found
    if roles.path is None:
        table.messages.append(f"{file.id} was not used: it names no files.")
        return None
    if roles.path in records.files:
        table.messages.append(
            f"{file.id} was not used: it holds files itself ({roles.path!r}), and the class folders were taken. Name it to take it."
        )
        return None
    values = [as_text(value) for value in records.column(roles.path)]
    at = _located(table, tree, file, values, split_of_file(Path(file.parts[-1]).stem))
    if len(at) < 0.5 * min(len(table.rows), len(values)):
        cure = f" label={shell_word(roles.label[0])} reads the tables and not the folders." if len(roles.label) == 1 else ""
        table.messages.append(f"{file.id} was not used: only {len(at)} of its {len(values)} rows name a file in the class folders.{cure}")
        return None
    return records, at


def _read(path: Path, columns: Columns, modality: str) -> tuple[Records, Roles]:
    """Return a manifest, and what its columns mean."""
    records = read_records(path)
    named = Columns(path=columns.path if columns.path in records.columns else None)
    return records, finder.find(records, named, modality=modality)


def take_text_lists(table: Table, tree: Tree) -> None:
    """Take the splits from text files that list the files of each: testing_list.txt; where none lists train, the others are it."""
    found = []
    for file, split, lines in lists_of_files.of_splits(tree, {row.id for row in table.rows}):
        values = [_first_name(line) for line in lines.values()]
        items = _located(table, tree, file, values, None)
        if len(items) >= 0.5 * len(values):
            found.append((split, file.id, set(items)))
    splits = [split for split, _, _ in found]
    if not found or splits == ["train"]:
        return
    names = ", ".join(name for _, name, _ in found)
    if any(row.split for row in table.rows):
        table.messages.append(f"the folders give the splits; {names} were not used.")
    elif len(set(splits)) < len(splits):
        table.messages.append(
            f"{names} list several choices of the same split and were not used; leave only one of each for them to be used."
        )
    else:
        _take_lists(table, found)


def _first_name(line: str) -> str:
    """Return the file that a line of a list names, without a label after it."""
    match = re.fullmatch(r"(.*\.[A-Za-z0-9]{2,5})[ \t,;]+\S+", line) if len(line) < 4096 else None  # the square of its length
    return match[1] if match and modality_of(match[1]) else line


def _located(table: Table, tree: Tree, file: FileEntry, values: list[str], split: Split | None) -> dict[str, int]:
    """Return row id -> place in the list, for those values that name a row of the table."""
    locator = Locator(files=FilesBelow(root=tree.root, walk=lambda: tree))
    start = "".join(f"{folder}/" for folder in file.parts[:-1])
    locator.settle([Listed(values=values, name=file.id, start=start, split=split)])
    ids = {row.id for row in table.rows}
    return {item: index for index, value in enumerate(values) if value and (item := locator.find(value).id) in ids}


def _take_lists(table: Table, lists: list[tuple[Split, str, set[str]]]) -> None:
    """Take the splits from lists of files; a file in several belongs to train first, one in none to train where no list is train's."""
    splits: dict[str, Split] = {}
    several = set()
    for split, _, items in sorted(lists, key=lambda entry: ("train", "val", "test").index(entry[0])):
        several |= {item for item in items if splits.get(item, split) != split}
        splits = {**dict.fromkeys(items, split), **splits}
    rest: Split | None = None if any(split == "train" for split, _, _ in lists) else "train"
    for row in table.rows:
        if row.id not in splits and rest is None:
            table.ledger.append(
                LedgerEntry(item=row.id, action="dropped", reason="not_in_manifest", detail="is in none of the lists of splits")
            )
    table.rows = [replace(row, split=splits.get(row.id, rest)) for row in table.rows if row.id in splits or rest]
    others = "" if rest is None else "; all other files are train"
    labels = "; folders give the labels" if table.task else ""
    table.messages.append(f"{', '.join(name for _, name, _ in lists)} list the files of each split{others}{labels}.")
    if several:
        shown = ", ".join(sorted(several)[:3])
        message = f"{len(several)} file(s) are listed in several splits and are used in the first of train, val, test: {shown}."
        table.findings.append(Finding(kind="leak", severity="warning", message=message, items=tuple(sorted(several)[:300])))


def _refuse_names(table: Table, columns: Columns, known: list[str]) -> None:
    folded = {name.casefold() for name in known}
    for role in ("label", "split", "group", "path"):
        name = getattr(columns, role)
        is_pattern = role == "group" and name is not None and "(" in name
        if (
            name is None
            or is_pattern
            or (role, name) in (("split", "new"), ("group", "none"))
            or all(word.strip().casefold() in folded for word in name.split(","))
        ):
            continue
        if known:
            raise SettingError(f"{role}={name}: the manifest in {table.root} has no column {name!r}. {did_you_mean(name, known)}")
        raise SettingError(f"{role}={name} names a column, but {table.root} holds class folders and no manifest that names their files.")


def _apply(table: Table, records: Records, roles: Roles, at: dict[str, int], columns: Columns, target: TargetType | None) -> None:
    """Replace split, group and target of the rows, and say what came from where."""
    added = [
        f"{role} ({name})" for role, name in (("group", roles.group), ("label", ",".join(roles.label) if columns.label else None)) if name
    ]
    if roles.split and not any(row.split for row in table.rows):
        added.append(f"split ({roles.split})")
        table.rows = _with_splits(table, records, roles.split, at)
    elif roles.split:
        _compare_splits(table, records, roles.split, at)
    if roles.group:
        groups = records.column(roles.group)
        table.rows = [replace(row, group=as_text(groups[at[row.id]]) or None) if row.id in at else row for row in table.rows]
    if columns.label:
        _relabel(table, records, roles, at, target, reading_of(columns))
    else:
        _compare_labels(table, records, roles, at)
    what = f" and adds {', '.join(added)} by path" if added else ""
    labels = "" if columns.label else "folders give the labels; "
    table.messages.append(f"{labels}{records.name} names {len(at)} of {len(table.rows)} files{what}.")


def _compare_splits(table: Table, records: Records, column: str, at: dict[str, int]) -> None:
    splits = records.column(column)
    differing = sum(row.id in at and split_of(splits[at[row.id]]) not in (None, row.split) for row in table.rows)
    if differing:
        table.messages.append(
            f"the folders give the splits; {column!r} of {records.name} puts {differing} file(s) elsewhere and is not used."
        )
    del table.columns["split"]


def _with_splits(table: Table, records: Records, column: str, at: dict[str, int]) -> list[Row]:
    splits = records.column(column)
    out = [replace(row, split=split_of(splits[at[row.id]])) if row.id in at else row for row in table.rows]
    unknown = sum(row.split is None for row in out)
    if unknown and unknown < len(out):
        table.messages.append(f"{unknown} file(s) without a split in {records.name} are used as train.")
        out = [replace(row, split=row.split or "train") for row in out]
    return out


def _relabel(table: Table, records: Records, roles: Roles, at: dict[str, int], target: TargetType | None, reading: Reading) -> None:
    """Take the targets from the manifest's column instead of the folders."""
    labels = {name: records.column(name) for name in roles.label}
    if len(labels) > 1:
        parsed = target_parser.parse_flags(labels, target=target)
    else:
        names = records.names.get(roles.label[0])
        values = [target_parser.named(value, names) for value in labels[roles.label[0]]] if names else labels[roles.label[0]]
        parsed = target_parser.parse(values, roles.label[0], target=target, names=names, reading=reading)
    kept = []
    for row in table.rows:
        index = at.get(row.id)
        problem = parsed.problems.get(index) if index is not None else None
        if index is None or (problem and problem.action == "dropped"):
            detail = f"{records.where(index)} {problem.words}" if index is not None and problem else f"is not in {records.name}"
            reason = problem.reason if problem else "not_in_manifest"
            table.ledger.append(LedgerEntry(item=row.id, action="dropped", reason=reason, detail=detail))
            continue
        if problem:
            table.ledger.append(
                LedgerEntry(item=row.id, action="repaired", reason=problem.reason, detail=f"{records.where(index)} {problem.words}")
            )
        kept.append(replace(row, target=parsed.values[index]))
    table.rows, table.target_type = kept, parsed.type
    table.schema = replace(table.schema, **parsed.written())
    table.messages += parsed.messages
    table.findings += parsed.findings


def _compare_labels(table: Table, records: Records, roles: Roles, at: dict[str, int]) -> None:
    """Report a label column that contradicts the folders."""
    if len(roles.label) != 1:
        return
    values = [target_parser.clean(as_text(value)) for value in records.column(roles.label[0])]
    known = {row.target for row in table.rows}
    if sum(value in known for value in values) < 0.5 * len(values):
        table.messages.append(
            f"the column {roles.label[0]!r} of {records.name} holds other labels; label={shell_word(roles.label[0])} takes them."
        )
        return
    differing = [row.id for row in table.rows if row.id in at and values[at[row.id]] and values[at[row.id]] != row.target]
    if differing:
        message = (
            f"{len(differing)} file(s) lie in another class folder than {records.name} says in {roles.label[0]!r}: "
            f"{', '.join(differing[:3])}. The folders are used; label={shell_word(roles.label[0])} uses the manifest."
        )
        table.findings.append(Finding(kind="label_disagreement", severity="warning", message=message, items=tuple(differing[:300])))
