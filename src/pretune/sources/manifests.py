"""From the records of one or several manifests to a table: content, target, part and group of each row."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pretune.errors import DataError
from pretune.formats.files import file_kinds
from pretune.printable import shell_word
from pretune.sources import columns as finder
from pretune.sources import targets as target_parser
from pretune.sources import transcripts, vocabulary
from pretune.sources.column import as_text, text_fault
from pretune.sources.files_below import FilesBelow
from pretune.sources.names import folded
from pretune.sources.outcome import Refused, outcome
from pretune.sources.paths import Listed, Located, Locator, refuse_ambiguous
from pretune.sources.readers.encoded import InlineCell
from pretune.sources.readers.records import Records, Value
from pretune.sources.reading import FOUND, Reading, reading_of
from pretune.sources.roles import Roles, Unclear, modality_of, sentence
from pretune.sources.split_names import split_of, splits_of_words
from pretune.sources.table import Columns, RunColumns, Table
from pretune.sources.target_type import ONE_CLASS, SEVERAL_CLASSES, TargetType
from pretune.sources.targets import ParsedLabels, Problem
from pretune.sources.tree import Tree
from pretune.storage.cells import TableCell
from pretune.types import Cell, LedgerEntry, Row, Split, Target

SplitRecords = tuple[Split | None, Records]
_LONG_FORMAT = 0.2


@dataclass(kw_only=True)
class _Draft:
    """A table in the making."""

    table: Table
    roles: Roles
    locator: Locator
    entries: list[tuple[Row, str]] = field(default_factory=list)
    """Each usable row, and where it stands."""
    inputs: list[tuple[int, int, str]] = field(default_factory=list)
    """Part, line and id of every record, usable or not."""
    taken: set[str] = field(default_factory=set)
    distinguishes: bool = True
    """Whether the names of files inside tables tell them apart."""
    repairs: list[LedgerEntry] = field(default_factory=list)
    reading: Reading = FOUND
    """What is known of the way the label is written."""
    written: dict[str, Any] = field(default_factory=dict)
    """What was found of it, for the run to remember."""
    splits: dict[str, Split] = field(default_factory=dict)
    """What the words of the split column stand for."""
    located: list[Located] = field(default_factory=list)
    """Where the file of each row is that names one."""

    def drop(self, item: str, reason: str, detail: str) -> None:
        self.table.ledger.append(LedgerEntry(item=item, action="dropped", reason=reason, detail=detail))

    def keep_repairs(self) -> None:
        """Put the repairs of rows that stayed into the ledger."""
        kept = {row.id for row in self.table.rows}
        self.table.ledger += [entry for entry in self.repairs if entry.item in kept]


def build(
    splits: list[SplitRecords],
    root: Path,
    walk: Callable[[], Tree],
    columns: Columns,
    *,
    target: TargetType | None = None,
    modality: str | None = None,
    labelled: bool = True,
) -> Table:
    """Return the table of one or several manifests.

    Args:
        splits: each manifest with the split it stands for, None where a column may say.
        root: the folder that paths are relative to.
        walk: gives the tree below `root`, when it is needed.
        columns: the columns that the person named.
        target: the type of target that is wanted; None infers it.
        modality: image, audio or text; None infers it.
        labelled: whether rows without a target are dropped; False ignores labels.

    Raises:
        DataError: no column holds the content or the label.
        SettingError: a named column does not exist.
    """
    lead = leading(splits)
    locator = Locator(files=FilesBelow(root=root, walk=walk))
    roles = _find_roles(lead, locator, columns, modality, labelled)
    if labelled and (modality or modality_of(lead, roles)) == "audio":
        target = transcripts.choose(lead, roles, columns, target)
    if labelled and not roles.label:
        raise finder.no_label(lead, roles)
    finder.refuse_twins(lead, roles, columns)
    table = Table(rows=[], modality="", target_type=None, root=root, layout=_layout(splits))
    splits = [(split, records) for split, records in splits if _fits(table, split, records, lead, roles, labelled)]
    table.modality = modality or modality_of(lead, roles)
    draft = _Draft(table=table, roles=roles, locator=locator, reading=reading_of(columns))
    _read(draft, splits, target, labelled)
    if roles.path and table.ledger and not table.rows and (text := finder.other_text(lead, roles)) and modality in (None, "text"):
        raise DataError(
            f"{lead.path}: none of the {len(draft.inputs)} files that column {roles.path!r} names is there ({table.ledger[0].detail}). "
            f"If the text in the table is meant: text={shell_word(text)}."
        )
    table.columns = roles.used()
    table.schema = replace(roles.schema(lead), **draft.written)
    table.messages += _sentences(splits) + roles.messages
    table.ledger[:0] = [entry for _, records in splits for entry in records.ledger]
    table.inputs = [item for _, _, item in sorted(draft.inputs + _lost(splits), key=lambda entry: entry[:2])]
    return table


def leading(splits: list[SplitRecords]) -> Records:
    """Return the manifest whose columns all others must have: that of the training split, else the first."""
    return next((records for split, records in splits if split == "train"), splits[0][1])


def _sentences(splits: list[SplitRecords]) -> list[str]:
    """Return the messages of reading, what holds for all files once."""
    first = {sentence.replace(records.name, "*"): sentence for _, records in reversed(splits) for sentence in reversed(records.messages)}
    return list(reversed(first.values()))


def _find_roles(lead: Records, locator: Locator, columns: Columns, modality: str | None, labelled: bool) -> Roles:
    """Find the columns; where files are wanted and none are named with an ending, look for names without."""
    roles = outcome(lambda: finder.find(lead, columns, modality=modality, labelled=labelled), DataError)
    if isinstance(roles, Refused) and (isinstance(roles.why, Unclear) or modality not in file_kinds()):
        raise roles.why
    if isinstance(roles, Roles) and (roles.path is not None or modality not in file_kinds()):
        return roles
    stem = finder.find_stems(lead, locator.files.knows)
    if stem is not None:
        return finder.find(lead, replace(columns, path=stem), modality=modality, labelled=labelled)
    if isinstance(roles, Refused) and isinstance(columns, RunColumns):
        raise roles.why
    names = finder.listed(lead.columns)
    raise DataError(
        f"{lead.path}: no column names {modality} files below {locator.files.root} (columns: {names}).{finder.unfit(lead)} "
        "Name it: path=COLUMN."
    )


def _layout(splits: list[SplitRecords]) -> str:
    names = [records.name for _, records in splits]
    return f"manifest {names[0]}" if len(names) == 1 else f"manifests {', '.join(names[:6])}" + (" …" if len(names) > 6 else "")


def _fits(table: Table, split: Split | None, records: Records, lead: Records, roles: Roles, labelled: bool) -> bool:
    """Return whether a manifest has the columns of the leading one; a val or test split without labels is left out."""
    if records is lead:
        return True
    content = [name for name in (roles.path, *roles.text) if name]
    missing = [name for name in content if name not in records.columns]
    if missing:
        raise DataError(f"{records.path} has no column {missing[0]!r}, which {lead.name} has (columns: {', '.join(records.columns)}).")
    unlabelled = labelled and any(name not in records.columns for name in roles.label)
    if unlabelled and split != "train":
        table.messages.append(
            f"{records.name} has no column {roles.label[0]!r}, so it cannot be the {split or 'next'} split and is not used."
        )
        return False
    if unlabelled:
        raise DataError(f"{records.path} has no column {roles.label[0]!r}, which {lead.name} has (columns: {', '.join(records.columns)}).")
    return True


# --- rows ----------------------------------------------------------------------------------------


def _read(draft: _Draft, splits: list[SplitRecords], wanted: TargetType | None, labelled: bool) -> None:
    table, roles = draft.table, draft.roles
    target_column = _targets(splits, roles, wanted, draft.reading) if labelled else None
    if roles.path:
        values = [value for _, records in splits for value in records.column(roles.path)]
        names = Counter(value.name for value in values if isinstance(value, TableCell | InlineCell) and value.name)
        draft.distinguishes = not names or names.most_common(1)[0][1] == 1
        table.messages += draft.locator.settle([_listed(split, records, roles.path, table.root) for split, records in splits])
        table.root = draft.locator.files.root
    if roles.split:
        words = (as_text(value) for _, records in splits if roles.split in records.columns for value in records.column(roles.split))
        draft.splits = splits_of_words(words)
    position = 0
    for order, (split, records) in enumerate(splits):
        index = {name: at for at, name in enumerate(records.columns)}
        for at in range(len(records.values)):
            target, problem = (target_column.values[position], target_column.problems.get(position)) if target_column else (None, None)
            _add(draft, order, split, records, at, index, target, problem)
            position += 1
    refuse_ambiguous(splits[0][1].name, draft.located)
    if target_column:
        table.target_type = target_column.type
        draft.written = target_column.written()
        table.findings += target_column.findings
    table.rows = _settle_repeats(draft) if labelled else [row for row, _ in draft.entries]
    draft.keep_repairs()
    lead = next((records for split, records in splits if split == "train"), splits[0][1])
    table.messages[:0] = [sentence(lead, roles, _distinct(target_column, roles))] + (target_column.messages if target_column else [])


def _listed(split: Split | None, records: Records, column: str, root: Path) -> Listed:
    """Return the paths of one manifest, and where it lies."""
    folder = records.path.parent
    start = folder.relative_to(root).as_posix() if folder.is_relative_to(root) and folder != root else ""
    return Listed(
        values=[as_text(value) for value in records.column(column)], name=records.name, start=f"{start}/" if start else "", split=split
    )


def _targets(splits: list[SplitRecords], roles: Roles, target: TargetType | None, reading: Reading) -> ParsedLabels:
    """Parse the targets of all splits together, so that one column is one kind of thing."""
    labels: dict[str, list[Value]] = {name: [value for _, records in splits for value in records.column(name)] for name in roles.label}
    if len(labels) > 1:
        return target_parser.parse_flags(labels, target=target)
    values, names, messages = _by_name(splits, roles.label[0])
    found = target_parser.parse(values, roles.label[0], target=target, names=names, reading=reading)
    found.messages += messages
    return found


def _by_name(splits: list[SplitRecords], label: str) -> tuple[list[Value], list[str] | None, list[str]]:
    """Return the labels of all splits, the class names that integers among them stand for, and the messages about that.

    Each table numbers its classes itself: two that do it differently are matched by name.
    """
    lists = [records.names[label] for _, records in splits if label in records.names]
    if not lists:
        return [value for _, records in splits for value in records.column(label)], None, []
    values: list[Value] = []
    messages = []
    for _, records in splits:
        own = records.names.get(label)
        if own is None:
            messages.append(f"{records.name} does not name its classes; its numbers are treated as those of the others.")
        elif own != lists[0]:
            messages.append(f"{records.name} numbers its classes otherwise; they were matched by name.")
        values += [target_parser.named(value, own or lists[0]) for value in records.column(label)]
    return values, list(dict.fromkeys(name for one in lists for name in one)), messages


def _distinct(targets: ParsedLabels | None, roles: Roles) -> dict[str, int]:
    if targets is None or len(roles.label) != 1:
        return {}
    return {roles.label[0]: len({value for value in targets.values if value is not None})}


def _add(
    draft: _Draft,
    order: int,
    of_table: Split | None,
    records: Records,
    at: int,
    index: dict[str, int],
    target: Target,
    problem: Problem | None,
) -> None:
    """Add one record as a row, or say why not."""
    record, where, roles = records.values[at], records.where(at), draft.roles
    cell = record[index[roles.path]] if roles.path else None
    cell = cell if isinstance(cell, TableCell | InlineCell) else None
    split, strange = _split_of_row(record, index, roles, draft.splits, of_table)
    located = _locate(draft, order, split, record, index) if roles.path and cell is None else None
    text = tuple(as_text(record[index[name]]) for name in roles.text) if roles.path is None else None
    own = located.id if located else cell.name if cell and draft.distinguishes else ""
    item = _unique(draft, own or records.id(at), records, at)
    draft.inputs.append((order, records.numbers[at], item))
    if fault := _content_fault(located, [] if text is None else [record[index[name]] for name in roles.text]):
        draft.drop(item, fault[0], f"{where} {fault[1]}")
        return
    group = as_text(record[index[roles.group]]) or None if roles.group and roles.group in index else None
    row = Row(id=item, path=located.path if located else cell, text=text, target=target, split=split, group=group)
    if problem is not None and problem.action == "dropped":
        draft.drop(item, problem.reason, f"{where} {problem.words}")
        draft.table.unlabelled += [] if strange else [replace(row, target=None)]
        return
    for repaired in (located, problem):
        if repaired and repaired.reason:
            detail = f"{where} {repaired.words}"
            draft.repairs.append(LedgerEntry(item=item, action="repaired", reason=repaired.reason, detail=detail))
    if strange:
        draft.drop(item, "unknown_part", f"{where} has {strange!r} for {roles.split}, which is none of train, val, test")
        return
    draft.entries.append((row, where))


def _unique(draft: _Draft, item: str, records: Records, at: int) -> str:
    if item in draft.taken:
        item = f"{item} ({records.name}:{records.numbers[at]})"
    draft.taken.add(item)
    return item


def _locate(draft: _Draft, order: int, split: Split | None, record: list[Value], index: dict[str, int]) -> Located:
    value = as_text(record[index[draft.roles.path or ""]])
    if not value:
        return Located(id="", reason="blank_path", words="names no file")
    found = draft.locator.find(value, order, split=split, hints=lambda: _words(record, index))
    draft.located.append(found)
    return found


def _words(record: list[Value], index: dict[str, int]) -> set[str]:
    """Return how folders may be called after a row's cells, folded: fold 3 is '3', 'fold3', 'fold_3', 'fold-3' or 'fold 3'."""
    cells = {name: folded(text) for name, at in index.items() if 0 < len(text := as_text(record[at])) <= 32}
    return {*cells.values(), *(f"{folded(name)}{mark}{text}" for name, text in cells.items() for mark in ("", "_", "-", " "))}


