r"""Text that others chose (names of files, classes, columns) as a person may read it: nothing in it can hide or disturb.

Control characters, direction marks, invisible characters and undecodable bytes are written out (`\x1b`, `\u202e`), so that no
name can move a terminal's cursor, turn a line around, or look like another name. All else stays as it is.
"""

from __future__ import annotations

import json
import re
import shlex
import unicodedata
from typing import Any

_HIDDEN = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
"""Categories of Unicode that have no sign of their own: control, format, surrogate, separators of lines and paragraphs."""
_LONGEST = 100
_JOINERS = "\u200c\u200d"
"""Invisible, but parts of words and of emoji."""


def printable(text: str, keep: str = "") -> str:
    r"""Return text with every character that cannot be seen written out; `keep` names those that may stay, e.g. "\n"."""
    if text.isprintable():
        return text
    return "".join(character if _is_visible(character) or character in keep else _written_out(character) for character in text)


def _is_visible(character: str) -> bool:
    return character in _JOINERS or unicodedata.category(character) not in _HIDDEN


def _written_out(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte of a file's name that is no UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def shell_word(text: str) -> str:
    """Return text as one word of a shell's command line: printable, and the same text when it is pasted."""
    if printable(text) == text:
        return shlex.quote(text)
    return "$'" + "".join(_in_quotes(character) for character in text) + "'"


def path_word(path: str) -> str:
    """Return a path as one word of a shell's command line, which no program takes for an option."""
    return shell_word(f"./{path}" if path.startswith("-") else path)


def _in_quotes(character: str) -> str:
    r"""Return a character as bash, zsh and ksh read it between $' and '."""
    if character in "\\'":
        return f"\\{character}"
    if _is_visible(character):
        return character
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))


def file_name(text: str) -> str:
    """Return text as a part of the name of one file, in whatever folder: its letters, digits, '.', '_' and '-', at most 100 bytes."""
    name = re.sub(r"[^\w.-]+", "_", text).strip("._-")
    return name.encode()[:_LONGEST].decode(errors="ignore")


def json_text(value: Any, *, indent: int | None = None) -> str:
    r"""Return a value as JSON that a person can read too: what cannot be seen is written as \uXXXX, which reads back as it was."""
    text = json.dumps(value, ensure_ascii=False, default=str, indent=indent)
    if text.isascii() and "\x7f" not in text:  # json.dumps has written the other control characters out
        return text
    return re.sub(r"[^\n\x20-\x7e]", lambda match: match[0] if _is_visible(match[0]) else _as_json(match[0]), text)


def _as_json(character: str) -> str:
    return json.dumps(character)[1:-1]
