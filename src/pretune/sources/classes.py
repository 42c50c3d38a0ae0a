"""The one class list of a table, and what must be true of it before anything can be learned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pretune.errors import DataError, SettingError
from pretune.formats.files import kinds
from pretune.sources import spellings
from pretune.sources.names import names_of
from pretune.sources.numbers import number
from pretune.sources.table import Table
from pretune.sources.target_type import ONE_CLASS, ParsedLabels, TargetType
from pretune.sources.targets import classes_of
from pretune.types import Finding, LedgerEntry, Row

_WORDS = {
    "blank_label": "row* without label",
    "na_label": "row* with a label that was treated as missing",
    "blank_row": "blank row*",
    "empty_text": "row* with an empty text",
    "nested_text": "row* with a list for a text",
    "no_finite_number": "row* without a finite number",
    "absurd_outlier": "absurd outlier*",
    "missing_file": "row* with a file that does not exist",
    "outside_root": "row* with a path that leads outside the folder",
    "repeated_row": "row* with a file that was named before",
    "contradictory_label": "row* with contradictory labels",
    "repeated_header": "line* that only repeat the header",
    "ragged": "row* with too few or too many fields",
    "unclosed_quote": "row* with a quote that never closes",
    "nul_bytes": "row* with NUL bytes",
    "bad_bytes": "row* with bytes that are no text",
    "bad_json": "broken JSON line*",
    "not_an_object": "JSON line* without an object",
    "broken_link": "broken link*",
    "repeated_link": "link* to files that are used already",
    "unknown_class": "example* of a class that train does not have",
    "rare_class": "example* of a class with too few",
    "no_label": "file* without label",
    "ambiguous_path": "row* whose name stands for several files",
    "blank_transcript": "row* with an empty transcript",
    "too_long": "clip* too long to be shown whole",
    "too_short": "clip* too short for the transcript",
    "no_class_folder": "file* outside the class folders",
}
"""What was left out for each reason; * is the plural."""


def count(rows: list[Row]) -> Counter[str]:
    """Return the number of rows of each class."""
    return Counter(name for row in rows for name in names_of(row))


def retarget(table: Table, target: TargetType | None) -> Table:
    """Turn the folder names of a table into targets of the type that is wanted: numbers, sets of one, or what a task reads itself.

    Raises:
        SettingError: numbers are wanted, and a folder's name is no number.
    """
    if target is None:
        return table
    if (own := target.parse([row.target for row in table.rows], "the folders")) is not None:
        return _with_own(table, own)
    if target.several:
        table.rows = [replace(row, target=(str(row.target),)) for row in table.rows]
    if target.numeric:
        strange = sorted({str(row.target) for row in table.rows if number(str(row.target)) is None})
        if strange:
            raise SettingError(
                f"task={target.task} needs numbers, and the class folders have names ({', '.join(strange[:3])}). "
                "Name a column: label=COLUMN."
            )
        table.rows = [replace(row, target=number(str(row.target))) for row in table.rows]
        table.messages.append("the names of the class folders are read as numbers.")
    table.target_type = target
    return table


def _with_own(table: Table, own: ParsedLabels) -> Table:
    """Give rows the targets that a task has read of their folders' names."""
    for at, problem in own.problems.items():
        table.ledger.append(
            LedgerEntry(item=table.rows[at].id, action=problem.action, reason=problem.reason, detail=f"its folder {problem.words}")
        )
    pairs = zip(table.rows, own.values, strict=True)
    table.rows = [replace(row, target=value) for row, value in pairs if value is not None]
    table.target_type = own.type
    table.messages += own.messages
    table.findings += own.findings
    return table


def settle(table: Table, path: Path, *, learn: bool, merge: bool | None = None) -> Table:
    """Fix the class list, drop what train does not know, and refuse what nothing can be learned from.

    Args:
        table: what was read.
        path: where, for messages.
        learn: whether a model is trained on it: look-alike classes are merged, and what nothing can be learned from is refused.
        merge: see `spellings.merged`.

    Raises:
        DataError: no rows, one class, or a constant target.
    """
    if not table.rows:
        lost = [entry for entry in table.ledger if entry.action == "dropped"]
        first = f" First: {lost[0].item}: {lost[0].detail}." if lost else ""
        raise DataError(" ".join([f"{path}: none of the {len(lost)} examples can be used.", *left_out(lost)]) + first)
    _drop_faults(table)
    if learn:
        _refuse_free_text(table, path)
        spellings.merged(table, merge)
    _drop_unknown(table)
    table.classes = classes_of([row.target for row in table.rows])
    table.inputs = table.inputs or [row.id for row in table.rows]
    if learn:
        _refuse(table, path)
    return table


