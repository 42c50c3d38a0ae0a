"""Find which column of a manifest is the path, the text, the label, the part, the group."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Literal

from pretune.errors import DataError, SettingError, did_you_mean
from pretune.formats.files import file_kinds, kinds
from pretune.printable import shell_word
from pretune.sources import vocabulary
from pretune.sources.as_trained import as_trained
from pretune.sources.column import Column, as_text, is_label_name, is_text_name
from pretune.sources.labels import find_label, refusal
from pretune.sources.readers.records import Records
from pretune.sources.roles import Roles, Unclear
from pretune.sources.split_names import split_of
from pretune.sources.table import Columns, RunColumns

_SAMPLE = 5000
_FEW_GROUPS = 20
"""Different values up to which a column called …_group may be the label."""


def find(records: Records, wanted: Columns, *, modality: str | None = None, labelled: bool = True) -> Roles:
    """Return the role of each column.

    Args:
        records: the manifest.
        wanted: the columns that the person named.
        modality: image, audio or text where it is known.
        labelled: whether a label column is looked for.

    Raises:
        SettingError: a named column does not exist, or two are named for the content.
        DataError: no column holds the content.
    """
    _check_content(wanted, modality)
    sample = records.values[:: max(1, len(records.values) // _SAMPLE)]
    columns = {name: Column(name, [record[at] for record in sample]) for at, name in enumerate(records.columns)}
    roles = as_trained(records, columns, wanted, modality, labelled) if isinstance(wanted, RunColumns) else Roles()
    _find_split(roles, records, columns, wanted)
    named_labels = _named_several(records, wanted.label, "label") if labelled else ()
    roles.group = _named_group(records, wanted)
    group = _find_group(roles, records, columns, wanted, {*named_labels, *roles.label})
    if not roles.text:
        roles.path = (
            named(records, wanted.path, "path")
            or roles.path
            or _find_files(records, roles, modality, wanted)
            or _find_path(records, columns, modality, wanted)
        )
    if modality == "text" and wanted.path and roles.path and columns[roles.path].media < 0.5 and not records.files:
        raise SettingError(f"path={wanted.path}: the column holds no file names. For text in the table itself: text={wanted.path}.")
    if roles.path is None:
        taken = {roles.split, roles.flag, roles.group, group, *named_labels, *roles.label}
        roles.text = _named_several(records, wanted.text, "text") or roles.text or _guess_text(roles, records, columns, taken, wanted)
    if roles.path is None and (not roles.text or _are_labels(records, roles, wanted)):
        raise _no_content(records, columns)
    if labelled and roles.path is None and not wanted.text and "text" not in roles.trained and _are_classes_of_numbers(roles, columns):
        raise DataError(
            f"{records.path} has no column with file names or texts (columns: {listed(records.columns)}): beside numbers it has only "
            f"the classes of {roles.text[0]!r}. pretune learns from images, audio and text. If {roles.text[0]!r} is the text: "
            f"text={shell_word(roles.text[0])}."
        )
    if roles.path in records.opaque:
        raise DataError(f"{records.path}: column {roles.path!r} {records.opaque[roles.path]}.")
    if labelled:
        _find_labels(roles, records, columns, named_labels, group)
    elif group is not None:
        roles.group = group
    if wanted.group is None and roles.group is None and not _find_folds(roles, columns):
        _suggest_group(roles, records, columns)
    return roles


def _no_content(records: Records, columns: dict[str, Column]) -> DataError:
    """Return the error for a table of which no column is the content, with a cure where there is one."""
    found = f"{records.path} has no column with file names or texts (columns: {listed(records.columns)}).{unfit(records)}"
    if not columns:
        return DataError(f"{records.path} has no columns. It needs one with file names or texts, and one with labels.")
    if records.files or records.opaque or all(column.numeric >= 0.9 for column in columns.values() if column.strings):
        numbers = "" if records.files or records.opaque else " Its columns hold only numbers. pretune learns from images, audio and text."
        return DataError(f"{found}{numbers}")
    return DataError(f"{found} Name it: path=COLUMN or text=COLUMN.")


def _are_classes_of_numbers(roles: Roles, columns: dict[str, Column]) -> bool:
    """Return whether what was found as the text, for want of any other, is the class in a table of measured numbers."""
    text, *more = (columns[name] for name in roles.text)
    others = [column for column in columns.values() if column is not text and column.strings and not column.identifies]
    if more or not others or any(column.numeric < 0.9 for column in others) or is_text_name(text.plain):
        return False
    return text.distinct <= min(_FEW_GROUPS, len(text.strings) / 3) and text.total >= 10


def _find_labels(roles: Roles, records: Records, columns: dict[str, Column], named_labels: tuple[str, ...], group: str | None) -> None:
    """Find the label and, knowing it, whether what is called a group is one or may itself be the label."""
    taken = {roles.path, *roles.text, roles.split, roles.flag, roles.group}
    roles.label = named_labels or roles.label
    if not roles.label:
        roles.label = find_label(records, roles, columns, {*taken, group})
    sure = bool(named_labels) or any(is_label_name(columns[name].plain) or name in records.names for name in roles.label)
    if group is not None and not sure and columns[group].distinct <= _FEW_GROUPS:
        roles.rivals = ()
        roles.label = find_label(records, roles, columns, taken)
    if group is not None and group not in (*roles.label, *roles.rivals):
        roles.group = group
        roles.messages.append(f"examples with equal {group!r} stay in one split (group=none turns this off).")


def refuse_twins(records: Records, roles: Roles, wanted: Columns) -> None:
    """Refuse a column of which there are several with one name that differ, unless the person or the training data name it.

    Raises:
        DataError: naming both.
    """
    found = {"path": (roles.path,), "text": roles.text, "label": roles.label, "split": (roles.split,), "group": (roles.group,)}
    for role, names in found.items():
        twins = next((columns for columns in records.twins.values() if set(columns) & set(names)), None)
        if twins and role not in roles.trained and getattr(wanted, role) is None:
            places = " or ".join(
                f"{role}={shell_word(name)} (number {records.columns.index(name) + 1}: {_example(records, name)})" for name in twins
            )
            raise DataError(f"{records.path}: {len(twins)} columns are called {twins[0]!r} and differ. Name the one to read: {places}.")


def _example(records: Records, name: str) -> str:
    """Return the first few different values of a column, or of several of 0 and 1."""
    if name not in records.columns:
        return "0 and 1"
    values = list(dict.fromkeys(as_text(value)[:30] for value in records.column(name)[:200]))
    return ", ".join(values[:3]) + (" …" if len(values) > 3 else "")


def listed(names: list[str]) -> str:
    """Return the names of columns for a message; of very many the first."""
    return ", ".join(names[:20]) + (f", … ({len(names)} in all)" if len(names) > 20 else "")


def no_label(records: Records, roles: Roles) -> DataError:
    """Return the error for a table of which no column, or more than one, may be the label."""
    if roles.rivals:
        return refusal(records, roles, {name: _example(records, name) for name in roles.rivals})
    taken = (roles.path, *roles.text, roles.split, roles.flag, roles.group)
    free = [name for name in records.columns if name not in taken]
    rest = f"the others are {listed(free)}" if free else "there is no other column"
    content = roles.path or ", ".join(roles.text)
    return DataError(f"{records.path} has no column that can be the label (content is {content!r}; {rest}). Name it: label=COLUMN.")


# --- names the person gave -----------------------------------------------------------------------


def named(records: Records, name: str | None, role: str) -> str | None:
    """Return the column called `name`, letter case forgiven.

    Raises:
        SettingError: there is none; nearest first.
    """
    if name is None or name in records.columns:
        return name
    same = [column for column in records.columns if column.casefold() == name.strip().casefold()]
    if len(same) == 1:
        return same[0]
    raise SettingError(f"{role}={name}: {records.name} has no column {name!r}. {did_you_mean(name, records.columns)}")


def _named_several(records: Records, names: str | None, role: str) -> tuple[str, ...]:
    if names is None:
        return ()
    if names in records.columns:
        return (names,)
    found = [named(records, name.strip(), role) for name in names.split(",") if name.strip()]
    return tuple(name for name in found if name)


# --- names that are found ------------------------------------------------------------------------


def _check_content(wanted: Columns, modality: str | None) -> None:
    if wanted.text and wanted.path:
        raise SettingError(f"path={wanted.path} and text={wanted.text} name two contents, and an example has one. Leave one of them out.")
    if wanted.text and modality in file_kinds():
        raise SettingError(f"text={wanted.text} would not be read: the examples are {kinds()[modality].noun}. Leave it out.")


def _are_labels(records: Records, roles: Roles, wanted: Columns) -> bool:
    """Return whether what was treated as text, for want of anything else, is called a label, and the content is bytes of another kind."""
    return bool(records.opaque) and not wanted.text and all(is_label_name(vocabulary.plain(name)) for name in roles.text)


def choose_files(files: dict[str, str], wanted: Columns, modality: str | None) -> list[str]:
    """Return the columns, of those that hold files, that may be the content: the one that was named, or any, the likeliest first."""
    if modality == "text" or (wanted.text and not wanted.path):
        return []
    named_one = (wanted.path or "").strip().casefold()
    fitting = [name for name, kind in files.items() if modality in (None, kind) and named_one in ("", name.casefold())]
    return sorted(fitting, key=lambda name: vocabulary.plain(name) not in vocabulary.PATH)


def unfit(records: Records) -> str:
    """Return sentences about the columns that hold bytes and cannot be the content as things stand."""
    reasons = [f"{name!r} holds {kinds()[kind].noun}" for name, kind in records.files.items()]
    return "".join(f" {words}." for words in reasons + [f"{name!r} {why}" for name, why in records.opaque.items()])


def _find_files(records: Records, roles: Roles, modality: str | None, wanted: Columns) -> str | None:
    fitting = choose_files(records.files, wanted, modality)
    if len(fitting) > 1:
        others = ", ".join(fitting[1:])
        roles.messages.append(f"several columns of {records.name} hold files; {fitting[0]!r} was taken, path= takes another ({others}).")
    return fitting[0] if fitting else None


def _find_path(records: Records, columns: dict[str, Column], modality: str | None, wanted: Columns) -> str | None:
    if modality in (None, "text") and wanted.text:
        return None
    files = [column for column in columns.values() if column.strings and column.media >= 0.5]
    files.sort(key=lambda column: (column.plain not in vocabulary.PATH, -column.media))
    equals = [column for column in files if (column.plain in vocabulary.PATH) == (files[0].plain in vocabulary.PATH)]
    different = [column for column in equals[1:] if not _name_the_same(equals[0], column)]
    if different:
        shown = " or ".join(f"path={shell_word(column.name)} ({column.strings[0]} …)" for column in (equals[0], *different))
        raise Unclear(f"{records.path}: several columns hold file names, and an example is one file. Name the one to read: {shown}.")
    return max(equals, key=lambda column: column.length).name if files else None


def _name_the_same(first: Column, second: Column) -> bool:
    """Return whether two columns name the same files, one of them with folders."""
    pairs = zip(first.strings, second.strings, strict=False)
    return all(PurePosixPath(one).name == PurePosixPath(other).name for one, other in pairs)


def content_of(records: Records, wanted: Columns, modality: str, known: Callable[[str], bool]) -> Literal["files", "text"]:
    """Return what a manifest in a folder with files holds: these files, by any column that names them, or texts of its own.

    A table that holds neither is one of files whose names are not recognised.

    Args:
        records: the manifest.
        wanted: the columns that the person named; no text.
        modality: of the files: image or audio.
        known: returns whether a value without a file extension names a file that is there.
    """
    sample = records.values[:: max(1, len(records.values) // _SAMPLE)]
    columns = {name: Column(name, [record[at] for record in sample]) for at, name in enumerate(records.columns)}
    roles = as_trained(records, columns, wanted, modality, labelled=False) if isinstance(wanted, RunColumns) else Roles()
    files = named(records, wanted.path, "path") or roles.path or choose_files(records.files, wanted, modality)
    if files or _find_path(records, columns, modality, wanted) or find_stems(records, known):
        return "files"
    found = [columns[name] for name in roles.text or _find_text(columns, set())]
    return "text" if any(column.reads_as_text or not is_label_name(column.plain) for column in found) else "files"


def find_stems(records: Records, known: Callable[[str], bool]) -> str | None:
    """Return the column whose values are names of files that are there, or such names without their endings."""
    for at, name in enumerate(records.columns):
        strings = [as_text(record[at]) for record in records.values[:200]]
        if sum(map(known, strings)) >= 0.5 * max(1, len(strings)):
            return name
    return None


def _guess_text(roles: Roles, records: Records, columns: dict[str, Column], taken: set[str | None], wanted: Columns) -> tuple[str, ...]:
    """Return the text column as for training; for a run that knows no column, only where no other column holds texts.

    Raises:
        DataError: the run knows no column and several hold texts.
    """
    found = _find_text(columns, taken)
    if not isinstance(wanted, RunColumns) or not found:
        return found
    free = [column for column in columns.values() if column.name not in taken and column.reads_as_text]
    if wanted.schema.text_count == 1 and len(found) > 1:
        found = (max(found, key=lambda name: columns[name].length),)
    rivals = [column.name for column in free if column.name not in found]
    if rivals:
        raise DataError(
            f"{records.path}: the run does not record a text column, and several hold texts. "
            f"Name the one to read: text={shell_word(found[0])} or text={shell_word(rivals[0])}."
        )
    roles.messages.append(f"the run does not record a text column; {', '.join(found)} of {records.name} was read (text= reads another).")
    return found


def _find_text(columns: dict[str, Column], taken: set[str | None]) -> tuple[str, ...]:
    """Return a known pair of sentences, else the column with the longest strings, a telling name counting threefold."""
    by_name = {column.plain: column.name for column in columns.values()}
    for first, second in vocabulary.PAIRS:
        if first in by_name and second in by_name:
            return by_name[first], by_name[second]
    free = [
        column
        for column in columns.values()
        if column.name not in taken and column.strings and column.numeric < 0.9 and not column.identifies
    ]
    unlabelled = [column for column in free if not is_label_name(column.plain)]
    scored = [(column.length * (3 if is_text_name(column.plain) else 1), column.name) for column in unlabelled or free]
    return (max(scored, key=lambda pair: pair[0])[1],) if scored else ()


def other_text(records: Records, roles: Roles) -> str | None:
    """Return a column that holds texts in a table whose column of files was read, None where there is none."""
    columns = {name: Column(name, records.column(name)[:_SAMPLE]) for name in records.columns}
    found = _find_text(columns, {roles.path, *roles.label, roles.split, roles.flag, roles.group})
    return next((name for name in found if columns[name].reads_as_text), None)


def _find_split(roles: Roles, records: Records, columns: dict[str, Column], wanted: Columns) -> None:
    if wanted.split == "new" or roles.split:
        return
    roles.split = named(records, wanted.split, "split")
    if roles.split:
        strange = sorted({text for text in columns[roles.split].strings if split_of(text) is None})
        if strange:
            raise SettingError(
                f"split={wanted.split}: the column must say train, val or test; it also says {', '.join(map(repr, strange[:5]))}."
            )
        return
    for column in columns.values():
        if column.plain in vocabulary.SPLIT and column.strings:
            splits = [split_of(text) for text in column.strings]
            if None not in splits or ("train" in splits and splits.count(None) <= 0.1 * len(splits)):
                roles.split = column.name
                return
    for column in columns.values():
        is_named = column.plain in vocabulary.SPLIT and column.plain not in vocabulary.FOLD and column.name != wanted.label
        if is_named and 1 < column.distinct <= 10:
            shown = ", ".join(map(repr, sorted(set(column.strings))[:5]))
            roles.messages.append(f"column {column.name!r} is not used as the split: its values ({shown}) do not say train, val or test.")
    flags = [column.name for column in columns.values() if column.plain in vocabulary.FLAGS and column.binary]
    roles.flag = flags[0] if flags else None


def _named_group(records: Records, wanted: Columns) -> str | None:
    """Return the column that the person names as the group; None for a pattern, and for 'none'."""
    if wanted.group is None or wanted.group == "none":
        return None
    return named(records, wanted.group, "group") if wanted.group in records.columns or "(" not in wanted.group else None


def _find_group(roles: Roles, records: Records, columns: dict[str, Column], wanted: Columns, labels: set[str]) -> str | None:
    """Return the column that is called a group and is not the label; `_settle_group` may still take it for the label."""
    if wanted.group is not None:
        return None
    taken = labels | {name for name in (wanted.path, roles.path, *roles.text) if name}
    for column in columns.values():
        is_group = column.plain in vocabulary.GROUP or column.plain.endswith("_group")
        if is_group and column.name not in taken and 1 < column.distinct < len(column.strings):
            return column.name
    return None


def _find_folds(roles: Roles, columns: dict[str, Column]) -> bool:
    """Take a column that numbers the folds of a cross-validation for the group: its folds were made so that no example leaks."""
    for column in columns.values():
        is_fold = column.plain in vocabulary.FOLD and column.name not in (*roles.label, roles.split) and column.numeric == 1
        if is_fold and 2 < column.distinct <= 50 and column.distinct < len(column.strings):
            roles.group = column.name
            roles.messages.append(f"column {column.name!r} numbers folds; each stays in one split (group=none ignores them).")
            return True
    return False


def _suggest_group(roles: Roles, records: Records, columns: dict[str, Column]) -> None:
    for column in columns.values():
        if column.plain in vocabulary.GROUPLIKE and column.name not in roles.label and 1 < column.distinct < len(column.strings):
            roles.messages.append(
                f"{records.name} has a column {column.name!r}; group={shell_word(column.name)} keeps each {column.name} in one split."
            )
            return
