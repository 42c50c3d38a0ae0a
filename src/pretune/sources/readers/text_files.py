"""Text files that a layout reads one by one: their text, and one sentence for each encoding that is not plain UTF-8."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pretune.formats import encodings

_PLAIN = ("UTF-8", "UTF-8 with a byte order mark")
_SHOWN = 3
"""Files that a sentence names."""


@dataclass
class TextFiles:
    """Reads text files and remembers how."""

    encodings: dict[str, list[str]] = field(default_factory=dict)
    """Encoding -> the names of the files that have it, in the order they were read."""

    def read(self, path: Path, name: str, *, keep_damage: bool = False) -> str:
        """Return the text of a file, with U+FFFD where bytes are no text, unless damage is kept.

        Args:
            path: the file.
            name: what messages call it.
            keep_damage: leave bytes that are no text as lone surrogates, so that what holds them can be dropped.

        Raises:
            BadItem: it is no text, or its encoding cannot be determined.
            OSError: it cannot be read.
        """
        decoded = encodings.decode(path.read_bytes(), keep_damage=keep_damage)
        self.encodings.setdefault(decoded.encoding, []).append(name)
        return decoded.text.removeprefix("\ufeff")

    def messages(self) -> list[str]:
        """Return a sentence for each encoding that was guessed."""
        return [
            f"{_named(names)} read as {encoding}; save as UTF-8 where letters look wrong."
            for encoding, names in self.encodings.items()
            if encoding not in _PLAIN
        ]


def _named(names: list[str]) -> str:
    if len(names) == 1:
        return f"{names[0]} was"
    if len(names) <= _SHOWN:
        return f"{', '.join(names)} were"
    return f"{len(names):,} files ({', '.join(names[:_SHOWN])} …) were"
