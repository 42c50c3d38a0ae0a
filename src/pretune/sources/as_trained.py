"""The columns of a manifest by their names in the training data of a run."""

from __future__ import annotations

from pretune.errors import DataError
from pretune.printable import shell_word
from pretune.sources.column import Column
from pretune.sources.readers.records import Records
from pretune.sources.roles import Roles
from pretune.sources.schema import Schema
from pretune.sources.table import RunColumns


def as_trained(records: Records, columns: dict[str, Column], wanted: RunColumns, modality: str | None, labelled: bool) -> Roles:
    """Return the roles whose columns have the names of the training data; what the person names takes their place.

    Raises:
        DataError: a column of the training data is missing, and nothing else can be meant for sure.
    """
    schema, roles = wanted.schema, Roles()
    if not wanted.text and not wanted.path:
        if schema.text and modality == "text" and not _only_text_columns(records, schema):
            roles.text = schema.find(records, schema.text, "text")
        elif schema.path and modality != "text":
            roles.path = _trained_path(records, columns, schema, modality, roles)
    if labelled and not wanted.label:
        taken = {*roles.text, roles.path, wanted.text, wanted.path}
        roles.label = schema.find(records, schema.label, "label") if schema.label else _label_by_classes(records, columns, schema, taken)
    if schema.split in records.columns and wanted.split is None:
        roles.split = schema.split
    trained = {"text": roles.text, "path": roles.path, "label": schema.label and roles.label}
    roles.trained = frozenset(role for role, names in trained.items() if names)
    return roles


def _only_text_columns(records: Records, schema: Schema) -> bool:
    """Return whether a table holds nothing but one text per line, without a header that could say otherwise."""
    return records.headerless and len(records.columns) == 1 and schema.text_count == 1


def _trained_path(records: Records, columns: dict[str, Column], schema: Schema, modality: str | None, roles: Roles) -> str | None:
    """Return the column of files by its name; where it is called otherwise, None for the only one that holds files."""
    name = str(schema.path)
    if schema.has(records, (name,)):
        return schema.find(records, (name,), "path")[0]
    others = {*records.files, *(column.name for column in columns.values() if column.media >= 0.5)}
    if len(others) != 1:
        schema.find(records, (name,), "path")
    roles.messages.append(
        f"the run was trained with file names from column {name!r}, which {records.name} does not have; "
        f"{others.copy().pop()!r} is its only column of files and was read."
    )
    return None


def _label_by_classes(records: Records, columns: dict[str, Column], schema: Schema, taken: set[str | None]) -> tuple[str, ...]:
    """Return the column whose values are classes of the run, where the run was trained without a label column: on class folders.

    Raises:
        DataError: several columns hold them.
    """
    known = set(schema.classes)
    fitting = [
        column.name
        for column in columns.values()
        if column.name not in taken and column.strings and sum(text in known for text in column.strings) >= 0.5 * len(column.strings)
    ]
    if len(fitting) > 1:
        raise DataError(
            f"{records.path}: columns {', '.join(map(repr, fitting))} all hold classes of the run, which was trained on class folders. "
            f"Name the label: label={shell_word(fitting[0])} or label={shell_word(fitting[1])}."
        )
    return tuple(fitting)
