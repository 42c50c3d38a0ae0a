"""The run folder: every file is written whole or not at all, and explains itself."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import re
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from pretune import saved
from pretune.errors import REFUSALS, DataError, RequestError, disk_remedy
from pretune.printable import json_text, printable
from pretune.types import LedgerEntry

EVENTS = "events.jsonl"
"""What happened in the run, one event a line: there from the beginning."""
LEDGER = ("item", "action", "reason", "detail")
"""Columns of ledger.csv."""
_TEMPORARY = re.compile(r"\..+\.(json|jsonl|csv|html|safetensors)\.\d+\.tmp")
"""Names that `write_atomic` gives to what is not finished."""


def write_atomic(path: Path, content: bytes | Callable[[Path], None]) -> None:
    """Write a file so that a reader (or a crash) never sees half of it.

    Args:
        path: of the file; its folder is made, but not the run folder: one that was deleted stays away.
        content: what it will hold, or a function that writes it to the path it is given.

    Raises:
        DataError: it cannot be written.
        FileNotFoundError: the run folder is gone.
    """
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if callable(content):
            content(temporary)
        else:
            temporary.write_bytes(content)
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be written: {reason}. {disk_remedy(error)}") from error


@contextmanager
def explained_refusals(cure: str) -> Generator[None]:
    """Within this context a refusal of the disk is a RequestError that says what helps, and ends with `cure`."""
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        raise RequestError(f"{error.filename or 'the run folder'}: {error.strerror}. {disk_remedy(error)} {cure}") from error
    except SafetensorError as error:
        if f"os error {errno.ENOSPC}" not in str(error):
            raise
        raise RequestError(f"the weights cannot be written: no space left on device. {disk_remedy(error)} {cure}") from error


def remove_temporary(folder: Path) -> None:
    """Remove what `write_atomic` began and a killed process did not finish, in a run's folder and below it; no other hidden files."""
    for path in folder.rglob(".*.tmp"):
        if _TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink()


def append_lines(path: Path, entries: Iterable[Mapping[str, Any]], *, sync: bool = False) -> None:
    """Append JSON lines in one write, on a line of their own whatever a killed process left before them.

    Args:
        path: of the file.
        entries: one a line.
        sync: whether they must be on the disk before this returns.
    """
    text = "".join(json_text(_finite(entry)) + "\n" for entry in entries)
    with path.open("ab+") as stream:
        if stream.tell():
            stream.seek(-1, os.SEEK_END)
            text = text if stream.read(1) == b"\n" else f"\n{text}"
        stream.write(text.encode())
        if sync:
            stream.flush()
            os.fsync(stream.fileno())


def read_lines(path: Path, warn: Callable[[str], None] | None = None) -> list[dict[str, Any]]:
    """Return the JSON objects of a file, one a line; lines that are damaged are dropped, and `warn` is called with their number."""
    lines = [line for line in path.read_bytes().split(b"\n") if line.strip()] if path.exists() else []
    found = [entry for line in lines if (entry := _object(line)) is not None]
    if warn is not None and len(found) < len(lines):
        warn(f"{path}: {len(lines) - len(found)} of {len(lines)} lines are cut short or damaged and were dropped")
    return found


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


class RunDir:
    """One run's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write_json(self, name: str, value: Any) -> Any:
        """Write an indented JSON file, NaN as null, and return what a reader of it gets."""
        plain = _finite(value)
        write_atomic(self.path / name, json_text(plain, indent=1).encode())
        return plain

    def read_json(self, name: str) -> dict[str, Any]:
        """Return the object that a JSON file holds.

        Raises:
            DataError: the file is missing: this is not a run folder, or the run did not get so far; or it is damaged.
        """
        if not (self.path / name).exists():
            raise DataError(saved.unfinished(self.path, name))
        return saved.json_of(self.path / name)

    def write_csv(self, name: str, columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> None:
        """Write a CSV with a header; see `to_csv`."""
        write_atomic(self.path / name, to_csv(columns, rows).encode())

    def write_ledger(self, ledger: Iterable[LedgerEntry]) -> None:
        """Write every dropped or repaired example, and why."""
        self.write_csv("ledger.csv", LEDGER, [_entry(e) for e in ledger])

    def require(self) -> None:
        """Refuse to write into a folder that was deleted or moved since the run began: what would be left is no run.

        Raises:
            DataError: its events are not there.
        """
        if not (self.path / EVENTS).exists():
            raise DataError(
                f"{self.path} was deleted or moved while the run was writing to it, and what had been trained is not in it any more. "
                "Start the run again, and leave its folder in place until it is finished."
            )

    def append_events(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Append lines to events.jsonl."""
        append_lines(self.path / EVENTS, events)

    def events(self, warn: Callable[[str], None] | None = None) -> list[dict[str, Any]]:
        """Return all whole lines of events.jsonl; see `read_lines`."""
        whole = [e for e in read_lines(self.path / EVENTS, warn) if {"event", "phase", "step"} <= e.keys()]
        return [{saved.RENAMED_IN_EVENTS.get(key, key): value for key, value in event.items()} for event in whole]

    def rewind_events(self, position: Position, warn: Callable[[str], None] | None = None) -> None:
        """Drop the events that a resumed run will repeat: those after its position; `warn` is called for damaged lines."""
        kept = [event for event in self.events(warn) if position.is_behind(event)]
        write_atomic(self.path / EVENTS, "".join(json_text(e) + "\n" for e in kept).encode())


@dataclass(kw_only=True)
class Position:
    """How far a run had come when a checkpoint was written; goes once through the events of that run, in order."""

    done: Collection[str] = ()
    """Finished phases."""
    phase: str = ""
    """The phase that is resumed; empty where none has begun."""
    step: int = 0
    restarts: int = 0
    """Times the phase had begun again."""
    _met: int = 0
    """Of these, those that were met."""

    def is_behind(self, event: Mapping[str, Any]) -> bool:
        """Return whether the next event of the run lies behind this position: a resumed run will not repeat it."""
        if event["phase"] != self.phase:
            return event["phase"] in self.done
        self._met += bool(event.get("restart"))
        if self._met < self.restarts or (event.get("restart") and self._met == self.restarts):
            return True
        return self._met == self.restarts and event["step"] <= self.step and event["event"] != "finished"


def to_csv(columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> str:
    r"""Return rows as CSV text; missing cells are empty.

    Names with commas and quotes come back as they were. What cannot be seen in them (control characters, direction marks) is
    written out, as `\x1b`: a person reads these tables, often in a terminal.
    """
    out, keys = io.StringIO(), list(columns)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([printable(key) for key in keys])
    writer.writerows([printable(cell) if isinstance(cell, str) else cell for cell in (row.get(key, "") for key in keys)] for row in rows)
    return out.getvalue()


def _entry(entry: LedgerEntry) -> dict[str, str]:
    return {"item": entry.item, "action": entry.action, "reason": entry.reason, "detail": entry.detail}


def _finite(value: Any) -> Any:
    """Return `value` with NaN and infinities, which JSON does not have, as None."""
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # numpy scalars
        return _finite(value.item())
    return value.tolist() if hasattr(value, "tolist") else value