def _content_fault(located: Located | None, texts: list[Value]) -> tuple[str, str] | None:
    if located is not None:
        return (located.reason, located.words) if located.path is None else None
    return text_fault(texts)


def _split_of_row(
    record: list[Value], index: dict[str, int], roles: Roles, splits: dict[str, Split], split: Split | None
) -> tuple[Split | None, str]:
    """Return the part of a row, and the word of the split column where it names none."""
    if roles.split and roles.split in index:
        word = as_text(record[index[roles.split]])
        return (splits.get(word), "" if word in splits else word) if word else (split, "")
    if roles.flag and roles.flag in index:
        marked = as_text(record[index[roles.flag]]).casefold() in ("1", "1.0", "true")
        flagged = split_of(vocabulary.FLAGS[vocabulary.plain(roles.flag)])
        return (flagged if marked else "test" if flagged == "train" else "train"), ""
    return split, ""


def _lost(splits: list[SplitRecords]) -> list[tuple[int, int, str]]:
    """Return part, line and id of records that were dropped while the file was read."""
    return [
        (order, int(entry.item.rpartition(":")[2]), entry.item)
        for order, (_, records) in enumerate(splits)
        for entry in records.ledger
        if entry.action == "dropped"
    ]


# --- the same file in several rows ---------------------------------------------------------------


