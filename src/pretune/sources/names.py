"""Names in one form: of classes, and of files as manifests write them and as they are on disk."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import unquote, unquote_plus

from pretune.types import Row, Structured, Target


def composed(name: str) -> str:
    """Return a name in the Unicode form NFC: 'e' and a combining accent are one character, as keyboards write it."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def folded(name: str) -> str:
    """Return what names are compared by where letter case and Unicode form differ between systems."""
    return composed(name).casefold()


def variants(value: str) -> list[str]:
    """Return the ways to read a path as written, with '/': as it is, without percent-encoding, of an address its path."""
    value = value.replace("\\", "/")
    if re.match("file:/", value, re.I):
        value = unquote(value[5:]).lstrip("/").removeprefix("localhost/")
        value = value if re.match("[A-Za-z]:/", value) else f"/{value}"
    elif remote := re.match(r"[a-z][a-z0-9+]+://[^/]*/", value, re.I):
        value = re.split(r"[?#]", value[remote.end() :])[0]
    elif "/local-files/?d=" in value:  # Label Studio's address of a local file
        value = value.partition("?d=")[2]
    plain = value.removeprefix("./")
    return list(dict.fromkeys((plain, unquote(plain), unquote_plus(plain)))) if re.search(r"%[0-9A-Fa-f]{2}|\+", plain) else [plain]


def names_of(row: Row) -> tuple[str, ...]:
    """Return the class names of a row; () for numbers and unlabelled rows."""
    return names_in(row.target)


def names_in(target: Target) -> tuple[str, ...]:
    """Return the class names in a target; () for numbers and where there is none."""
    if isinstance(target, Structured):
        return target.names
    if isinstance(target, tuple):
        return target
    return (target,) if isinstance(target, str) else ()
