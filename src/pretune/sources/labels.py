"""Find the label column: by its name where that is clear, else the only one that can be; never one of several equals."""

from __future__ import annotations

import re

from pretune.errors import DataError
from pretune.printable import shell_word
from pretune.sources import vocabulary
from pretune.sources.column import Column, is_label_name
from pretune.sources.readers.records import Records
from pretune.sources.roles import Roles

_STRONG = frozenset(("label", "labels", "class", "classes", "target", "targets", "y", "gold_label", "class_label"))
"""Names that mean a label in any table; others (topic, species, sentiment) may stand beside one another."""
_RATED = frozenset(("score", "rating", "ratings", "star", "stars", "quality", "similarity"))
_MEASURED = _RATED | frozenset(("value", "price", "age", "amount"))
_ABOUT = frozenset(
    (
        *("confidence", "conf", "probability", "prob", "score", "agreement", "certainty"),
        *("gold", "count", "votes", "id", "idx", "index", "weight"),
    )
)
"""Last words of columns that say something about another column: sentiment_confidence."""
_YES_NO = frozenset(("y", "n", "yes", "no", "t", "f"))
_MONTH = r"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DATE = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}|\d{1,2}:\d{2}|(mon|tue|wed|thu|fri|sat|sun)\w*,? "
    rf"|{_MONTH}[ -]\d{{1,2}}(st|nd|rd|th)?\b|\d{{1,2}}(st|nd|rd|th)?[ -]{_MONTH}([ ,-]|$)|{_MONTH},?[ -]\d{{2,4}}$",
    re.I,
)
_CODE = re.compile(r"-?\d+(\s*,\s*\d+)*")
_LONG = 20
"""Digits that no number of a row has."""
_FEW = 20
"""Different whole numbers up to which these are codes of classes."""


def find_label(records: Records, roles: Roles, columns: dict[str, Column], taken: set[str | None]) -> tuple[str, ...]:
    """Return the label column, or several of 0 and 1; () where none can be it, or several can.

    Where several can, `roles.rivals` names them.
    """
    free = [column for column in columns.values() if column.name not in taken and (column.strings or column.lists)]
    free = [column for column in free if not _is_about(column, free)]
    exact = sorted((c for c in free if c.plain in vocabulary.LABEL), key=lambda c: vocabulary.LABEL.index(c.plain))
    if exact:
        return _of_names(roles, exact)
    declared = [column.name for column in free if column.name in records.names]
    if len(declared) > 1:
        others = ", ".join(declared[1:])
        roles.messages.append(
            f"{records.name} names classes in several columns; {declared[0]!r} was taken, label= takes another ({others})."
        )
    if declared:
        return (declared[0],)
    free = [column for column in free if not column.identifies and not _counts_rows(column) and not _is_index(records, column)]
    rivals = _rivals(free)
    hinted = [column for column in free if is_label_name(column.plain) and column.distinct != 1]
    if hinted:
        return _chosen(roles, [*hinted, *(column for column in rivals if _tokens(column) & _RATED and column not in hinted)])
    if len(rivals) > 1 and all(column.binary for column in rivals):
        return tuple(column.name for column in free if column.binary)
    if rivals:
        return _chosen(roles, rivals)
    return _of_numbers(roles, free)


def _of_names(roles: Roles, exact: list[Column]) -> tuple[str, ...]:
    """Choose between columns that are all called a label: those that name the same classes are one."""
    groups: list[list[Column]] = []
    for column in exact:
        same = next((group for group in groups if _correspond(group[0], column)), None)
        if same is None:
            groups.append([column])
        else:
            same.append(column)
    strong = [group for group in groups if any(column.plain in _STRONG for column in group)]
    chosen = strong if len(strong) == 1 else [group for group in (strong or groups) if group[0].distinct != 1] or groups[:1]
    return _chosen(roles, [group[0] for group in chosen])


def _correspond(first: Column, second: Column) -> bool:
    """Return whether two columns name the same classes: 0 and 'bad', 1 and 'good'."""
    if len(first.strings) != len(second.strings) or first.distinct != second.distinct:
        return False
    return len(set(zip(first.strings, second.strings, strict=True))) == first.distinct


