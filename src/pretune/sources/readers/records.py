"""One manifest as it lies on disk: named columns, values as written, and where each record stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pretune.errors import DataError
from pretune.formats.files import ending
from pretune.types import LedgerEntry

Value = object
"""str, int, float, bool, None or a list of those; CSV gives str only. A `TableCell` where a table holds the file itself."""

DELIMITED = frozenset((".csv", ".tsv", ".tab", ".psv"))
JSON = frozenset((".json", ".jsonl", ".ndjson"))
ARROW = frozenset((".parquet", ".pq", ".arrow", ".feather"))
MANIFESTS = DELIMITED | JSON | ARROW


@dataclass(kw_only=True)
class Records:
    """The records of one manifest."""

    path: Path
    columns: list[str]
    values: list[list[Value]]
    """One list per record, aligned with `columns`."""
    numbers: list[int]
    """Line (or record number) at which each record starts, counted from 1."""
    word: Literal["row", "line", "record"]
    """What a record is called: a CSV's row, a JSON line, a record of an array."""
    rows: list[int] = field(default_factory=list)
    """CSV: number of each record counted from 1 without the header."""
    names: dict[str, list[str]] = field(default_factory=dict)
    """Column -> class names that its integers stand for, where the file says so."""
    files: dict[str, str] = field(default_factory=dict)
    """Column whose values are files themselves -> their modality."""
    linked: list[str] = field(default_factory=list)
    """Columns made for files that hold nothing but their names."""
    opaque: dict[str, str] = field(default_factory=dict)
    """Column that holds bytes of which no item can be made -> why, continuing 'column …'."""
    called: str = ""
    """How messages name the file where its name alone does not tell it from others: 'test/0000.parquet'."""
    delimiter: str = ""
    """What separates the columns of a delimited table."""
    twins: dict[str, list[str]] = field(default_factory=dict)
    """Name that several columns share -> what these are called here: label -> label, label.1."""
    headerless: bool = False
    """A delimited table without a header line: its columns are called column1, column2 …"""
    messages: list[str] = field(default_factory=list)
    ledger: list[LedgerEntry] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The file's name."""
        return self.called or self.path.name

    def id(self, index: int) -> str:
        """Return the id of a record that has no file: 'data.csv:17', by line."""
        return f"{self.name}:{self.numbers[index]}"

    def where(self, index: int) -> str:
        """Return where a record stands, for people: 'data.csv row 16 (line 17)'."""
        if self.word == "row" and self.rows and self.rows[index] != self.numbers[index]:
            return f"{self.name} row {self.rows[index]} (line {self.numbers[index]})"
        return f"{self.name} {self.word} {self.numbers[index]}"

    def column(self, name: str) -> list[Value]:
        """Return the values of one column."""
        at = self.columns.index(name)
        return [record[at] for record in self.values]


def is_manifest(name: str) -> bool:
    """Return whether a file name is one of a manifest's."""
    return ending(name) in MANIFESTS


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a manifest.

    Raises:
        DataError: it cannot be read or is empty.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    if not raw.strip(b"\xef\xbb\xbf\xff\xfe \t\r\n"):
        raise DataError(f"{path.name} is empty ({path}).")
    return raw
