"""What reads like a store where there is no room for one, or where a part of it is damaged: the example is decoded again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.errors import BadItem, DataError
from pretune.modalities import Modality
from pretune.storage.store import BrokenStore, Info, Store
from pretune.types import Cell, Row

LARGEST = 2 << 30
"""Bytes of the largest file that is read as one example."""


@dataclass(kw_only=True)
class StreamingStore:
    """Infos and shapes in memory, arrays decoded from their files at each access."""

    rows: list[Row]
    hashes: list[str]
    """`content_hash` of each example when it was first read."""
    modality: Modality
    infos: list[Info]
    shapes: NDArray[np.int64]
    uniform: None = None
    nbytes: int = 0

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) first dimension of the arrays."""
        return self.shapes[:, 0]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> NDArray[Any]:
        row = self.rows[position]
        try:
            raw = read_row(row)
            if content_hash(raw) != self.hashes[position]:
                raise DataError(f"{row.id} has changed during the run. Leave the data alone and start again.")
            return self.modality.decode(raw).array
        except (OSError, BadItem) as error:
            raise DataError(f"{row.id} could be read before and cannot be read now ({error}). Did the data change?") from error


@dataclass(kw_only=True)
class KeptStore:
    """A store in the cache whose examples can be decoded again: what lies in a damaged block of it is."""

    kept: Store
    again: StreamingStore
    warn: Callable[[str], None]
    """Takes the sentence that the store is damaged, once."""
    damaged: bool = field(default=False, init=False)

    @property
    def infos(self) -> list[Info]:
        """One dictionary an example, as its decoder described it."""
        return self.kept.infos

    @property
    def shapes(self) -> NDArray[np.int64]:
        """(N, dimensions) of the arrays."""
        return self.kept.shapes

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) first dimension of the arrays."""
        return self.kept.lengths

    @property
    def uniform(self) -> NDArray[Any] | None:
        """(N, …) of all arrays at once where they have one shape and none is damaged."""
        try:
            return None if self.damaged else self.kept.uniform
        except BrokenStore as error:
            self._condemn(error)
            return None

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays on disk."""
        return self.kept.nbytes

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, position: int) -> NDArray[Any]:
        try:
            return self.kept[position]
        except BrokenStore as error:
            self._condemn(error)
            return self.again[position]

    def _condemn(self, error: BrokenStore) -> None:
        """Have the entry built again by the next run; this one decodes what is damaged."""
        if not self.damaged:
            self.damaged = True
            self.kept.condemn()
            self.warn(f"cache: {error}; what it held is decoded again, and the next run builds the entry again")


def read_row(row: Row) -> bytes | tuple[str, ...]:
    """Return a row's inline text or the bytes of its file."""
    if row.text is not None:
        return row.text
    if row.path is None:
        raise DataError(f"{row.id} has neither a path nor a text")
    return bytes_of(row.path)


def bytes_of(path: Path | Cell) -> bytes:
    """Return the bytes of an example's file.

    Raises:
        BadItem: it is too large to be one example: it would not fit into memory, and a sparse file may claim any size.
        OSError: it cannot be read.
    """
    size = path.stat().st_size if isinstance(path, Path) else 0
    if size > LARGEST:
        raise BadItem("too_large", f"has {size / 1e9:,.1f} GB; files of up to {LARGEST / 1e9:.0f} GB are read. Cut it into pieces first")
    return path.read_bytes()


def content_hash(raw: bytes | tuple[str, ...]) -> str:
    """Return the SHA-256 of a file's bytes or of inline text; one inline text hashes like a file of it."""
    if isinstance(raw, bytes):
        return hashlib.sha256(raw).hexdigest()
    encoded = [text.encode("utf-8", "surrogatepass") for text in raw]
    return hashlib.sha256(encoded[0] if len(encoded) == 1 else b"".join(b"%d:%b" % (len(text), text) for text in encoded)).hexdigest()
