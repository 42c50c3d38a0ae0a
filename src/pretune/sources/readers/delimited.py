"""CSV and its relatives as people have them: any delimiter, header or none, titles above it, quotes that never close."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

from pretune.errors import BadItem, DataError
from pretune.formats import encodings
from pretune.sources.readers import spaced
from pretune.sources.readers.header import below_comments, common_width, take_comments, take_header, take_sep_line
from pretune.sources.readers.quoting import Quoting, SplitLine, choose, split, unlimited_fields
from pretune.sources.readers.records import Records
from pretune.types import LedgerEntry

_DELIMITERS = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "vertical bars"}
_RARE = ("|||", "||", "::", "~", "^", "\x01", "\x1f")
_STAND_IN = "\x1f"
"""What stands in for a delimiter of several signs while a file is split."""
_SAMPLE = 200
_TIE = 0.005
"""What decides between two signs that cut the lines equally well."""
_TITLES = 20
"""Lines at most above the header."""


def parse(path: Path, raw: bytes, wanted: tuple[str, ...] = ()) -> Records:
    """Return the records of a delimited file.

    Raises:
        DataError: the bytes are no text, or most lines do not fit the header.
    """
    text, messages = decode(path, raw)
    lines = io.StringIO(text if "\n" in text else text.replace("\r", "\n"), newline="\n").readlines()
    named = take_sep_line(lines)
    delimiter = named or sniff(below_comments(lines)[:_SAMPLE], path.suffix.lower())
    rare = "" if delimiter else _rare_sign(lines)
    if rare:
        lines, delimiter = [line.replace(rare, _STAND_IN) for line in lines], _STAND_IN
    if delimiter != "\t" and not named and (listed := spaced.parse(path, _filled(lines), messages)) is not None:
        return listed
    comments = take_comments(lines, delimiter, wanted)
    found = _split(path, lines, delimiter, messages)
    if not found:
        raise DataError(f"{path} has no rows. It needs a line per example below the header.")
    if named or delimiter != {".tsv": "\t", ".tab": "\t"}.get(path.suffix.lower(), ","):
        words = _DELIMITERS.get(delimiter, repr(rare or delimiter))
        messages.append(
            f"{path.name} is separated by {words}{' (sep=)' if named else ''}." if delimiter else f"{path.name} has one column."
        )
    if comments:
        messages.append(f"{path.name}: {len(comments)} line{'s' * (len(comments) > 1)} above the header ignored ({comments[0][:60]!r}).")
    header, body, twins = take_header(path, found, wanted, messages)
    records = Records(path=path, columns=header, values=[], numbers=[], word="row", delimiter=delimiter, twins=twins, messages=messages)
    records.headerless = len(body) == len(found)
    _fill(records, found, body, suspect="\0" in text or encodings.damaged(text))
    _settle_twins(records)
    return records


def _rare_sign(lines: list[str]) -> str:
    """Return a sign that hardly any text holds and that every line has as often, '' where there is none."""
    filled = [line for line in lines if line.strip()]
    for sign in _RARE:
        counts = Counter(line.count(sign) for line in filled)
        count, often = counts.most_common(1)[0]
        if count and often >= 0.95 * len(filled):
            return sign
    return ""


def _filled(lines: list[str]) -> dict[int, str]:
    return {number: line.strip() for number, line in enumerate(lines, start=1) if line.strip()}


def _split(path: Path, lines: list[str], delimiter: str, messages: list[str]) -> list[SplitLine]:
    """Return the records of lines; those with stray quotes divided like the others."""
    with unlimited_fields():
        quoting, words = choose(lines, delimiter)
        lines = quoting.plain(lines)
        found = [line for line in split(lines, quoting) if line.fields]
        if (found and any(line.problem for line in found)) or len({len(line.fields) for line in found}) > 1:
            found = [line for line in split(lines, quoting, common_width(found)) if line.fields]
    if words:
        messages.append(f"{path.name}: {words}.")
    return found


def _fill(records: Records, found: list[SplitLine], body: list[SplitLine], *, suspect: bool) -> None:
    """Take the records below the header; one that says the header again is named in the ledger."""
    again = [] if records.headerless else _plainly(found[len(found) - len(body) - 1].fields)
    for row, line in enumerate(body, start=1):
        if again and _plainly(line.fields) == again:
            _drop(records, line, "repeated_header", "says the header again")
        else:
            _add(records, line, row, suspect=suspect)
    repeats = sum(entry.reason == "repeated_header" for entry in records.ledger)
    if repeats:
        records.messages.append(f"{records.name}: {repeats} repeated header line{'s' * (repeats > 1)} ignored.")


def _plainly(fields: list[str]) -> list[str]:
    return [field.strip().casefold() for field in fields]


def _settle_twins(records: Records) -> None:
    """Drop copies of columns that are called alike and hold the same."""
    for name, columns in list(records.twins.items()):
        first = records.column(columns[0])
        copies = {column for column in columns[1:] if records.column(column) == first}
        kept = [at for at, column in enumerate(records.columns) if column not in copies]
        records.columns = [records.columns[at] for at in kept]
        records.values = [[values[at] for at in kept] for values in records.values] if copies else records.values
        records.twins[name] = [column for column in columns if column not in copies]
        if copies:
            records.messages.append(f"{records.name}: {len(copies) + 1} columns are called {name!r} and hold the same; one is read.")
    records.twins = {name: columns for name, columns in records.twins.items() if len(columns) > 1}


def decode(path: Path, raw: bytes) -> tuple[str, list[str]]:
    """Return the text of a file (what is no text in it as lone surrogates), and a sentence where it is not plain UTF-8."""
    try:
        decoded = encodings.decode(raw, keep_damage=True)
    except BadItem as error:
        raise DataError(f"{path} {error.detail}.") from None
    messages = [] if decoded.encoding == "UTF-8" else [f"{path.name} was read as {decoded.encoding}."]
    return decoded.text.removeprefix("\ufeff"), messages


def sniff(lines: list[str], suffix: str = "") -> str:
    """Return the delimiter that cuts the first lines most evenly, '' where none does."""
    sample = lines[:_SAMPLE]
    best, best_score = "", 0.5
    with unlimited_fields():
        for delimiter in _DELIMITERS:
            score = _evenness(sample, delimiter) * (1.2 if suffix == ".tsv" and delimiter == "\t" else 1.0)
            score -= _TIE * _spaced(sample, delimiter)
            if score > best_score:
                best, best_score = delimiter, score
    return best


def _spaced(lines: list[str], delimiter: str) -> float:
    """Return the share of a sign's places that a space follows, as it follows the commas of running text."""
    count = sum(line.count(delimiter) for line in lines)
    return sum(line.count(f"{delimiter} ") for line in lines) / count if count else 0.0


