"""Lists whose columns are separated by spaces: `images/0.jpg 0`, and `__label__good a text`."""

from __future__ import annotations

from pretune.data.quoting import Line
from pretune.modalities._formats import modality_of

_MARK = "__label__"
_SIGNS = ",;|\t"


def split(lines: list[str]) -> tuple[list[str] | None, list[Line], str] | None:
    """Return column names (None: by number), records and a sentence where lines are such a list; None where they are not."""
    filled = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
    if not filled:
        return None
    if sum(line.startswith(_MARK) for _, line in filled) >= 0.9 * len(filled):
        return ["label", "text"], [Line(number, _fasttext(line)) for number, line in filled], "has fastText labels (__label__)"
    first = sum(_begins_with_file(line) for _, line in filled)
    last = sum(_begins_with_file(" ".join(reversed(line.split(" ")))) and line.count(" ") == 1 for _, line in filled)
    if max(first, last) < 0.8 * len(filled):
        return None
    rows = [(number, _parts(line) if first >= last else line.split(" ")) for number, line in filled]
    rests = [row[1].split() for _, row in rows if len(row) > 1]
    if rests and len({len(rest) for rest in rests}) == 1 and len(rests[0]) > 1 and _are_columns(rests):
        rows = [(number, [row[0], *row[1].split()] if len(row) > 1 else row) for number, row in rows]
    header = None
    if not _begins_with_file(filled[0][1]) and first >= last and len(filled[0][1].split()) == len(rows[1][1]):
        header, rows = filled[0][1].split(), rows[1:]
    return header, [Line(number, row) for number, row in rows], "is separated by spaces"


def _are_columns(rests: list[list[str]]) -> bool:
    """Tell whether what follows a file name is several columns: numbers, or another file name."""
    numbers = all(_is_number(part) for rest in rests for part in rest)
    return numbers or sum(any(map(modality_of, rest)) for rest in rests) > 0.8 * len(rests)


def _begins_with_file(line: str) -> bool:
    """Tell whether a line is a file name, one or more spaces, and something else."""
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
