"""JSON arrays, JSON lines and the tables that pandas writes as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pretune.errors import DataError
from pretune.formats import encodings
from pretune.formats.files import ending
from pretune.sources.readers.delimited import decode
from pretune.sources.readers.header import has_header
from pretune.sources.readers.records import Records, Value
from pretune.sources.split_names import split_of
from pretune.types import LedgerEntry

_SAMPLE = 200
_FIELDS = 30
"""Fields of a flat object from which it is no example by itself."""
_OF_LINES = frozenset((".jsonl", ".ndjson"))
"""File extensions under which one line is one record, lists in it or not."""
_BETWEEN = " \t\r\n,[]"


def parse(path: Path, raw: bytes) -> Records:
    """Return the records of a JSON file; what it holds decides, not its ending.

    Raises:
        DataError: it holds neither an array of objects, a table, nor an object per line.
    """
    text, messages = decode(path, raw)
    try:
        whole = _load(encodings.replace_damage(text))
    except (ValueError, RecursionError):
        several = _objects(text)
        if several is not None:
            messages.append(f"{path.name} holds {len(several)} JSON objects one after another.")
            return _records(path, list(enumerate(several, start=1)), "record", messages, [])
        return _lines(path, text, messages)
    if isinstance(whole, dict) and _is_flat(whole) and len(whole) > _FIELDS:
        raise DataError(
            f'{path} is one object with {len(whole):,} fields. It needs an object for each example: [{{"text": …, "label": …}}, …].'
        )
    if isinstance(whole, dict) and "\n" not in text.strip() and (_is_flat(whole) or ending(path.name) in _OF_LINES):
        return _lines(path, text, messages)
    items, where = _find_array(path, whole)
    if where:
        messages.append(f"{path.name}: the records were taken from its field {where}.")
    return _records(path, list(enumerate(items, start=1)), "record", messages, [])


def _load(text: str) -> object:
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return an object; a key that it has twice is distinguished, as columns of one name are."""
    out = dict(pairs)
    if len(out) == len(pairs):
        return out
    out = {}
    for key, value in pairs:
        name = key
        while name in out:
            name = f"{key}.{int(name.removeprefix(key).lstrip('.') or 0) + 1}"
        out[name] = value
    return out


def _objects(text: str) -> list[object] | None:
    """Return objects that follow one another with spaces, commas and brackets between them; None where lines are meant."""
    first = next((line.strip() for line in text.split("\n") if line.strip()), "")
    try:
        if isinstance(_load(first), dict):
            return None
    except (ValueError, RecursionError):
        pass
    decoder, found, at = json.JSONDecoder(object_pairs_hook=_object), [], 0
    while True:
        while at < len(text) and text[at] in _BETWEEN:
            at += 1
        if at == len(text):
            return found or None
        try:
            item, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return None
        if not isinstance(item, dict):
            return None
        found.append(item)


def _is_flat(item: dict[str, object]) -> bool:
    return not any(isinstance(value, list | dict) for value in item.values())


def _find_array(path: Path, whole: object) -> tuple[list[object], str]:
    """Return the list of objects in a JSON document and the field it was found under."""
    if isinstance(whole, list):
        return _named(whole), ""
    if isinstance(whole, dict):
        if isinstance(whole.get("columns"), list) and isinstance(whole.get("data"), list):  # pandas, orient="split"
            return [dict(zip(map(str, whole["columns"]), row, strict=False)) for row in whole["data"] if isinstance(row, list)], "'data'"
        if (keyed := _keyed(whole)) is not None:
            return keyed, ""
        columns = _columns(whole)
        if columns is not None:
            return columns, ""
        lists = [(key, value) for key, value in whole.items() if isinstance(value, list) and value and isinstance(value[0], dict)]
        if len(lists) == 1:
            return lists[0][1], repr(lists[0][0])
        if lists and all(split_of(key) for key, _ in lists):
            return [{"split": key, **item} for key, items in lists for item in items if isinstance(item, dict)], " and ".join(
                repr(key) for key, _ in lists
            )
    raise DataError(
        f'{path} is JSON but not a table. It needs an array of objects ([{{"text": …, "label": …}}, …]) or one object per line.'
    )