def _drop_faults(table: Table) -> None:
    """Drop rows whose target does not go with their content.

    Raises:
        DataError: none is left.
    """
    kind = table.target_type
    faults = {} if kind is None else {row.id: fault for row in table.rows if (fault := kind.fault(row)) is not None}
    for item, (reason, words) in faults.items():
        table.ledger.append(LedgerEntry(item=item, action="dropped", reason=reason, detail=f"{item} {words}"))
    table.rows = [row for row in table.rows if row.id not in faults]
    if not table.rows:
        item, (_, words) = next(iter(faults.items()))
        raise DataError(f"{table.root}: none of the {len(faults)} labels goes with its example. The first: {item} {words}.")


def _refuse_free_text(table: Table, path: Path) -> None:
    """Refuse a label column in which hardly any value repeats.

    Raises:
        DataError: more than half as many classes as rows.
    """
    if table.target_type is not None and table.target_type.form == "own":
        return  # an example may have many names, in any order
    classes = count(table.rows)
    if len(table.rows) < 20 or len(classes) <= len(table.rows) / 2:
        return
    column = repr(table.columns.get("label", "the folders"))
    example = f" (one is {min(classes, key=len)!r})" if classes else ""
    raise DataError(
        f"{path}: {column} has {len(classes)} different values in {len(table.rows)} rows{example}: "
        "too many to be classes. Name another: label=COLUMN."
    )


def _drop_unknown(table: Table) -> None:
    """Leave examples of val and test out whose class train does not have."""
    train = set(count([row for row in table.rows if row.split == "train"]))
    if not train:
        return
    for split in ("val", "test"):
        unknown = Counter(name for row in table.rows if row.split == split for name in names_of(row) if name not in train)
        if unknown:
            shown = ", ".join(f"{name!r} ({n})" for name, n in unknown.most_common(8))
            message = f"train does not have {len(unknown)} class(es) of {split}, whose examples are not scored: {shown}."
            table.findings.append(Finding(kind="unknown_class", severity="warning", message=message, items=tuple(sorted(unknown))[:300]))
    kept = []
    for row in table.rows:
        strange = [name for name in names_of(row) if name not in train]
        if strange and row.split != "train":
            detail = f"is of class {strange[0]!r}, which train does not have"
            table.ledger.append(LedgerEntry(item=row.id, action="dropped", reason="unknown_class", detail=detail))
        else:
            kept.append(row)
    table.rows = kept


def left_out(ledger: Sequence[LedgerEntry]) -> list[str]:
    """Return one sentence with the number of examples left out for each reason."""
    reasons = Counter(entry.reason for entry in ledger if entry.action == "dropped")
    if not reasons:
        return []
    words = {reason: _WORDS.get(reason, f"example* ({reason.replace('_', ' ')})") for reason in reasons}
    shown = "; ".join(f"{n} {words[reason].replace('*', 's' if n > 1 else '')}" for reason, n in reasons.most_common())
    return [f"dropped: {shown}."]


def _refuse(table: Table, path: Path) -> None:
    kind = table.target_type or ONE_CLASS
    if kind.form == "own":
        return  # one class is something to find, as one kind of object; what cannot be learned from is for the type's `fault`
    if kind.numeric:
        values = {row.target for row in table.rows}
        if len(values) == 1:
            column = f" in column {table.columns['label']!r}" if "label" in table.columns else ""
            raise DataError(
                f"{path}: every target{column} is {values.pop()}: a constant target, so there is nothing to learn. "
                "Name another: label=COLUMN."
            )
    elif len(table.classes) < 2 and not (kind.several and any(not row.target for row in table.rows)):
        name = table.classes[0] if table.classes else "none"
        where = f"column {table.columns['label']!r}" if "label" in table.columns else "the class folders"
        empty = [finding.items[0] for finding in table.findings if finding.kind == "empty_class"]
        also = f" ({', '.join(map(repr, empty))} is empty.)" if empty else ""
        raise DataError(
            f"{path}: only one class: {name} ({len(table.rows)} {kinds()[table.modality].unit}s, from {where}, under {table.root}).{also} "
            "Training needs at least two classes; give each its own folder or label."
        )
