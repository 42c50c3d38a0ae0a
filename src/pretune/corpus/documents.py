"""The documents of one file, a piece at a time: plain text in any encoding, JSON lines, Parquet."""

from __future__ import annotations

import codecs
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pretune.errors import BadItem, DataError
from pretune.formats import encodings
from pretune.sources import vocabulary
from pretune.sources.readers import arrow
from pretune.sources.split_names import split_of
from pretune.sources.table import Columns
from pretune.types import LedgerEntry

PIECE = 1 << 20
"""Bytes of a document that are held at a time, about."""
_PROBE = 1 << 20
"""Bytes by which an encoding is recognised."""
_LOOK = 32
"""Records by which it is found which fields are the text."""
_NAMES = ("text", "content", "document", "body", "sentence")
"""Fields that hold a document, where none is named."""
_CODECS = {"Windows-1252": "cp1252", "Latin-1": "latin-1", "GB18030": "gb18030", "UTF-16": "utf-16", "UTF-32": "utf-32"}

Piece = tuple[str, bool]
"""Some text, and whether its document ends here."""
Note = Callable[[LedgerEntry], None]
"""Called for each record that is dropped."""


# --- plain text ----------------------------------------------------------------------------------


def codec_of(path: Path) -> str:
    """Return the codec that a text file's beginning shows.

    Raises:
        BadItem: it is not text, or in an encoding that cannot be determined.
    """
    with path.open("rb") as stream:
        head = stream.read(_PROBE)
    found = encodings.decode(_whole(head) if len(head) == _PROBE else head)
    codec = _CODECS.get(found.encoding, "utf-8")
    if codec == "utf-16" and not head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16-be" if head[:1] == b"\0" else "utf-16-le"
    return codec


def codec_or_note(path: Path, note: Note) -> str | None:
    """Return a file's codec; None, and a note, where it is empty or no text."""
    try:
        codec = codec_of(path)
        size = path.stat().st_size
        if size > _PROBE or any(text.strip() for text, _ in text_file(path, codec)):
            return codec
        detail = "holds nothing but blanks" if size else "is an empty file"
        note(LedgerEntry(item=path.name, action="dropped", reason="empty", detail=detail))
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
    before, pending = "", ""
    with path.open("rb") as stream:
        while raw := stream.read(PIECE):
            if before:
                yield before, False
            text = pending + decoder.decode(raw)
            pending = "\r" if text.endswith("\r") else ""  # its line feed may come with the next piece
            before = _cleaned(text.removesuffix("\r"))
    yield before + _cleaned(pending + decoder.decode(b"", final=True)), True


