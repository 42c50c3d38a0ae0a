"""Files that lie in the cells of a table: unpacked once into the cache, then read like any other file.

A table's cells cannot be reached one by one (a Parquet file is compressed in long runs), and images of a whole table need not fit
into memory. So the first reader goes through the column once and writes the cells end to end into a store, of which each cell is a view.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pretune.errors import BadItem, DataError
from pretune.storage.cache import Cache
from pretune.storage.store import NoRoom, Store, StoreWriter
from pretune.types import Row

KIND = "cells"
"""The cache's folder of what was unpacked."""
_FORMAT = 1


@dataclass(kw_only=True, eq=False)
class Cells:
    """The files in one column of one table."""

    table: Path
    column: str
    count: int
    """Cells, empty ones included."""
    nbytes: int
    """About what they take."""
    stream: Callable[[], Iterator[memoryview]]
    """Goes through all cells in order; an empty one where there is nothing."""
    _store: Store | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def unpack(self, cache: Cache) -> Store:
        """Return the cells, unpacked into the cache where no earlier run has done it.

        Raises:
            DataError: there is no room for them, or the table has changed since it was read.
        """
        with self._lock:
            if self._store is None:
                self._store = self._unpacked(cache)
            return self._store

    def read(self, index: int) -> bytes:
        """Return one cell, unpacked into the person's own cache where nobody named another."""
        return (self._store or self.unpack(Cache.bounded()))[index].tobytes()

    def _unpacked(self, cache: Cache) -> Store:
        try:
            key = self._key()
            store = cache.build(KIND, key, lambda path: self._write(path, cache, key))
        except NoRoom as full:
            raise DataError(
                f"{self.table}: the files in column {self.column!r} are unpacked into the cache before they are read, and {full}. "
                "Make room there, or name a folder on a larger disk: cache=FOLDER, or PRETUNE_CACHE in the environment."
            ) from full
        if len(store) != self.count:
            raise DataError(f"{self.table} changed while it was being read. Start again when nothing writes to it.")
        return store

    def _write(self, path: Path, cache: Cache, key: str) -> None:
        cache.admit(self.nbytes, 0)
        writer = StoreWriter(path, dtype="uint8", admit=cache.admit)
        try:
            for cell in self.stream():
                writer.append(np.frombuffer(cell, np.uint8), {})
            if self._key() != key:
                raise DataError(f"{self.table} changed while it was being read. Start again when nothing writes to it.")
            writer.close()
        finally:
            writer.discard()

    def _key(self) -> str:
        """Return what tells this state of the file from any other; its change time cannot be set by hand."""
        try:
            state = self.table.stat()
        except OSError as error:
            raise DataError(f"{self.table} could be read a moment ago and cannot be read now ({error.strerror}).") from None
        facts = [_FORMAT, str(self.table.absolute()), self.column, state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class TableCell:
    """One file of them."""

    cells: Cells
    index: int
    name: str
    """What the file was called before it came into the table; '' where nobody knows."""

    def read_bytes(self) -> bytes:
        """Return the file's bytes.

        Raises:
            BadItem: the cell is empty.
            DataError: the cells cannot be unpacked.
        """
        raw = self.cells.read(self.index)
        if not raw:
            beside = f"; it only names {self.name}, which is not in the table" if self.name else ""
            raise BadItem("empty_cell", f"is empty in the table (column {self.cells.column!r}){beside}")
        return raw


def unpack(rows: Iterable[Row], cache: Cache) -> None:
    """Put the files that rows have inside tables into a cache, before any is read; nothing is done twice.

    Raises:
        DataError: there is no room for them, or a table has changed since it was read.
    """
    for cells in {row.path.cells: None for row in rows if isinstance(row.path, TableCell)}:
        cells.unpack(cache)
