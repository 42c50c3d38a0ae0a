"""Which columns a run was trained on, so that `predict` and `evaluate` read the same ones, or refuse."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from pretune.errors import DataError
from pretune.sources.readers.records import Records
from pretune.types import Row


@dataclass(frozen=True, kw_only=True)
class Schema:
    """The columns of the training data, by role. Saved with the run; empty where folders gave everything."""

    text: tuple[str, ...] = ()
    """Columns of the text; two of a sentence pair, in the order in which the model reads them."""
    path: str | None = None
    """Column of the file names, or of the files themselves."""
    label: tuple[str, ...] = ()
    """Column of the label, or several of 0 and 1."""
    split: str | None = None
    """Column that says train, val or test."""
    text_count: int | None = None
    """Texts an example has: 1, or 2 for a pair; None where it is not known, and for other modalities."""
    width: int | None = None
    """Columns of a table without a header line, which are known by their places (0: not recorded); None where names are known."""
    missing: str | None = None
    """Labels that the person called missing."""
    decimal: Literal["point", "comma"] | None = None
    """Decimal sign of the label's numbers, where the usual reading would not find it."""
    unit: str | None = None
    """Unit beside the label's numbers; '' where there was none."""
    classes: tuple[str, ...] = ()
    """The class names of the run, by which an unnamed label column is recognised. Not saved here: the run's targets hold them."""

    @classmethod
    def from_json(cls, saved: dict[str, Any], classes: tuple[str, ...] = ()) -> Schema:
        """Return the schema that a run saved.

        Raises:
            ValueError: it makes no sense.
        """
        for key in ("text", "label"):
            if not isinstance(saved[key], list) or not all(isinstance(name, str) for name in saved[key]):
                raise ValueError(f"schema.{key} must be a list of names")
        for key in ("path", "split", "missing", "decimal", "unit"):
            if not isinstance(saved.get(key), str | None):
                raise ValueError(f"schema.{key} must be a name or null")
        for key in ("texts", "width"):
            if isinstance(saved[key], bool) or not isinstance(saved[key], int | None):
                raise ValueError(f"schema.{key} must be a whole number or null")
        return cls(
            text=tuple(saved["text"]),
            path=saved["path"],
            label=tuple(saved["label"]),
            split=saved["split"],
            text_count=saved["texts"],
            width=saved["width"],
            missing=saved.get("missing"),
            decimal=saved.get("decimal"),
            unit=saved.get("unit"),
            classes=classes,
        )

    @classmethod
    def from_columns(cls, columns: dict[str, str], classes: tuple[str, ...] = ()) -> Schema:
        """Return what is known of a run that saved no schema: its audit lists role -> columns, joined by commas."""
        text, label = (tuple(name for name in columns.get(role, "").split(",") if name) for role in ("text", "label"))
        places = any(re.fullmatch(r"column\d+", name) for name in text)
        return cls(
            text=text,
            path=columns.get("path"),
            label=label,
            split=columns.get("split"),
            text_count=len(text) or None,
            width=0 if places else None,
            classes=classes,
        )

    def to_json(self) -> dict[str, Any]:
        """Return what a run saves."""
        names = ("text", "path", "label", "split", "width", "missing", "decimal", "unit")
        saved = {name: list(value) if isinstance(value := getattr(self, name), tuple) else value for name in names}
        return saved | {"texts": self.text_count}

    @property
    def content(self) -> tuple[str, ...]:
        """Return the columns of the content; () where files in folders were the content."""
        return self.text or ((self.path,) if self.path else ())

    def find(self, records: Records, names: tuple[str, ...], role: str) -> tuple[str, ...]:
        """Return columns of another table by the names that they had in training, letter case forgiven.

        Raises:
            DataError: the table does not have one of them; the message names it, those there are, and the override.
        """
        if lack := self._lack(records, names):
            raise self._missing(records, names, role, lack)
        return tuple(found for name in names if (found := _match(records, name)) is not None)

    def has(self, records: Records, names: tuple[str, ...]) -> bool:
        """Return whether a table has all these columns of the training data."""
        return bool(names) and not self._lack(records, names)

    def _lack(self, records: Records, names: tuple[str, ...]) -> str:
        """Return what a table lacks to have these columns, '' where it has them."""
        if records.headerless and self.width not in (0, len(records.columns)):
            return f"it has no header line, so {_listed(names)} cannot be found by name"
        missing = [name for name in names if _match(records, name) is None]
        return f"it has no column {_listed(missing)}" if missing else ""

    def _missing(self, records: Records, names: tuple[str, ...], role: str, what: str) -> DataError:
        noun = f"its {'files' if role == 'path' else role} from column{'s' if len(names) > 1 else ''} {_listed(names)}"
        example = ",".join(["FIRST", "SECOND", "THIRD"][: len(names)]) if 1 < len(names) < 4 else "COLUMN"
        shown = ", ".join(records.columns[:20]) + (f", … ({len(records.columns)} in all)" if len(records.columns) > 20 else "")
        return DataError(
            f"{records.path}: the run was trained with {noun}, and {what} (columns: {shown}). Name the column to read: {role}={example}."
        )

    def check(self, rows: list[Row], where: str) -> None:
        """Refuse examples of one text where the run reads pairs, and pairs where it reads one text.

        Raises:
            DataError: saying how to name the columns.
        """
        if self.text_count is None or not rows:
            return
        text_count = len(rows[0].text) if rows[0].text is not None else 1
        if text_count == self.text_count:
            return
        trained = f" (columns {_listed(self.text)} of the training data)" if self.text else ""
        if self.text_count > 1:
            raise DataError(
                f"{where}: the run reads pairs of texts{trained}, and here each example has one text. "
                "Give a table with both texts and name them: text=FIRST,SECOND."
            )
        raise DataError(
            f"{where}: the run reads one text per example{trained}, and here each example has {text_count}. Name one: text=COLUMN."
        )


def _match(records: Records, name: str) -> str | None:
    if name in records.columns:
        return name
    same = [column for column in records.columns if column.strip().casefold() == name.strip().casefold()]
    return same[0] if len(same) == 1 else None


def _listed(names: tuple[str, ...] | list[str]) -> str:
    return " and ".join(map(repr, names))
