"""The header line of a delimited file: which line it is, what lies above it, whether the records fit it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

from pretune.errors import DataError
from pretune.formats.files import modality_of
from pretune.sources import vocabulary
from pretune.sources.numbers import is_number
from pretune.sources.readers.quoting import SplitLine

_SAMPLE = 200
_ABOVE = 20
"""Lines at most above the header."""
_BY_PLACE = re.compile(r"column\d+")
"""What the columns of a table without a header line are called; whoever names one means such a table."""
_SEP = re.compile(r'\s*"?sep=(.)"?[;,\t|]*\s*', re.IGNORECASE)


# --- lines above ---------------------------------------------------------------------------------


def take_sep_line(lines: list[str]) -> str | None:
    """Return the delimiter that a first line such as `sep=;` names, and blank that line."""
    first = next((at for at, line in enumerate(lines[:3]) if line.strip()), None)
    match = _SEP.fullmatch(lines[first].rstrip("\r\n")) if first is not None else None
    if match is None or first is None:
        return None
    lines[first] = "\n"
    return match[1]


def below_comments(lines: list[str]) -> list[str]:
    """Return the lines below those at the top that begin with '#'; all of them where there are no others."""
    below = next((at for at, line in enumerate(lines) if line.strip() and not line.startswith("#")), 0)
    return lines[below:]


def take_comments(lines: list[str], delimiter: str, wanted: tuple[str, ...]) -> list[str]:
    """Blank the lines above the header that begin with '#', and return them; a header or data that begin so stay.

    A header that begins with '#' loses the sign.
    """
    leading = []
    for at, line in enumerate(lines):
        if line.strip() and not line.startswith("#"):
            break
        leading += [at] if line.strip() else []
    if not leading or leading[-1] + 1 >= len(lines):
        return []
    below = [_cells(line, delimiter) for line in lines[leading[-1] + 1 : leading[-1] + 1 + _SAMPLE] if line.strip()]
    last = _cells(lines[leading[-1]].lstrip("#"), delimiter)
    if len(last) == len(below[0]) > 1 and _known(last, wanted) and not _known(below[0], wanted):
        lines[leading[-1]] = lines[leading[-1]].lstrip("# ")
        leading.pop()
    elif not has_header(below[0], below[1:], wanted):
        return []
    taken = [lines[at].strip() for at in leading]
    for at in leading:
        lines[at] = "\n"
    return taken


def _cells(line: str, delimiter: str) -> list[str]:
    return [cell.strip().strip('"') for cell in (line.split(delimiter) if delimiter else [line])]


def _known(cells: list[str], wanted: tuple[str, ...]) -> int:
    return sum(cell in wanted or vocabulary.plain(cell) in vocabulary.known() for cell in map(str.strip, cells) if cell)


# --- which line ----------------------------------------------------------------------------------


def take_header(
    path: Path, records: list[SplitLine], wanted: tuple[str, ...], messages: list[str]
) -> tuple[list[str], list[SplitLine], dict[str, list[str]]]:
    """Return column names, the records below them, and the names of columns that are called alike.

    Raises:
        DataError: most records have another number of fields than the header.
    """
    at = _find(records, wanted)
    first = [cell.strip() for cell in records[at].fields]
    body = records[at + 1 :]
    width = common_width(body or records)
    if not has_header(first, [line.fields for line in body[:_SAMPLE]], wanted):
        names = [f"column{i}" for i in range(1, width + 1)]
        shown = ", ".join(names) if width <= _ABOVE else f"{names[0]} … {names[-1]}"
        messages.append(f"{path.name} has no header line (the first line looks like data); its columns are called {shown}.")
        return names, records, {}
    if at:
        shown = " ".join(filter(None, (cell.strip() for cell in records[0].fields)))
        messages.append(f"{path.name}: {at} line{'s' * (at > 1)} above the header ignored ({shown[:60]!r}).")
    while not first[-1] and len(first) > width:
        first.pop()
    first, body = _fitted(path, first, body, width, messages)
    if not any(vocabulary.plain(cell) in vocabulary.known() or cell in wanted for cell in first):
        messages.append(f"{path.name}: the first line was read as the header ({', '.join(first)}).")
    return _unique(first), body, _twins(first)


def common_width(records: list[SplitLine]) -> int:
    """Return the number of fields that most records have."""
    return Counter(len(line.fields) for line in records).most_common(1)[0][0]


def _find(records: list[SplitLine], wanted: tuple[str, ...]) -> int:
    """Return the position of the header: the first record, or one below titles and the like."""
    width = common_width(records)
    top = records[: _ABOVE + 1]
    filled = [sum(bool(cell.strip()) for cell in line.fields) for line in top]
    if width > 1 and not _known(top[0].fields, wanted):
        for at, line in enumerate(top[1:], start=1):
            if filled[at] >= 2 and _known(line.fields, wanted) >= 2 and len(line.fields) >= width - 1:
                return at
    at = next((at for at, count in enumerate(filled) if count == width), 0)
    below = [record.fields for record in records[at + 1 : at + 1 + _SAMPLE]]
    return at if width > 1 and below and has_header(records[at].fields, below, wanted) else 0


def has_header(first: list[str], rest: list[list[str]], wanted: tuple[str, ...] = ()) -> bool:
    """Return whether the first record names columns rather than being data.

    Data are given away by a number, a file name, a long sentence, or a value that its column repeats; of a single column, by three words.
    """
    cells = [cell.strip() for cell in first]
    if any(cell in wanted or vocabulary.plain(cell) in vocabulary.known() for cell in cells):
        return True
    if all(cells) and any(_BY_PLACE.fullmatch(name) for name in wanted):
        return False
    if cells == [str(i) for i in range(len(cells))]:
        return True
    if len(cells) == 1 and len(cells[0].split()) > 2:
        return False
    if any(is_number(cell) or modality_of(cell) or len(cell) > 60 or len(cell.split()) > 8 for cell in cells):
        return False
    return not any(cell and _repeats(cell, [row[at].strip() for row in rest if at < len(row)]) for at, cell in enumerate(cells))


def _repeats(cell: str, column: list[str]) -> bool:
    return cell in column and len(set(column)) <= max(20, len(column) / 2)


# --- whether records fit it ----------------------------------------------------------------------


def _fitted(path: Path, first: list[str], body: list[SplitLine], width: int, messages: list[str]) -> tuple[list[str], list[SplitLine]]:
    """Return header and records of one width where the records have more fields: blank ones at the end, or row names.

    Raises:
        DataError: the fields that the header does not name hold something.
    """
    names = len(first)
    if width <= names:
        return first, body
    longer = [line for line in body if len(line.fields) == width]
    if sum(not any(cell.strip() for cell in line.fields[names:]) for line in longer) > 0.9 * len(longer):
        messages.append(f"{path.name}: the data lines end in a delimiter, which the header does not; the blank last field was ignored.")
        return first, [line if any(map(str.strip, line.fields[names:])) else replace(line, fields=line.fields[:names]) for line in body]
    if width == names + 1 and _are_row_names([line.fields[0].strip() for line in longer]):
        messages.append(f"{path.name}: the header is one name short; the first column was read as row names.")
        return ["row", *first], body
    example = longer[0]
    raise DataError(
        f"{path}: most lines have {width} fields, and the header names {names} ({', '.join(first[:8])}); the first such is line "
        f"{example.number}. Put quotes around fields that hold the delimiter, or name every column in the header."
    )


def _are_row_names(values: list[str]) -> bool:
    """Return whether values only name rows: each is there once, and all are whole numbers or all are short and hold no sentence."""
    if len(set(values)) < len(values):
        return False
    return all(value.isdecimal() for value in values) or all(value and len(value) <= 40 and len(value.split()) < 4 for value in values)


def _unique(names: list[str]) -> list[str]:
    """Name blank columns by position and number repeated names."""
    out: list[str] = []
    for position, name in enumerate(names, start=1):
        base = name or f"column{position}"
        out.append(base if base not in out else f"{base}.{out.count(base) + sum(n.startswith(base + '.') for n in out)}")
    return out


def _twins(names: list[str]) -> dict[str, list[str]]:
    """Return the columns that are called alike, letter case apart, by the name that they share."""
    alike: dict[str, list[str]] = {}
    for name, column in zip(names, _unique(names), strict=True):
        alike.setdefault(name.casefold(), []).append(column)
    return {name: columns for name, columns in alike.items() if name and len(columns) > 1}
