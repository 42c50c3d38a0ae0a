"""Lists whose columns are separated by spaces: `images/0.jpg 0`, and `__label__good a text`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from pretune.formats.files import modality_of
from pretune.sources.readers.records import Records
from pretune.types import LedgerEntry

_MARK = "__label__"
_SIGNS = ",;|\t"
_NEARLY_ALL = 0.9
_LOOKED_AT = 50
"""Lines that show whether a file may be such a list: most tables are none."""


def parse(path: Path, lines: dict[int, str], messages: list[str]) -> Records | None:
    """Return the records of lines that are such a list; None where they are not.

    Args:
        path: of the file.
        lines: those that are not blank, by their number, without line ends.
        messages: what was reported about the file before.
    """
    if not lines or not _may_be(list(lines.values())[:_LOOKED_AT]):
        return None
    if sum(line.startswith(_MARK) for line in lines.values()) >= _NEARLY_ALL * len(lines):
        rows = {number: _fasttext(line) for number, line in lines.items()}
        return _records(path, ["label", "text"], rows, [*messages, f"{path.name} has fastText labels (__label__)."])
    turned = {number: " ".join(reversed(line.split(" "))) for number, line in lines.items() if line.count(" ") == 1}
    if sum(map(_begins_with_file, lines.values())) >= _NEARLY_ALL * len(lines):
        rows = {number: _parts(line) for number, line in lines.items()}
    elif sum(map(_begins_with_file, turned.values())) >= _NEARLY_ALL * len(lines):
        rows = {number: _parts(turned.get(number, line)) for number, line in lines.items()}
    else:
        return None
    header = _header(rows)
    rests = [row[1].split() for row in rows.values() if len(row) > 1]
    if len({len(rest) for rest in rests}) == 1 and len(rests[0]) > 1 and _are_columns(rests):
        rows = {number: [row[0], *row[1].split()] if len(row) > 1 else row for number, row in rows.items()}
    width = Counter(map(len, rows.values())).most_common(1)[0][0]
    pairs = any(modality_of(part) for rest in rests for part in rest)
    names = header or ["column1" if pairs else "path", *(f"column{at}" if width > 2 else "label" for at in range(2, width + 1))]
    rest = "" if header else "; it has no header line"
    messages = [*messages, f"{path.name} lists files and their labels, separated by spaces{rest}."]
    records = _records(path, names, rows, messages)
    records.headerless = header is None
    return records


def _may_be(lines: list[str]) -> bool:
    listing = sum(line.startswith(_MARK) or any(map(modality_of, line.split(" "))) for line in lines)
    return listing >= len(lines) / 2


def _header(rows: dict[int, list[str]]) -> list[str] | None:
    """Take the first line away and return its words where it names the columns of a list."""
    first = next(iter(rows))
    words = rows[first][0].split()
    if len(rows[first]) > 1 or len(rows) < 2 or len(words) != 2:
        return None
    del rows[first]
    return words


def _records(path: Path, names: list[str], rows: dict[int, list[str]], messages: list[str]) -> Records:
    records = Records(path=path, columns=names, values=[], numbers=[], word="line", delimiter=" ", messages=messages)
    for number, row in rows.items():
        if len(row) == len(names):
            records.values.append([*row])
            records.numbers.append(number)
        else:
            detail = f"{path.name} line {number} has {len(row)} field{'s' * (len(row) != 1)} instead of {len(names)}"
            records.ledger.append(LedgerEntry(item=f"{path.name}:{number}", action="dropped", reason="ragged", detail=detail))
    return records


def _are_columns(rests: list[list[str]]) -> bool:
    """Return whether what follows a file name is several columns: numbers, or another file name."""
    numbers = all(_is_number(part) for rest in rests for part in rest)
    return numbers or sum(any(map(modality_of, rest)) for rest in rests) > 0.8 * len(rests)


def _begins_with_file(line: str) -> bool:
    """Return whether a line is a file name, one or more spaces, and something else."""
    row = _parts(line)
    return len(row) == 2 and not any(sign in row[0] for sign in _SIGNS)


def _parts(line: str) -> list[str]:
    """Return the file name that a line begins with, which may hold spaces, and the rest."""
    tokens = line.split(" ")
    for at in range(len(tokens)):
        if modality_of(tokens[at]) is not None:
            rest = " ".join(tokens[at + 1 :]).strip()
            return [" ".join(tokens[: at + 1]), *([rest] if rest else [])]
    return [line]


def _is_number(text: str) -> bool:
    return text.lstrip("-").replace(".", "", 1).isdecimal()


def _fasttext(line: str) -> list[str]:
    tokens = line.split(" ")
    labels = [token for token in tokens if token.startswith(_MARK)]
    rest = " ".join(token for token in tokens if not token.startswith(_MARK)).strip()
    return ["|".join(label.removeprefix(_MARK) for label in labels), rest]
