"""Images and audio that a text table holds as text: base64, lists of pixels in one cell, or one column for each pixel."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from pretune.errors import BadItem, DataError
from pretune.formats.files import kinds, modality_of_bytes
from pretune.sources.readers.records import Records, Value

_LOOKED_AT = 32
"""Cells that show what a column holds."""
_LEAST = 64
"""Numbers from which a list is one of pixels: 8 by 8."""
_URI = re.compile(r"data:[\w.+/-]*;base64,")
_BASE64 = re.compile(r"[A-Za-z0-9+/_\-\s]{24,}={0,2}\s*")
_NUMBERS = re.compile(r"\s*\[?\s*-?[\d.][\d.eE+\-]*([\s,;]+-?[\d.][\d.eE+\-]*)*\s*\]?\s*")
_PIXEL = re.compile(r"(?:pixels?|pix|px|p|x)?[_ .-]?\d+(?:[x_]\d+)?|column\d+", re.IGNORECASE)


@dataclass(frozen=True, slots=True, eq=False)
class InlineCell:
    """One file that a cell of a text table spells out."""

    value: Value
    """As the table has it."""
    read: Callable[[Value], bytes]
    """Returns the file's bytes, or raises BadItem."""
    name: str = ""

    def read_bytes(self) -> bytes:
        """Return the file's bytes.

        Raises:
            BadItem: the cell is empty, or does not spell a file.
        """
        if self.value is None or self.value == "":
            raise BadItem("empty_cell", "is empty in the table")
        return self.read(self.value)


def unpack(records: Records, wanted: tuple[str, ...] = ()) -> None:
    """Put files in place of the text that spells them; columns that spell lists of numbers of no known shape are set aside.

    Args:
        records: of a CSV or JSON file.
        wanted: columns that the person named: they are no pixels.
    """
    _join_pixels(records, wanted)
    for at, name in enumerate(records.columns):
        shown = [value for record in records.values[:2000] if (value := record[at]) not in (None, "")][:_LOOKED_AT]
        if not shown:
            continue
        kind = _kind_of_base64(shown)
        if kind is not None:
            _replace(records, at, kind, _from_base64)
            records.messages.append(f"{records.name}: {name!r} holds {kinds()[kind].noun} as base64.")
            continue
        length = _length_of_lists(shown)
        if length is not None:
            _take_lists(records, at, length, grey=all(_is_grey(value) for value in shown))


def _replace(records: Records, at: int, kind: str, read: Callable[[Value], bytes]) -> None:
    records.files[records.columns[at]] = kind
    for record in records.values:
        record[at] = InlineCell(record[at], read)


# --- base64 --------------------------------------------------------------------------------------


def _kind_of_base64(values: list[Value]) -> str | None:
    """Return the modality of the files that most values spell in base64; None where they do not."""
    found = [_head_kind(value) for value in values]
    kind = max(set(found), key=found.count)
    return kind if kind is not None and found.count(kind) >= 0.8 * len(found) else None


def _head_kind(value: Value) -> str | None:
    if not isinstance(value, str):
        return None
    text = _URI.sub("", value, count=1)
    if not _BASE64.fullmatch(text[:200].rstrip("=")) and not _BASE64.fullmatch(text[:200]):
        return None
    try:
        return modality_of_bytes(_decoded(re.sub(r"\s", "", text[:200])[:96]))
    except (ValueError, binascii.Error):
        return None


def _decoded(text: str) -> bytes:
    plain = text.replace("-", "+").replace("_", "/").rstrip("=")
    return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)


def _from_base64(value: Value) -> bytes:
    text = re.sub(r"\s", "", _URI.sub("", str(value), count=1))
    try:
        return _decoded(text)
    except (ValueError, binascii.Error):
        raise BadItem("bad_base64", f"is not base64 (begins with {str(value)[:20]!r})") from None


# --- lists of pixels -----------------------------------------------------------------------------


