"""Which column of a manifest has which role, and the sentence that says so."""

from __future__ import annotations

from dataclasses import dataclass, field

from pretune.errors import DataError
from pretune.formats import files
from pretune.formats.files import kinds
from pretune.sources.column import as_text
from pretune.sources.readers.records import Records
from pretune.sources.schema import Schema


class Unclear(DataError):
    """Several columns may have a role; the message names each and the setting that chooses."""


@dataclass(kw_only=True)
class Roles:
    """Role -> column names."""

    path: str | None = None
    text: tuple[str, ...] = ()
    label: tuple[str, ...] = ()
    """One column, or several of 0 and 1."""
    split: str | None = None
    flag: str | None = None
    """A true/false column that marks one part, such as is_valid."""
    group: str | None = None
    rivals: tuple[str, ...] = ()
    """Columns that may all be the label, where none is clearly meant."""
    trained: frozenset[str] = frozenset()
    """Roles whose columns are those of the training data."""
    messages: list[str] = field(default_factory=list)

    def used(self) -> dict[str, str]:
        """Return role -> columns, for people and for the run folder."""
        pairs = {
            "path": self.path,
            "text": ",".join(self.text),
            "label": ",".join(self.label),
            "split": self.split or self.flag,
            "group": self.group,
        }
        return {role: name for role, name in pairs.items() if name}

    def schema(self, records: Records) -> Schema:
        """Return what a run remembers of these columns."""
        width = len(records.columns) if records.headerless else None
        return Schema(text=self.text, path=self.path, label=self.label, split=self.split, width=width)


def modality_of(lead: Records, roles: Roles) -> str:
    """Return what a table's examples are: texts, or files of the kind that most of its paths have."""
    if roles.path is None:
        return "text"
    if roles.path in lead.files:
        return lead.files[roles.path]
    known = [kind for value in lead.column(roles.path) if (kind := files.modality_of(as_text(value)))]
    return max(kinds(), key=known.count) if known else "image"


def sentence(records: Records, roles: Roles, labels: dict[str, int]) -> str:
    """Return in words which columns were taken and which were not.

    Args:
        records: the manifest.
        roles: what was found.
        labels: number of distinct values of each label column.
    """
    used = roles.used()
    shown = [f"{role} is {name!r}{_about(records, roles, role, labels)}" for role, name in used.items()]
    taken = {name for value in used.values() for name in value.split(",")} | set(used.values())
    rest = [name for name in records.columns if name not in taken]
    return f"{records.name}: {', '.join(shown)}" + (f"; not used: {', '.join(rest)}" if rest else "") + "."


def _about(records: Records, roles: Roles, role: str, labels: dict[str, int]) -> str:
    name = roles.used()[role]
    found = " as in training" if role in roles.trained else ""
    if role == "label" and name in labels:
        return f"{found} ({labels[name]} distinct values)"
    return f"{found} ({kinds()[records.files[name]].noun} inside the table)" if role == "path" and name in records.files else found
