"""What one column of a manifest looks like, by its name and its values."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from pretune.formats.files import modality_of
from pretune.sources import vocabulary
from pretune.sources.notation import notation_of
from pretune.sources.numbers import number
from pretune.sources.readers.encoded import InlineCell
from pretune.sources.readers.records import Value
from pretune.storage.cells import TableCell

_INVISIBLE = str.maketrans("", "", "\u200b\u200c\u200d\u2060\ufeff")
_FLAG = frozenset(("0", "1", "0.0", "1.0", "true", "false"))
_HINTS = ("label", "labels", "class", "classes", "category", "categories", "target", "targets", "sentiment")


class Column:
    """What one column looks like, from a sample."""

    def __init__(self, name: str, values: list[Value]) -> None:
        self.name = name
        self.plain = vocabulary.plain(name)
        self.lists = sum(isinstance(value, list | tuple) for value in values)
        self.strings = [text for text in map(as_text, values) if text]
        self.total = len(values)

    @functools.cached_property
    def distinct(self) -> int:
        """Number of different texts."""
        return len(set(self.strings))

    @functools.cached_property
    def length(self) -> float:
        """Mean characters of a text, of which 500 count."""
        return sum(min(len(text), 500) for text in self.strings) / max(1, len(self.strings))

    @functools.cached_property
    def numeric(self) -> float:
        """Share of the texts that are numbers."""
        notation = notation_of(self.strings)
        return sum(notation.number(text) is not None or number(text) is not None for text in self.strings) / max(1, len(self.strings))

    @functools.cached_property
    def media(self) -> float:
        """Share of the texts that are names of files."""
        return sum(modality_of(text) is not None for text in self.strings) / max(1, len(self.strings))

    @property
    def binary(self) -> bool:
        """Whether there is nothing but 0 and 1, or true and false."""
        return bool(self.strings) and {text.casefold() for text in self.strings} <= _FLAG

    @property
    def reads_as_text(self) -> bool:
        """Whether the column holds texts of several words, most of them different."""
        words = sum(" " in text for text in self.strings)
        return words >= 0.5 * max(1, len(self.strings)) and self.distinct > 0.3 * len(self.strings) and not self.identifies

    @property
    def identifies(self) -> bool:
        """Whether the column's name says that it only names the rows."""
        return self.plain in vocabulary.ID or (self.plain.endswith("_id") and not is_label_name(self.plain))


def as_text(value: Value) -> str:
    """Return a scalar as stripped text, '' for None, NaN, lists and files."""
    if isinstance(value, str):
        return value.strip()
    if value is None or isinstance(value, list | tuple | dict | TableCell | InlineCell) or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value).strip()


def text_fault(values: Sequence[Value]) -> tuple[str, str] | None:
    """Return the reason, and the words that continue 'row 19 …', why values give no text to learn from; None where each is one."""
    if any(isinstance(value, list | tuple) for value in values):
        return "nested_text", "has a list where one text belongs"
    if any(len(text) < 100 and not text.translate(_INVISIBLE).strip() for text in map(as_text, values)):
        return "empty_text", "has an empty text"
    return None


def is_text_name(plain: str) -> bool:
    """Return whether a plain column name says text."""
    return plain in vocabulary.TEXT or any(token in ("text", "sentence", "review", "comment", "content") for token in plain.split("_"))


def is_label_name(plain: str) -> bool:
    """Return whether a plain column name says label."""
    return plain in vocabulary.LABEL or any(token in _HINTS for token in plain.split("_"))