def _named(items: list[object]) -> list[object]:
    """Return lists of one length as objects: by their header, else by the number of each place."""
    rows = [item for item in items if isinstance(item, list)]
    if not rows or len(rows) < len(items) or len({len(row) for row in rows}) > 1 or len(rows[0]) < 2:
        return items
    strings = [[str(value) for value in row] for row in rows[:_SAMPLE]]
    header = all(isinstance(value, str) for value in rows[0]) and has_header(strings[0], strings[1:])
    names = strings[0] if header else [f"column{number}" for number in range(1, len(rows[0]) + 1)]
    return [dict(zip(names, row, strict=True)) for row in rows[header:]]


def _keyed(whole: dict[str, object]) -> list[object] | None:
    """Read {"0": {"text": ..., "label": ...}, ...} as objects that know their key; None where the inner keys are those of rows."""
    items = [value for value in whole.values() if isinstance(value, dict)]
    fields = {key for item in items for key in item}
    if not fields or len(items) < len(whole) or len(fields) >= len(whole) or all(key.isdecimal() for key in fields):
        return None
    if any(len(item) < len(fields) / 2 for item in items) or not fields - whole.keys():
        return None
    return [{"key": key, **item} for key, item in zip(whole, items, strict=True)]


def _columns(whole: dict[str, object]) -> list[object] | None:
    """Read {"text": [...], "label": [...]} or pandas' {"text": {"0": ...}, ...} as objects."""
    columns = {key: list(value.values()) if isinstance(value, dict) else value for key, value in whole.items()}
    lists = [value for value in columns.values() if isinstance(value, list)]
    if (
        not lists
        or len(lists) < len(columns)
        or len({len(values) for values in lists}) > 1
        or any(isinstance(v, dict) for v in lists[0][:1])
    ):
        return None
    return [dict(zip(columns, values, strict=True)) for values in zip(*lists, strict=True)]


def _lines(path: Path, text: str, messages: list[str]) -> Records:
    """Read one object per line; blank lines are nothing, broken ones go to the ledger."""
    items: list[tuple[int, object]] = []
    ledger: list[LedgerEntry] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            if encodings.damaged(line):
                raise ValueError("holds bytes that are no text")
            items.append((number, _load(line.strip().rstrip(","))))
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            detail = f"{path.name} line {number} is not valid JSON ({reason})"
            ledger.append(LedgerEntry(item=f"{path.name}:{number}", action="dropped", reason="bad_json", detail=detail))
    if not items:
        first = f": {ledger[0].detail}" if ledger else ""
        raise DataError(f"{path} is neither a JSON array nor JSON lines{first}.")
    return _records(path, items, "line", messages, ledger)


def _records(
    path: Path, items: list[tuple[int, object]], word: Literal["line", "record"], messages: list[str], ledger: list[LedgerEntry]
) -> Records:
    """Line objects up under the union of their keys; a missing key is None."""
    items = [(number, _flattened(item) if isinstance(item, dict) else item) for number, item in items]
    columns: dict[str, None] = {}
    for _, item in items:
        if isinstance(item, dict):
            columns |= dict.fromkeys(map(str, item))
    records = Records(path=path, columns=list(columns), values=[], numbers=[], word=word, messages=messages, ledger=ledger)
    for number, item in items:
        if not isinstance(item, dict):
            detail = f"{path.name} {word} {number} is not an object but {_kind(item)}"
            ledger.append(LedgerEntry(item=f"{path.name}:{number}", action="dropped", reason="not_an_object", detail=detail))
            continue
        if any(isinstance(value, str) and not value.isascii() and encodings.damaged(value) for value in item.values()):
            detail = f"{path.name} {word} {number} holds half a character (a lone surrogate)"
            ledger.append(LedgerEntry(item=f"{path.name}:{number}", action="dropped", reason="bad_bytes", detail=detail))
            continue
        records.values.append([_value(item.get(name)) for name in columns])
        records.numbers.append(number)
    records.twins = {name: [name, f"{name}.1"] for name in columns if f"{name}.1" in columns}
    return records


def _flattened(item: dict[str, object]) -> dict[str, object]:
    """Return an object with the fields of objects inside it as fields of its own: label.name."""
    if not any(isinstance(value, dict) for value in item.values()):
        return item
    out: dict[str, object] = {}
    for key, value in item.items():
        out |= {f"{key}.{inner}": part for inner, part in value.items()} if isinstance(value, dict) else {key: value}
    return out


def _value(value: object) -> Value:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else value


def _kind(item: object) -> str:
    return {list: "a list", str: "a string", int: "a number", float: "a number", bool: "true or false"}.get(type(item), "null")
