"""The run folder: every file is written whole or not at all, and explains itself."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from pretune.errors import DataError
from pretune.types import LedgerEntry


def write_atomic(path: Path, content: bytes | Callable[[Path], None]) -> None:
    """Write a file so that a reader (or a crash) never sees half of it.

    Args:
        path: of the file.
        content: what it will hold, or a function that writes it to the path it is given.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
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
        raise DataError(f"{path} cannot be written: {reason}. Free some space or choose another folder with out=…") from error


class RunDir:
    """One run's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write_json(self, name: str, value: Any) -> None:
        """Write an indented JSON file; NaN is written as null."""
        text = json.dumps(_finite(value), indent=1, ensure_ascii=False, default=str)
        write_atomic(self.path / name, text.encode())

    def read_json(self, name: str) -> Any:
        """Return a JSON file's value.

        Raises:
            DataError: the file is missing: this is not a run folder, or the run did not get so far.
        """
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except OSError:
            raise DataError(f"{self.path} is not a finished run: it has no {name}. Known runs: pretune runs.") from None

    def write_csv(self, name: str, columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> None:
        """Write a CSV with a header; names with commas, quotes and newlines come back as they were."""
        write_atomic(self.path / name, to_csv(columns, rows).encode())

    def write_ledger(self, ledger: Iterable[LedgerEntry]) -> None:
        """Write every dropped or repaired item, and why."""
        self.write_csv("ledger.csv", ["item", "action", "reason", "detail"], [_entry(e) for e in ledger])

    def append_events(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Append lines to events.jsonl."""
        lines = "".join(json.dumps(_finite(event), ensure_ascii=False) + "\n" for event in events)
        with (self.path / "events.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(lines)

    def events(self) -> list[dict[str, Any]]:
        """Return all complete lines of events.jsonl."""
        path = self.path / "events.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def rewind_events(self, phases_done: Iterable[str], phase: str, step: int) -> None:
        """Drop the events that a resumed run will say again: those after `step` of `phase`."""
        done = set(phases_done)
        kept = [e for e in self.events() if e["phase"] in done or (e["phase"] == phase and e["step"] <= step and e["event"] != "finished")]
        write_atomic(self.path / "events.jsonl", "".join(json.dumps(e, ensure_ascii=False) + "\n" for e in kept).encode())


def to_csv(columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Return rows as CSV text; missing cells are empty."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(columns), restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
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
