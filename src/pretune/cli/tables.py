"""Tables of text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from pretune.printable import printable

MOST = 60
"""Characters of a cell at most; those of the first row and column, which name things, are whole."""


def aligned(rows: Sequence[Sequence[str]], indent: str = "") -> list[str]:
    """Return lines in which columns begin at the same place; nothing in a cell can move the cursor."""
    cells = [[_cell(cell, whole=not (line and column)) for column, cell in enumerate(row)] for line, row in enumerate(rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))] if cells else []
    return [(indent + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))).rstrip() for row in cells]


def _cell(text: str, *, whole: bool) -> str:
    cell = printable(text)
    return cell if whole or len(cell) <= MOST else f"{cell[: MOST - 1]}…"
