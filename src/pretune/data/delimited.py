"""CSV and its relatives as people have them: any delimiter, header or none, quotes that never close.

Python's `csv` module does the splitting, in strict mode; where it objects, the one record is read
literally or put in the ledger, and reading goes on with the next line. So an unclosed quote costs
one line, not the rest of the file.
"""

from __future__ import annotations

import csv
import io
import sys
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pretune.data import vocabulary
from pretune.data.numbers import is_number
from pretune.data.records import Records
from pretune.errors import BadItem, DataError
from pretune.modalities import _encodings
from pretune.modalities._formats import modality_of
from pretune.types import LedgerEntry

_DELIMITERS = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "vertical bars"}
_SAMPLE = 200
_LONGEST = 5000
"""Lines one quoted field may span; beyond, its quote counts as unclosed."""


@dataclass(frozen=True, slots=True)
class Line:
    """One record as split, and the line it starts at (from 1)."""

    number: int
    fields: list[str]
    problem: str | None = None


def parse(path: Path, raw: bytes, wanted: tuple[str, ...] = ()) -> Records:
    """Return the records of a delimited file.

    Raises:
        DataError: the bytes are no text.
    """
    text, said = decode(path, raw)
    lines = io.StringIO(text if "\n" in text else text.replace("\r", "\n"), newline="\n").readlines()
    delimiter = sniff(lines, path.suffix.lower())
    with unlimited_fields():
        split = [line for line in _split(lines, delimiter) if line.fields]
    if delimiter != {".tsv": "\t", ".tab": "\t"}.get(path.suffix.lower(), ","):
        said.append(f"{path.name} is separated by {_DELIMITERS[delimiter]}." if delimiter else f"{path.name} has one column.")
    header, body = _take_header(path, split, wanted, said)
    records = Records(path=path, columns=header, values=[], numbers=[], word="row", delimiter=delimiter, said=said)
    records.headerless = len(body) == len(split)
    suspect = "\0" in text or _encodings.damaged(text)
    for row, line in enumerate(body, start=1):
        _add(records, line, row, suspect=suspect)
    return records


def decode(path: Path, raw: bytes) -> tuple[str, list[str]]:
    """Return the text of a file (what is no text in it as lone surrogates), and a sentence where it is not plain UTF-8."""
    try:
        decoded = _encodings.decode(raw, keep_damage=True)
    except BadItem as error:
        raise DataError(f"{path} {error.detail}.") from None
    said = [] if decoded.encoding == "UTF-8" else [f"{path.name} was read as {decoded.encoding}."]
    return decoded.text.removeprefix("\ufeff"), said


# --- splitting -----------------------------------------------------------------------------------