def _evenness(lines: list[str], delimiter: str) -> float:
    """Return the share of records with the commonest width, 0 where that is one; half where the first line differs.

    A few narrower lines above records that are all alike are titles, and are not counted.
    """
    widths = [len(line.fields) for line in split(lines, Quoting(delimiter=delimiter)) if line.fields and line.problem != "unclosed_quote"]
    if not widths:
        return 0.0
    width, count = max(Counter(widths).items(), key=lambda item: (item[1], item[0]))
    if width < 2:
        return 0.0
    above = next((at for at, found in enumerate(widths) if found in (width, width - 1) and found > 1), 0)
    if 0 < above <= min(_TITLES, len(widths) // 2) and count >= 0.9 * (len(widths) - above):
        return (0.95 - 0.01 * above) * count / (len(widths) - above)
    return count / len(widths) * (1.0 if above == 0 and widths[0] in (width, width - 1) and widths[0] > 1 else 0.5)


# --- records -------------------------------------------------------------------------------------


def _add(records: Records, line: SplitLine, row: int, *, suspect: bool) -> None:
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
        _drop(records, line, *problem)
        return
    if len(line.fields) > width:
        detail = f"{where} has {len(line.fields)} fields instead of {width}; the last ones are blank and were cut"
        records.ledger.append(LedgerEntry(item=item, action="repaired", reason="extra_blank_fields", detail=detail))
    if line.problem:
        stray = line.problem == "stray_quotes"
        words = (
            "has stray quotes; they were kept as part of the text" if stray else "has quotes that do not match; they were read literally"
        )
        reason = "stray_quotes" if stray else "literal_quotes"
        records.ledger.append(LedgerEntry(item=item, action="repaired", reason=reason, detail=f"{where} {words}"))
    records.values.append(list(line.fields[:width]))
    records.numbers.append(line.number)
    records.rows.append(row)


def _drop(records: Records, line: SplitLine, reason: str, words: str) -> None:
    detail = f"{records.name} line {line.number} {words}"
    records.ledger.append(LedgerEntry(item=f"{records.name}:{line.number}", action="dropped", reason=reason, detail=detail))


def _damage(line: SplitLine) -> tuple[str, str] | None:
    if any("\0" in field for field in line.fields):
        return "nul_bytes", "holds NUL bytes"
    return ("bad_bytes", "holds bytes that are no text") if any(encodings.damaged(field) for field in line.fields) else None


def _fault(line: SplitLine, width: int) -> tuple[str, str] | None:
    """Return the slug and the words for a record that cannot be used."""
    fields = line.fields
    if line.problem == "unclosed_quote":
        return "unclosed_quote", "opens a quote that never closes"
    if len(fields) < width or any(field.strip() for field in fields[width:]):
        return "ragged", f"has {len(fields)} field{'s' if len(fields) != 1 else ''} instead of {width}"
    return None if "".join(fields).strip() else ("blank_row", "is blank")
