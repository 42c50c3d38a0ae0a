"""The documents of one file, a piece at a time: plain text in any encoding, JSON lines, Parquet."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from pretune.data import arrow
from pretune.data.parts import part_of
from pretune.data.table import Columns
from pretune.errors import BadItem, DataError
from pretune.modalities import _encodings
from pretune.types import LedgerEntry

PIECE = 1 << 20
"""Bytes of a document that are held at a time, about."""
_PROBE = 1 << 20
"""Bytes by which an encoding is told."""
_NAMES = ("text", "content", "document", "body", "sentence")
"""Fields that hold a document, where none is named."""
_CODECS = {"Windows-1252": "cp1252", "Latin-1": "latin-1", "GB18030": "gb18030", "UTF-16": "utf-16", "UTF-32": "utf-32"}

Piece = tuple[str, bool]
"""Some text, and whether its document ends here."""
Note = Callable[[LedgerEntry], None]
"""Who is told of a record that is left out."""


# --- plain text ----------------------------------------------------------------------------------


def codec_of(path: Path) -> str:
    """Return the codec that a text file's beginning shows.

    Raises:
        BadItem: it is not text, or in an encoding that cannot be told.
    """
    with path.open("rb") as stream:
        head = stream.read(_PROBE)
    found = _encodings.decode(_whole(head) if len(head) == _PROBE else head)
    codec = _CODECS.get(found.encoding, "utf-8")
    if codec == "utf-16" and not head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16-be" if head[:1] == b"\0" else "utf-16-le"
    return codec


def codec_or_note(path: Path, note: Note) -> str | None:
    """Return a file's codec; None, and a note, where it is empty or no text."""
    try:
        if path.stat().st_size:
            return codec_of(path)
        note(LedgerEntry(item=path.name, action="dropped", reason="empty", detail="is an empty file"))
    except BadItem as error:
        note(LedgerEntry(item=path.name, action="dropped", reason=error.reason, detail=error.detail))
    return None


def _whole(head: bytes) -> bytes:
    """Cut a file's beginning where no character goes on: a character that is cut in two looks like another encoding."""
    if b"\0" in head:
        return head[: len(head) - len(head) % 4]
    return head[: max(head.rfind(mark) for mark in (b"\n", b" ", b"\r")) + 1] or head


def text_file(path: Path, codec: str) -> Iterator[Piece]:
    r"""Yield one file's text: line ends become "\n"; marks of byte order and form feeds go; what is no text is U+FFFD."""
    decoder = codecs.getincrementaldecoder(codec)("replace")
    before, held = "", ""
    with path.open("rb") as stream:
        while raw := stream.read(PIECE):
            if before:
                yield before, False
            text = held + decoder.decode(raw)
            held = "\r" if text.endswith("\r") else ""  # its line feed may come with the next piece
            before = _cleaned(text.removesuffix("\r"))
    yield before + _cleaned(held + decoder.decode(b"", final=True)), True


def _cleaned(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\ufeff", "").replace("\f", "\n")


# --- records -------------------------------------------------------------------------------------


def json_lines(path: Path, columns: Columns, note: Note) -> Iterator[Piece]:
    """Yield the document of each line; lines that are no JSON or hold no text are left out and noted.

    Raises:
        DataError: the first line is no JSON, or it is not clear which field is the text.
    """
    good = False
    with path.open(encoding="utf-8-sig", errors="replace") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            where = f"{path.name}:{number}"
            try:
                record = json.loads(line)
            except ValueError as error:
                if not good:
                    raise DataError(f"{path}:{number} is not JSON ({error}).") from None
                note(LedgerEntry(item=where, action="dropped", reason="broken_record", detail=f"is not JSON ({error})"))
                continue
            good = True
            yield from _document(record, columns, where, note)


def parquet(path: Path, columns: Columns, note: Note) -> Iterator[Piece]:
    """Yield the document of each record.

    Raises:
        DataError: the file is broken, or it is not clear which column is the text.
        MissingExtra: pyarrow is not installed.
    """
    number = 0
    for batch in arrow.batches(path):
        for record in batch:
            number += 1
            yield from _document(record, columns, f"{path.name}:{number}", note)


def _document(record: object, columns: Columns, where: str, note: Note) -> Iterator[Piece]:
    """Yield a record's document, unless it belongs to another part than train."""
    if isinstance(record, dict) and part_of(record.get(columns.split or "split")) in ("val", "test"):
        return
    text = _field(record, columns, where).strip("\n")
    if text.strip():
        yield _encodings.replace_damage(_cleaned(text)), True
    else:
        note(LedgerEntry(item=where, action="dropped", reason="empty", detail="holds no text"))


def _field(record: object, columns: Columns, where: str) -> str:
    """Return a record's text: the named fields, else the usual one, else its only text; '' where that is null."""
    if isinstance(record, str):
        return record
    if not isinstance(record, dict):
        raise DataError(f"{where} is neither a text nor an object with one.")
    names = [name.strip() for name in columns.text.split(",")] if columns.text else [name for name in _NAMES if name in record][:1]
    if not names:
        names = [key for key, value in record.items() if isinstance(value, str)]
        names = names if len(names) == 1 else []
    values = [record.get(name, 0) for name in names]
    if not names or not all(value is None or isinstance(value, str) for value in values):
        raise DataError(f"{where}: it is not clear which field is the text ({', '.join(map(str, record))}). Name it: text=…")
    return "\n".join(value for value in values if value)
