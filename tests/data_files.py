"""Files made on the spot for the tests of reading, splitting and auditing."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path

from pretune.sources.table import Table


def put(root: Path, *names: str, content: bytes = b"x") -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def table_of(path: Path, header: list[str] | None, rows: list[list[object]], **dialect: str) -> Path:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n", **dialect)  # type: ignore[arg-type]
    writer.writerows([header] if header else [])
    writer.writerows(rows)
    path.write_text(out.getvalue(), encoding="utf-8", newline="")
    return path


def sentences(n: int = 10) -> list[list[object]]:
    return [
        [f"the {word} meal number {i} was served today", label] for i in range(n) for word, label in (("nice", "good"), ("cold", "bad"))
    ]


def messages_of(table: Table) -> str:
    return "\n".join(table.messages)


def reasons(table: Table) -> Counter[str]:
    return Counter(entry.reason for entry in table.ledger)