@contextmanager
def unlimited_fields() -> Generator[None]:
    """Lift the csv module's limit of 128 kB a field while reading."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


class _Lines:
    """Feeds lines to a csv reader and stops a record that runs away."""

    def __init__(self, lines: list[str], start: int) -> None:
        self.lines = lines
        self.next = self.begin = start

    def __iter__(self) -> Iterator[str]:
        while self.next < len(self.lines):
            if self.next - self.begin > _LONGEST:
                raise csv.Error("unclosed quote")
            self.next += 1
            yield self.lines[self.next - 1]


def _split(lines: list[str], delimiter: str) -> Iterator[Line]:
    """Split lines into records, restarting after each one that is broken."""
    start = 0
    while start < len(lines):
        feed = _Lines(lines, start)
        try:
            for fields in csv.reader(feed, delimiter=delimiter or "\x1f", strict=True):
                yield from _record(lines, feed, fields, delimiter)
                feed.begin = feed.next
            return
        except csv.Error:
            at_end = feed.next >= len(lines) or feed.next - feed.begin > _LONGEST
            problem = "unclosed_quote" if at_end else "bad_quotes"
            yield Line(feed.begin + 1, _literal(lines[feed.begin], delimiter), problem)
            start = feed.begin + 1


def _record(lines: list[str], feed: _Lines, fields: list[str], delimiter: str) -> Iterator[Line]:
    """Yield a record; in a tab-separated file one of several lines, each complete by itself, has literal quotes."""
    spanned = lines[feed.begin : feed.next]
    if len(spanned) > 1 and delimiter == "\t" and all(line.count("\t") == len(fields) - 1 for line in spanned):
        for offset, line in enumerate(spanned):
            yield Line(feed.begin + offset + 1, _literal(line, delimiter))
    else:
        yield Line(feed.begin + 1, fields)


def _literal(line: str, delimiter: str) -> list[str]:
    line = line.rstrip("\r\n")
    return line.split(delimiter) if delimiter else [line]


def sniff(lines: list[str], suffix: str = "") -> str:
    """Return the delimiter that cuts the first lines most evenly, '' where none does."""
    sample = lines[:_SAMPLE]
    best, best_score = "", 0.5
    with unlimited_fields():
        for delimiter in _DELIMITERS:
            score = _evenness(sample, delimiter) * (1.2 if suffix == ".tsv" and delimiter == "\t" else 1.0)
            if score > best_score:
                best, best_score = delimiter, score
    return best


def _evenness(lines: list[str], delimiter: str) -> float:
    """Return the share of records with the commonest width, 0 where that is one; half where the first line differs."""
    widths = [len(line.fields) for line in _split(lines, delimiter) if line.fields and line.problem != "unclosed_quote"]
    if not widths:
        return 0.0
    width, count = max(Counter(widths).items(), key=lambda item: (item[1], item[0]))
    if width < 2:
        return 0.0
    return count / len(widths) * (1.0 if widths[0] in (width, width - 1) and widths[0] > 1 else 0.5)


# --- header --------------------------------------------------------------------------------------


def _take_header(path: Path, split: list[Line], wanted: tuple[str, ...], said: list[str]) -> tuple[list[str], list[Line]]:
    """Return column names and the records below them."""
    first = [cell.strip() for cell in split[0].fields]
    body = split[1:]
    width = Counter(len(line.fields) for line in body or split).most_common(1)[0][0]
    if not has_header(first, [line.fields for line in body[:_SAMPLE]], wanted):
        names = [f"column{i}" for i in range(1, width + 1)]
        said.append(f"{path.name} has no header line (the first line looks like data); its columns are called {', '.join(names)}.")
        return names, split
    if width == len(first) + 1:
        said.append(f"{path.name}: the header is one name short; the first column is taken for row names.")
        first = ["row", *first]
    if not any(vocabulary.plain(cell) in vocabulary.known() or cell in wanted for cell in first):
        said.append(f"{path.name}: the first line was taken for the header ({', '.join(first)}).")
    return _unique(first), body


def has_header(first: list[str], rest: list[list[str]], wanted: tuple[str, ...] = ()) -> bool:
    """Tell whether the first record names columns rather than being data.

    Data are given away by a number, a file name, a long sentence, or a value that its column repeats; of a single column, by three words.
    """
    cells = [cell.strip() for cell in first]
    if any(cell in wanted or vocabulary.plain(cell) in vocabulary.known() for cell in cells):
        return True
    if cells == [str(i) for i in range(len(cells))]:
        return True
    if len(cells) == 1 and len(cells[0].split()) > 2:
        return False
    if any(is_number(cell) or modality_of(cell) or len(cell) > 60 or len(cell.split()) > 8 for cell in cells):
        return False
    return not any(cell and _repeats(cell, [row[at].strip() for row in rest if at < len(row)]) for at, cell in enumerate(cells))


def _repeats(cell: str, column: list[str]) -> bool:
    return cell in column and len(set(column)) <= max(20, len(column) / 2)


def _unique(names: list[str]) -> list[str]:
    """Name blank columns by position and tell repeated names apart."""
    out: list[str] = []
    for position, name in enumerate(names, start=1):
        base = name or f"column{position}"
        out.append(base if base not in out else f"{base}.{out.count(base) + sum(n.startswith(base + '.') for n in out)}")
    return out


# --- records -------------------------------------------------------------------------------------


def _add(records: Records, line: Line, row: int, *, suspect: bool) -> None:
    """Append a record, or say in the ledger why it cannot be used; bytes that are no text are sought where `suspect`."""
    width = len(records.columns)
    problem = (_damage(line) if suspect else None) or _fault(line, width)
    if problem is None and len(line.fields) == width and line.problem is None:
        records.values.append([*line.fields])
        records.numbers.append(line.number)
        records.rows.append(row)
        return
    item, where = f"{records.name}:{line.number}", f"{records.name} line {line.number}"
    if problem is not None:
        records.ledger.append(LedgerEntry(item=item, action="dropped", reason=problem[0], detail=f"{where} {problem[1]}"))
        return
    if len(line.fields) > width:
        detail = f"{where} has {len(line.fields)} fields instead of {width}; the last ones are blank and were cut"
        records.ledger.append(LedgerEntry(item=item, action="repaired", reason="extra_blank_fields", detail=detail))
    if line.problem:
        detail = f"{where} has quotes that do not match; they were taken literally"
        records.ledger.append(LedgerEntry(item=item, action="repaired", reason="literal_quotes", detail=detail))
    records.values.append(list(line.fields[:width]))
    records.numbers.append(line.number)
    records.rows.append(row)


def _damage(line: Line) -> tuple[str, str] | None:
    if any("\0" in field for field in line.fields):
        return "nul_bytes", "holds NUL bytes"
    return ("bad_bytes", "holds bytes that are no text") if any(_encodings.damaged(field) for field in line.fields) else None


def _fault(line: Line, width: int) -> tuple[str, str] | None:
    """Return the slug and the words for a record that cannot be used."""
    fields = line.fields
    if line.problem == "unclosed_quote":
        return "unclosed_quote", "opens a quote that never closes"
    if len(fields) < width or any(field.strip() for field in fields[width:]):
        return "ragged", f"has {len(fields)} field{'s' if len(fields) != 1 else ''} instead of {width}"
    return None if "".join(fields).strip() else ("blank_row", "is blank")
