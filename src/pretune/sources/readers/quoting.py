"""How a delimited file quotes its fields, and lines whose quotes do not match.

Python's `csv` module does the splitting, in strict mode; where it objects, the one record is read by the only division into
the right number of fields, literally, or put in the ledger, and reading goes on with the next line. So an unclosed quote
costs one line, not the rest of the file.
"""

from __future__ import annotations

import csv
import re
import sys
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_LONGEST = 5000
"""Lines one quoted field may span; beyond, its quote counts as unclosed."""
_JOINED = 20
"""Lines that a record with a stray quote may span."""
_TRIED = 20_000
"""Lines by which the way of quoting is chosen."""
_STEPS = 2000
"""Divisions that are tried for a line whose quotes do not match."""
_ESCAPED = re.compile(r'(?<!\\)((?:\\\\)*)\\"')


@dataclass(frozen=True, slots=True)
class SplitLine:
    """One record as split, and the line it starts at (from 1)."""

    number: int
    fields: list[str]
    problem: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Quoting:
    """How the fields of one file are quoted."""

    delimiter: str
    quote: str = '"'
    spaces: bool = False
    """Spaces after a delimiter are no part of the field: a, "b"."""
    backslash: bool = False
    """Quotes inside a field have a backslash before them, and are not doubled."""

    def plain(self, lines: list[str]) -> list[str]:
        """Return the lines with doubled quotes in place of escaped ones."""
        return [_ESCAPED.sub(r'\1""', line) if '\\"' in line else line for line in lines] if self.backslash else lines


def choose(lines: list[str], delimiter: str) -> tuple[Quoting, str]:
    """Return the way of quoting that leaves the fewest broken or uneven records, and a message about it ('' for the usual one)."""
    sample = lines[:_TRIED]
    usual = Quoting(delimiter=delimiter)
    others = {
        Quoting(delimiter=delimiter, backslash=True): "quotes inside its fields are escaped with a backslash",
        Quoting(delimiter=delimiter, spaces=True): "the spaces after its delimiters were ignored",
        Quoting(delimiter=delimiter, quote="'"): "its fields are in single quotes",
    }
    single = sum(line.startswith("'") or line.rstrip().endswith("'") for line in sample) > 0.5 * len(sample)
    possible = [any('\\"' in line for line in sample), _has_spaces(sample, usual), single and bool(delimiter)]
    best, words, least = usual, "", _broken(sample, usual)
    for (quoting, message), is_possible in zip(others.items(), possible, strict=True):
        if not is_possible:
            continue
        count = _broken(sample, quoting)
        if count < least or (count == least and (quoting.spaces or quoting.quote == "'")):
            best, words, least = quoting, message, count
    return best, words


def _has_spaces(lines: list[str], usual: Quoting) -> bool:
    """Return whether quoted fields come after a delimiter and a space; a delimiter, a space and a quote inside a field are text."""
    if not usual.delimiter or not any(f'{usual.delimiter} "' in line for line in lines):
        return False
    return any(field.startswith(' "') for line in split(lines, usual) for field in line.fields)


def _broken(lines: list[str], quoting: Quoting) -> int:
    """Count the records that are broken, uneven, or hold a quote at an edge of a field."""
    split_lines = [line for line in split(quoting.plain(lines), quoting) if line.fields]
    width = Counter(len(line.fields) for line in split_lines).most_common(1)[0][0] if split_lines else 0
    return sum(line.problem is not None or len(line.fields) != width or _edged(line.fields) for line in split_lines)


def _edged(fields: list[str]) -> bool:
    return any(field.strip()[:1] in ('"', "'") and len(field.strip()) > 1 and field.strip()[-1:] == field.strip()[0] for field in fields)