def _settle_repeats(draft: _Draft) -> list[Row]:
    """Keep one row per file.

    Rows that say the same are one. Rows that disagree about a class are dropped, unless so many files have several labels that this is how
    the manifest writes multilabel data. Repeated measurements of a number all stay; splits keep them together.
    """
    table = draft.table
    by_path: dict[Path | Cell | None, list[tuple[Row, str]]] = defaultdict(list)
    for row, where in draft.entries:
        by_path[row.path].append((row, where))
    if draft.roles.path is None or len(by_path) == len(draft.entries):
        return [row for row, _ in draft.entries]
    several = sum(len({row.target for row, _ in same}) > 1 for same in by_path.values())
    kind = table.target_type or ONE_CLASS
    if kind.single and several >= _LONG_FORMAT * len(by_path):
        table.target_type = kind = SEVERAL_CLASSES
        table.messages.append(
            f"{several} of {len(by_path)} files have several rows with different labels: several labels per example (multilabel)."
        )
    if kind.several:
        return [_union([row for row, _ in same]) for same in by_path.values()]
    likeliest = kind.likeliest([list(dict.fromkeys(row.target for row, _ in same)) for same in by_path.values()])
    return [row for same, right in zip(by_path.values(), likeliest, strict=True) for row in _one_of(draft, same, right)]