def _chosen(roles: Roles, columns: list[Column]) -> tuple[str, ...]:
    if len(columns) == 1:
        return (columns[0].name,)
    flags = [column.name for column in columns if column.binary]
    others = [column.name for column in columns if not column.binary]
    roles.rivals = (*others, ",".join(flags)) if others and len(flags) > 1 else tuple(column.name for column in columns)
    return ()


def _rivals(free: list[Column]) -> list[Column]:
    """Return the columns whose values are few enough to be classes, less what is far less likely to be the label than the others."""
    found = [column for column in free if _may_be_classes(column)]
    for unlikely in (_is_extra, lambda column: _tokens(column) & frozenset(vocabulary.QUANTITY) and column.numeric >= 0.8):
        likely = [column for column in found if not unlikely(column)]
        found = likely or found
    rated = [column for column in found if _tokens(column) & _RATED]
    if len(rated) == 1 and all(column is rated[0] or _is_yes_or_no(column) or column.numeric >= 0.8 for column in found):
        return rated
    measured = [c for c in free if c not in found and c.numeric >= 0.8 and c.distinct > _FEW and _tokens(c) & _MEASURED]
    return sorted([*found, *measured], key=lambda column: not _tokens(column) & _RATED)


def _may_be_classes(column: Column) -> bool:
    if column.lists or (column.binary and column.distinct == 2):
        return True
    if not 2 <= column.distinct <= max(2, len(column.strings) / 2) or _are_dates(column):
        return False
    if column.numeric < 0.8:
        return True
    return column.distinct <= min(_FEW, max(2, len(column.strings) / 3)) and all(map(_CODE.fullmatch, column.strings))


def _is_extra(column: Column) -> bool:
    """Return whether a column usually says where an example comes from: its speaker, its split."""
    return column.plain in vocabulary.GROUPLIKE or column.plain in vocabulary.SPLIT or column.plain in vocabulary.GROUP


def _of_numbers(roles: Roles, free: list[Column]) -> tuple[str, ...]:
    """Return the only column of measured numbers, or the only one that is called like a measure."""
    numbers = [column for column in free if column.numeric >= 0.6 and column.distinct > 1]
    called = [column for column in numbers if _tokens(column) & frozenset(vocabulary.NUMBER)]
    if numbers:
        return _chosen(roles, called or numbers)
    return (free[0].name,) if len(free) == 1 and free[0].distinct < free[0].total else ()


def _is_about(column: Column, free: list[Column]) -> bool:
    """Return whether a column is about another one: its confidence, its votes."""
    *base, last = column.plain.split("_") if column.plain else [""]
    if last not in _ABOUT or not base or column.plain in vocabulary.LABEL:
        return False
    start = "_".join(base)
    return any(other is not column and (other.plain == start or other.plain.startswith(start + "_")) for other in free)


def _counts_rows(column: Column) -> bool:
    """Return whether a column only numbers the rows."""
    if column.distinct < column.total or column.total < 3 or not all(text.isdecimal() and len(text) < _LONG for text in column.strings):
        return False
    steps = {int(second) - int(first) for first, second in zip(column.strings, column.strings[1:], strict=False)}
    return steps == {1}


def _is_index(records: Records, column: Column) -> bool:
    """Return whether a column has no name in the header, as the index that pandas writes."""
    return not records.headerless and bool(re.fullmatch(r"column\d+", column.name)) and column.distinct == column.total


def _is_yes_or_no(column: Column) -> bool:
    return {text.casefold() for text in column.strings} <= _YES_NO or column.binary


def _are_dates(column: Column) -> bool:
    return sum(bool(_DATE.match(text)) for text in column.strings) > 0.8 * len(column.strings)


def _tokens(column: Column) -> set[str]:
    return set(column.plain.split("_"))


def refusal(records: Records, roles: Roles, columns: dict[str, str]) -> DataError:
    """Return the error for a table in which several columns may be the label.

    Args:
        records: the table.
        roles: its `rivals` may be the label.
        columns: the first different values of each of them.
    """
    shown = [f"{name!r} ({columns[name]})" for name in roles.rivals[:4]]
    more = f" and {len(roles.rivals) - 4} more" if len(roles.rivals) > 4 else ""
    first, second = map(shell_word, roles.rivals[:2])
    return DataError(
        f"{records.path}: several columns may be the label: {', '.join(shown)}{more}. "
        f"Name the one to learn: label={first} or label={second}."
    )
