"""JSON arrays, JSON lines and the tables that pandas writes as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pretune.data.delimited import decode
from pretune.data.records import Records, Value
from pretune.errors import DataError
from pretune.modalities import _encodings
from pretune.types import LedgerEntry


def parse(path: Path, raw: bytes) -> Records:
    """Return the records of a JSON file; what it holds decides, not its ending.

    Raises:
        DataError: it holds neither an array of objects, a table, nor an object per line.
    """
    text, said = decode(path, raw)
    try:
        whole = json.loads(_encodings.replace_damage(text))
    except (ValueError, RecursionError):
        return _lines(path, text, said)
    if isinstance(whole, dict) and _is_flat(whole) and "\n" not in text.strip():
        return _lines(path, text, said)
    items, where = _find_array(path, whole)
    if where:
        said.append(f"{path.name}: the records were taken from its field {where!r}.")
    return _records(path, list(enumerate(items, start=1)), "record", said, [])


def _is_flat(item: dict[str, object]) -> bool:
    return not any(isinstance(value, list | dict) for value in item.values())


def _find_array(path: Path, whole: object) -> tuple[list[object], str]:
    """Return the list of objects in a JSON document and the field it was found under."""
    if isinstance(whole, list):
        return whole, ""
    if isinstance(whole, dict):
        columns = _columns(whole)
        if columns is not None:
            return columns, ""
        lists = [(key, value) for key, value in whole.items() if isinstance(value, list) and value and isinstance(value[0], dict)]
        if len(lists) == 1:
            return lists[0][1], lists[0][0]
    raise DataError(
        f'{path} is JSON but not a table. It needs an array of objects ([{{"text": …, "label": …}}, …]) or one object per line.'
    )


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


def _lines(path: Path, text: str, said: list[str]) -> Records:
    """Read one object per line; blank lines are nothing, broken ones go to the ledger."""
    items: list[tuple[int, object]] = []
    ledger: list[LedgerEntry] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            if _encodings.damaged(line):
                raise ValueError("holds bytes that are no text")
            items.append((number, json.loads(line.rstrip())))
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            detail = f"{path.name} line {number} is not valid JSON ({reason})"
            ledger.append(LedgerEntry(item=f"{path.name}:{number}", action="dropped", reason="bad_json", detail=detail))
    if not items:
        first = f": {ledger[0].detail}" if ledger else ""
        raise DataError(f"{path} is neither a JSON array nor JSON lines{first}.")
    return _records(path, items, "line", said, ledger)


def _records(
    path: Path, items: list[tuple[int, object]], word: Literal["line", "record"], said: list[str], ledger: list[LedgerEntry]
) -> Records:
    """Line objects up under the union of their keys; a missing key is None."""
    columns: dict[str, None] = {}
    for _, item in items:
        if isinstance(item, dict):
            columns |= dict.fromkeys(map(str, item))
    records = Records(path=path, columns=list(columns), values=[], numbers=[], word=word, said=said, ledger=ledger)
    for number, item in items:
        if not isinstance(item, dict):
            detail = f"{path.name} {word} {number} is not an object but {_kind(item)}"
            ledger.append(LedgerEntry(item=f"{path.name}:{number}", action="dropped", reason="not_an_object", detail=detail))
            continue
        if any(isinstance(value, str) and not value.isascii() and _encodings.damaged(value) for value in item.values()):
            detail = f"{path.name} {word} {number} holds half a character (a lone surrogate)"
            ledger.append(LedgerEntry(item=f"{path.name}:{number}", action="dropped", reason="bad_bytes", detail=detail))
            continue
        records.values.append([_value(item.get(name)) for name in columns])
        records.numbers.append(number)
    return records


def _value(value: object) -> Value:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else value


def _kind(item: object) -> str:
    return {list: "a list", str: "a string", int: "a number", float: "a number", bool: "true or false"}.get(type(item), "null")