@contextmanager
def unlimited_fields() -> Generator[None]:
    """Lift the csv module's limit of 128 kB a field while reading."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


# --- splitting -----------------------------------------------------------------------------------


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


def split(lines: list[str], quoting: Quoting, width: int | None = None) -> Iterator[SplitLine]:
    """Split lines into records, restarting after each one that is broken.

    Args:
        lines: with their line ends.
        quoting: how fields are quoted; its `plain` has been applied.
        width: fields that a record should have; where it is known, records with stray quotes are divided by it.
    """
    start = 0
    while start < len(lines):
        feed = _Lines(lines, start)
        reader = csv.reader(
            feed, delimiter=quoting.delimiter or "\x1f", quotechar=quoting.quote, skipinitialspace=quoting.spaces, strict=True
        )
        try:
            for fields in reader:
                yield from _record(feed, fields, quoting, width)
                feed.begin = feed.next
            return
        except csv.Error:
            at_end = (feed.next >= len(lines) and feed.next - feed.begin > 1) or feed.next - feed.begin > _LONGEST
            count, line = _mended(feed, quoting, width, unclosed=at_end or feed.next >= len(lines))
            yield line
            start = feed.begin + count


def _record(feed: _Lines, fields: list[str], quoting: Quoting, width: int | None) -> Iterator[SplitLine]:
    """Yield a record; in a tab-separated file one of several lines, each complete by itself, has literal quotes."""
    spanned = feed.lines[feed.begin : feed.next]
    if len(spanned) > 1 and quoting.delimiter == "\t" and all(line.count("\t") == len(fields) - 1 for line in spanned):
        for offset, line in enumerate(spanned):
            yield SplitLine(feed.begin + offset + 1, literal(line, quoting.delimiter))
        return
    if width and len(spanned) == 1 and len(fields) > width and any(field.count(quoting.quote) % 2 for field in fields):
        divided = divide(spanned[0], quoting, width)
        if divided is not None:
            yield SplitLine(feed.begin + 1, divided, "stray_quotes")
            return
    yield SplitLine(feed.begin + 1, fields)


def _mended(feed: _Lines, quoting: Quoting, width: int | None, *, unclosed: bool) -> tuple[int, SplitLine]:
    """Return how many lines a broken record takes, and the record: divided by its width, else literal."""
    first, number = feed.lines[feed.begin], feed.begin + 1
    if width:
        divided = divide(first, quoting, width)
        if divided is not None and not (unclosed and first.count(quoting.quote) == 1):
            return 1, SplitLine(number, divided, "stray_quotes")
        for count in range(2, _JOINED):
            if feed.begin + count > len(feed.lines) or _complete(feed.lines[feed.begin + count - 1], quoting, width):
                break
            divided = divide("".join(feed.lines[feed.begin : feed.begin + count]), quoting, width, only_quoted=True)
            if divided is not None:
                return count, SplitLine(number, divided, "stray_quotes")
    return 1, SplitLine(number, literal(first, quoting.delimiter), "unclosed_quote" if unclosed else "bad_quotes")


def _complete(line: str, quoting: Quoting, width: int) -> bool:
    """Return whether a line is a record by itself."""
    if line.count(quoting.quote) % 2:
        return False
    try:
        return [len(fields) for fields in csv.reader([line], delimiter=quoting.delimiter or "\x1f", quotechar=quoting.quote)] == [width]
    except csv.Error:
        return False


def literal(line: str, delimiter: str) -> list[str]:
    """Return the fields of a line in which quotes mean nothing."""
    line = line.rstrip("\r\n")
    return line.split(delimiter) if delimiter else [line]


# --- stray quotes --------------------------------------------------------------------------------


def divide(text: str, quoting: Quoting, width: int, *, only_quoted: bool = False) -> list[str] | None:
    """Return the division of a record with stray quotes into `width` fields; None where there is none.

    A field that opens with a quote closes at a quote before a delimiter, or is literal; the first division that has the
    right number of fields is taken, closing quotes before literal ones. `only_quoted` allows no literal field that opens with one.
    """
    text = text.rstrip("\r\n")
    steps = 0

    def rest(at: int, left: int) -> list[str] | None:
        nonlocal steps
        for value, after in _fields_at(text, at, quoting, only_quoted=only_quoted):
            steps += 1
            if steps > _STEPS:
                return None
            if left == 1 and after is None:
                return [value]
            if left > 1 and after is not None and (found := rest(after, left - 1)) is not None:
                return [value, *found]
        return None

    return rest(0, width) if quoting.delimiter else None


def _fields_at(text: str, at: int, quoting: Quoting, *, only_quoted: bool) -> Iterator[tuple[str, int | None]]:
    """Yield each field that may begin at a place, and where the next one begins (None at the end)."""
    begin = at + (len(text[at:]) - len(text[at:].lstrip(" ")) if quoting.spaces else 0)
    mark, sign = quoting.quote, quoting.delimiter
    if text[begin : begin + 1] == mark:
        for match in re.finditer(re.escape(mark) + f"(?={re.escape(sign)}|$)", text[begin + 1 :]):
            end = begin + 1 + match.start()
            yield text[begin + 1 : end].replace(mark * 2, mark), end + 2 if end + 1 < len(text) else None
        if only_quoted:
            return
    end = text.find(sign, at)
    yield (text[at:], None) if end < 0 else (text[at:end], end + 1)