def _union(rows: list[Row]) -> Row:
    names = {name for row in rows for name in (row.target if isinstance(row.target, tuple) else (str(row.target),))}
    return replace(rows[0], target=tuple(sorted(names, key=target_parser.natural)))


def _one_of(draft: _Draft, same: list[tuple[Row, str]], right: Target) -> list[Row]:
    rows, places = [row for row, _ in same], [where for _, where in same]
    targets, kind = list(dict.fromkeys(row.target for row in rows)), draft.table.target_type or ONE_CLASS
    if kind.exclusive and any(kind.differ(targets[0], other) for other in targets[1:]):
        labels, used = (
            " and ".join(map(repr, map(str, targets))),
            f"; {str(right)!r} is used, whose words other files have" if right else "",
        )
        for row, where in (entry for entry in same if entry[0].target != right):
            draft.drop(row.id, "contradictory_label", f"{where}: {rows[0].id} is labelled {labels} ({', '.join(places)}){used}")
        if right is None:
            draft.table.unlabelled.append(replace(rows[0], target=None))
        return [] if right is None else _one_of(draft, [entry for entry in same if entry[0].target == right], right)
    if len(targets) > 1 and not kind.exclusive:
        return rows
    for row, where in same[1:]:
        draft.drop(row.id, "repeated_row", f"{where} names {rows[0].id} again (first in {places[0]})")
    return rows[:1]