def _cleaned(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\ufeff", "").replace("\f", "\n")


# --- records -------------------------------------------------------------------------------------

Records = Iterator[tuple[str, object]]
"""Where each record stands, and the record; a BadItem where it cannot be read."""


def json_lines(path: Path, codec: str, columns: Columns, note: Note) -> Iterator[Piece]:
    """Yield the document of each line; lines that are no JSON or hold no text are left out and noted.

    Raises:
        BadItem: nothing at its beginning is JSON with a text.
        DataError: it is not clear which field is the text.
    """
    yield from _documents(path, _lines(path, codec), columns, note)


def parquet(path: Path, columns: Columns, note: Note) -> Iterator[Piece]:
    """Yield the document of each record.

    Raises:
        BadItem: the file is broken, or nothing at its beginning holds a text.
        DataError: it is not clear which column is the text.
        MissingExtra: pyarrow is not installed.
    """
    records = (record for batch in arrow.batches(path) for record in batch)
    yield from _documents(path, ((f"{path.name}:{n}", record) for n, record in enumerate(records, start=1)), columns, note)


def _lines(path: Path, codec: str) -> Records:
    with path.open(encoding="utf-8-sig" if codec == "utf-8" else codec, errors="replace") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip("\ufeff \t\n"):
                continue
            try:
                yield f"{path.name}:{number}", json.loads(line.lstrip("\ufeff"))
            except (ValueError, RecursionError) as error:
                yield f"{path.name}:{number}", BadItem("broken_record", f"is not JSON ({error})")


def _documents(path: Path, records: Records, columns: Columns, note: Note) -> Iterator[Piece]:
    """Yield the documents of all records but those of val and test; what holds no text is noted."""
    head = list(itertools.islice(records, _LOOK))
    names = [name.strip() for name in columns.text.split(",")] if columns.text else _fields(path, [record for _, record in head])
    refused = [(where, error) for where, record in head if (error := _refusal(record, names)) is not None]
    if head and len(refused) == len(head):
        where, error = refused[0]
        raise BadItem(error.reason, f"holds no text at its beginning: {where} {error.detail}; each record must be an object with a text")
    for where, record in itertools.chain(head, records):
        if isinstance(record, dict) and split_of(record.get(columns.split or "split")) in ("val", "test"):
            continue
        error = _refusal(record, names)
        text = "" if error else _text(record, names).strip("\n")
        if not error and not text.strip():
            error = BadItem("empty", "holds no text")
        if error:
            note(LedgerEntry(item=where, action="dropped", reason=error.reason, detail=error.detail))
        else:
            yield encodings.replace_damage(_cleaned(text)), True


def _refusal(record: object, names: Sequence[str]) -> BadItem | None:
    """Return why a record can hold no text, if so; a text of nothing is another matter."""
    if isinstance(record, BadItem):
        return record
    if isinstance(record, str):
        return None
    if not isinstance(record, dict):
        return BadItem("broken_record", "is neither a text nor an object with one")
    values = [value for name in names for value in _values(record, name)]
    if not values:
        wanted = f"no field {' or '.join(map(repr, names))}" if names else "no field with a text"
        return BadItem("no_text_field", f"has {wanted} (it has: {', '.join(map(str, record)) or 'none'})")
    if any(value is not None and not isinstance(value, str) for value in values):
        return BadItem("no_text_field", f"holds something else than a text in {', '.join(names)}")
    return None


def _text(record: object, names: Sequence[str]) -> str:
    if isinstance(record, str):
        return record
    assert isinstance(record, dict)
    values = (value for name in names for value in _values(record, name))
    return "\n".join(value for value in values if isinstance(value, str) and value)


def _values(record: dict[str, object], name: str) -> list[object]:
    """Return what a field holds, in a list that is empty where there is no such field; `a.b` is field b of field a."""
    if name in record:
        return [record[name]]
    first, _, rest = name.partition(".")
    inner = record.get(first)
    return _values(inner, rest) if rest and isinstance(inner, dict) else []


def _fields(path: Path, records: Sequence[object]) -> list[str]:
    """Return the field that is the text by the records at a file's beginning: the usual one, else the only text among them.

    Raises:
        DataError: there are several, or it is a field of a field.
    """
    found = dict.fromkeys(name for record in records if isinstance(record, dict) for name in _text_columns(record))
    usual = [field for name in _NAMES for field in found if vocabulary.plain(field) == name and "." not in field]
    if usual or not found:
        return usual[:1]
    fields = list(found)
    if len(fields) > 1 or "." in fields[0]:
        raise DataError(f"{path}: it is not clear which field is the text ({', '.join(fields)}). Name it: text={fields[-1]}")
    return fields


def _text_columns(record: dict[str, object], before: str = "") -> Iterator[str]:
    """Yield the names of fields that hold text and do not only name the record or its part."""
    for key, value in record.items():
        plain = vocabulary.plain(str(key))
        if value is None and plain in _NAMES:
            yield f"{before}{key}"  # others may hold one
        elif isinstance(value, str) and not (plain in vocabulary.ID or plain.endswith("_id") or plain in vocabulary.SPLIT):
            yield f"{before}{key}"
        elif isinstance(value, dict):
            yield from _text_columns(value, f"{before}{key}.")