def _numbers(value: Value) -> list[str] | None:
    """Return the numbers of a list, as text; None where it is none."""
    if isinstance(value, list | tuple):
        flat = [part for row in value for part in (row if isinstance(row, list | tuple) else [row])]
        return [str(part) for part in flat] if all(isinstance(part, int | float) for part in flat) else None
    if not isinstance(value, str) or not _NUMBERS.fullmatch(value):
        return None
    return re.split(r"[\s,;]+", value.strip().strip("[]").strip())


def _length_of_lists(values: list[Value]) -> int | None:
    """Return how many numbers every cell lists; 0 where it differs, None where cells are no long lists of numbers."""
    if isinstance(values[0], str) and len(values[0]) < 2 * _LEAST - 1:
        return None
    lists = [_numbers(value) for value in values]
    lengths = {len(numbers) for numbers in lists if numbers is not None}
    if None in lists or not lengths or min(lengths) < _LEAST:
        return None
    return lengths.pop() if len(lengths) == 1 else 0


def _is_grey(value: Value) -> bool:
    return all(number.isdecimal() and int(number) <= 255 for number in _numbers(value) or ["?"])


def _take_lists(records: Records, at: int, length: int, *, grey: bool) -> None:
    """Read a column of lists as square grey images, or set it aside."""
    name, side = records.columns[at], math.isqrt(length)
    if grey and length and side * side == length:
        _replace(records, at, "image", lambda value: _square(value, side))
        records.messages.append(f"{records.name}: {name!r} holds {length} grey values per row, read as images of {side} by {side} pixels.")
        return
    what = f"lists of {length} numbers" if length else "lists of numbers, not all of one length"
    records.opaque[name] = f"holds {what}, which are no square grey image of whole numbers from 0 to 255; save each as an image file"
    for record in records.values:
        record[at] = None


def _square(value: Value, side: int) -> bytes:
    numbers = _numbers(value) or []
    if len(numbers) != side * side or not _is_grey(value):
        raise BadItem("bad_pixels", f"does not hold {side * side} whole numbers from 0 to 255")
    return b"P5\n%d %d\n255\n" % (side, side) + bytes(map(int, numbers))


# --- a column for each pixel ---------------------------------------------------------------------


def _join_pixels(records: Records, wanted: tuple[str, ...]) -> None:
    """Put the columns pixel0, pixel1 … into one list; without a header, all columns but the one that the person names."""
    pixels = [at for at, name in enumerate(records.columns) if _PIXEL.fullmatch(name)]
    places = [at for at in pixels if records.columns[at] not in wanted]
    if records.headerless and _is_square(len(pixels)):
        places = pixels
    if len(places) < _LEAST or not _hold_grey(records, places):
        return
    if records.headerless and not _is_square(len(places)):
        if not _is_square(len(places) - 1):
            return
        side, first, last = math.isqrt(len(places) - 1), records.columns[places[0]], records.columns[places[-1]]
        raise DataError(
            f"{records.path} has no header line and {len(places)} columns of whole numbers: the pixels of images of {side} by {side}, "
            f"and a label. Name the label: label={first} or label={last}."
        )
    names = [records.columns[at] for at in places]
    kept = [at for at in range(len(records.columns)) if at not in set(places)]
    records.columns = [*(records.columns[at] for at in kept), "pixels"]
    records.values = [[*(record[at] for at in kept), [_whole(record[at]) for at in places]] for record in records.values]
    records.headerless = False
    records.messages = [line for line in records.messages if "has no header line" not in line]
    records.messages.append(
        f"{records.name}: the {len(places)} columns {names[0]} … {names[-1]} hold a pixel each and are read as 'pixels'."
    )


def _is_square(count: int) -> bool:
    return math.isqrt(count) ** 2 == count


def _hold_grey(records: Records, places: list[int]) -> bool:
    sample = records.values[:_LOOKED_AT]
    return all(_whole(record[at]) is not None for record in sample for at in places)


def _whole(value: Value) -> int | None:
    text = str(value).strip().removesuffix(".0")
    return int(text) if text.isdecimal() and len(text) < 20 and int(text) <= 255 else None
