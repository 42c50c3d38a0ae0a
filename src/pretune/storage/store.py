"""Arrays of any length in one memory-mapped file, with facts about each: written once, read by all.

A store is a folder: `data.bin` holds the arrays end to end, `index.npz` their shapes, the facts (one
column a key), what the writer had to say as a whole, and checksums (CRC-32) of the data in blocks, itself behind a checksum. It
appears by a rename, so it is whole or absent; a block whose checksum is wrong is never returned.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import json
import mmap
import os
import shutil
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pretune.errors import PretuneError

_VERSION = 2
_DATA, _INDEX = "data.bin", "index.npz"
BUILDING = ".building"
"""Ends the name of a folder that is still being written, which begins with a dot."""
BLOCK = 1 << 20
"""Bytes under one checksum: the least that is read to verify any of them."""
_ASK_EVERY = 64 << 20
"""Bytes written between two questions whether there is still room."""

Info = dict[str, int | float | str]


class BrokenStore(PretuneError):
    """A store is cut off, damaged, or of another version; it has to be made again."""


class NoRoom(PretuneError):
    """What is being written does not fit into the cache's or the disk's room; the message says which."""


class Arrays(Protocol):
    """What reads like a store: kept on disk (`Store`) or decoded at each access (`StreamingStore`)."""

    @property
    def infos(self) -> list[Info]:
        """One dictionary an item, as its decoder described it."""
        ...

    @property
    def shapes(self) -> NDArray[np.int64]:
        """(N, dimensions) of the arrays."""
        ...

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) first dimension of the arrays."""
        ...

    @property
    def uniform(self) -> NDArray[Any] | None:
        """(N, …) of all arrays at once where they have one shape and lie on disk."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays on disk."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, position: int) -> NDArray[Any]: ...


class StoreWriter:
    """Streams arrays to a new store; nothing but the index is held in memory."""

    def __init__(self, path: Path, *, dtype: str | None = None, admit: Callable[[int], None] | None = None) -> None:
        """Begin a store at `path`.

        Args:
            path: the folder that appears when the writer is closed.
            dtype: of the arrays: a numpy name, or 'bfloat16' for arrays of its bits as uint16; None takes the first array's.
            admit: asked with the bytes written so far, raises `NoRoom` where no more may be written.
        """
        self.path, self.dtype, self._admit = path, dtype, admit
        self.infos: list[Info] = []
        self._shapes: list[tuple[int, ...]] = []
        self.nbytes = 0
        self._asked = 0
        self._sums = _Sums()
        self._building = path.with_name(f".{path.name.removeprefix('.')}.{uuid.uuid4().hex[:8]}")
        self._building.mkdir(parents=True)
        self._file = (self._building / _DATA).open("wb", buffering=1 << 20)

    def append(self, array: NDArray[Any], info: Info) -> None:
        """Write one array and its facts.

        Raises:
            NoRoom: the disk or the budget is exhausted; the writer can only be discarded.
            ValueError: another dtype or number of dimensions than the arrays before.
        """
        self.dtype = self.dtype or array.dtype.name
        if array.dtype != _numpy_type(self.dtype) or (self._shapes and len(self._shapes[0]) != array.ndim):
            raise ValueError(f"this store holds {self.dtype} arrays; got {array.dtype} of shape {array.shape}")
        raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        try:
            self._file.write(raw)
        except OSError as error:
            raise_no_room(error, self.path)
        self._sums.add(raw)
        self.infos.append(info)
        self._shapes.append(array.shape)
        self.nbytes += array.nbytes
        if self._admit and self.nbytes - self._asked >= _ASK_EVERY:
            self._asked = self.nbytes
            self._admit(self.nbytes)

    def close(self, meta: dict[str, Any] | None = None) -> Store:
        """Flush everything to the disk, let the store appear at its path, and open it.

        Args:
            meta: JSON-ready facts about the whole, read back as `Store.meta`.
        """
        about = {
            "version": _VERSION,
            "entry": _entry_of(self.path),
            "dtype": self.dtype or "uint8",
            "bytes": self.nbytes,
            "meta": meta or {},
            "infos": _columns(self.infos),
        }
        shapes = shapes_of(self._shapes)
        try:
            _sync(self._file)
            with (self._building / _INDEX).open("wb") as index:
                index.write(_sealed(shapes=shapes, about=np.frombuffer(json.dumps(about).encode(), np.uint8), sums=self._sums.finished()))
                _sync(index)
        except OSError as error:
            raise_no_room(error, self.path)
        shutil.rmtree(self.path, ignore_errors=True)
        self._building.rename(self.path)
        return Store.open(self.path)

    def discard(self) -> None:
        """Remove what was written."""
        with contextlib.suppress(OSError):  # closing writes what is buffered, and a full disk is why all of it is removed
            self._file.close()
        shutil.rmtree(self._building, ignore_errors=True)


class _Sums:
    """Checksums of a stream of bytes, block by block."""

    def __init__(self) -> None:
        self._done: list[int] = []
        self._open, self._filled = 0, 0

    def add(self, raw: memoryview) -> None:
        """Take further bytes."""
        start = 0
        while start < len(raw):
            piece = raw[start : start + BLOCK - self._filled]
            self._open, self._filled, start = zlib.crc32(piece, self._open), self._filled + len(piece), start + len(piece)
            if self._filled == BLOCK:
                self._done.append(self._open)
                self._open, self._filled = 0, 0

    def finished(self) -> NDArray[np.uint32]:
        """Return (blocks,) checksums."""
        return np.array([*self._done, self._open] if self._filled else self._done, np.uint32)


class Store:
    """A finished store; its arrays are read-only views of the mapped file, each verified by its checksum when it is first taken."""

    def __init__(self, path: Path, about: dict[str, Any], shapes: NDArray[np.int64], sums: NDArray[np.uint32]) -> None:
        self.path = path
        self.dtype: str = about["dtype"]
        self.meta: dict[str, Any] = about["meta"]
        self.nbytes: int = about["bytes"]
        self.shapes = shapes
        self.lengths = shapes[:, 0] if shapes.shape[1] else np.ones(len(shapes), np.int64)
        self._columns: dict[str, list[Any]] = about["infos"]
        self._data, self._sums = _mapped(path / _DATA, self.nbytes), sums
        self._verified = np.zeros(len(sums), bool)
        self._flat = self._data.view(_numpy_type(self.dtype))
        self._ends = np.cumsum(shapes.prod(axis=1))

    @classmethod
    def open(cls, path: Path) -> Store:
        """Map a store; its data are verified when they are taken, or by `verify`.

        Raises:
            BrokenStore: it is missing, cut off, damaged, of another version, or another entry's under this name.
        """
        try:
            index = _unsealed((path / _INDEX).read_bytes())
            shapes, sums, about = index["shapes"], index["sums"], json.loads(index["about"].tobytes())
            size = (path / _DATA).stat().st_size
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise BrokenStore(f"{path} is not a whole store ({error})") from error
        if about.get("version") != _VERSION:
            raise BrokenStore(f"{path} was written by another version of pretune")
        if about["entry"] != _entry_of(path):
            raise BrokenStore(f"{path} holds the data of another entry, {about['entry']}")
        itemsize = _numpy_type(about["dtype"]).itemsize
        if not size == about["bytes"] == int(shapes.prod(axis=1).sum()) * itemsize:
            raise BrokenStore(f"{path} is cut off: {size} bytes of {about['bytes']}")
        try:
            return cls(path, about, shapes, sums)
        except OSError as error:
            raise BrokenStore(f"{path} cannot be read ({error.strerror})") from error

    def verify(self, start: int = 0, end: int | None = None) -> None:
        """Compare the checksums of the blocks that hold these bytes (by default all) with the data, each block once.

        Raises:
            BrokenStore: the data are not what was written.
        """
        first, last = start // BLOCK, -(-(self.nbytes if end is None else end) // BLOCK)
        if self._verified[first:last].all():
            return
        for block in range(first, last):
            if not self._verified[block]:
                if zlib.crc32(self._data[block * BLOCK : (block + 1) * BLOCK].data) != self._sums[block]:
                    raise BrokenStore(f"{self.path} is damaged: block {block} of {len(self._sums)} has the wrong checksum")
                self._verified[block] = True

    def condemn(self) -> None:
        """Make a damaged store look unfinished, so that whoever opens it next builds it again."""
        with contextlib.suppress(OSError):
            (self.path / _INDEX).unlink()

    @functools.cached_property
    def infos(self) -> list[Info]:
        """One dictionary an item."""
        names = list(self._columns)
        if not names:
            return [{} for _ in range(len(self))]
        items = zip(*self._columns.values(), strict=True)
        return [{name: value for name, value in zip(names, item, strict=True) if value is not None} for item in items]

    @functools.cached_property
    def uniform(self) -> NDArray[Any] | None:
        """All arrays as one (N, …) view where they have one shape; verified."""
        if not len(self) or (self.shapes != self.shapes[0]).any():
            return None
        self.verify()
        return self._flat.reshape(len(self), *self.shapes[0])

    def tensor(self, position: int | None = None) -> Tensor:
        """Return one array, or all of a uniform store, as a tensor that shares its memory; not to be written to."""
        array = self.uniform if position is None else self[position]
        if array is None:
            raise ValueError("arrays of several shapes are not one tensor")
        tensor = torch.from_dlpack(array)  # from_numpy would warn that the array is read-only
        return tensor.view(torch.bfloat16) if self.dtype == "bfloat16" else tensor

    @property
    def flat(self) -> NDArray[Any]:
        """All arrays end to end, (elements,); verified."""
        self.verify()
        return self._flat

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, position: int) -> NDArray[Any]:
        if not 0 <= position < len(self.shapes):
            raise IndexError(f"position {position} of {len(self.shapes)}")
        start, end = int(self._ends[position - 1]) if position else 0, int(self._ends[position])
        self.verify(start * self._flat.itemsize, end * self._flat.itemsize)
        return self._flat[start:end].reshape(self.shapes[position])

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self[position] for position in range(len(self)))


def is_store(path: Path) -> bool:
    """Return whether a folder holds any of a store's files, whole or not."""
    return (path / _DATA).exists() or (path / _INDEX).exists()


def shapes_of(shapes: list[tuple[int, ...]]) -> NDArray[np.int64]:
    """Return (N, dimensions), (0, 1) where there is nothing."""
    return np.array(shapes, np.int64).reshape(len(shapes), len(shapes[0]) if shapes else 1)


def raise_no_room(error: OSError, where: Path) -> NoReturn:
    """Raise `NoRoom` for an error that says that nothing more can be written there, any other error as it is."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        raise NoRoom(f"the disk that holds {where.parent} is full") from error
    raise error


def _entry_of(path: Path) -> str:
    """Return which entry a folder is or will be: 'kind/key'; its content is valid under this name only."""
    return f"{path.parent.name}/{path.name.removeprefix('.').removesuffix(BUILDING)}"


def _sealed(**arrays: NDArray[Any]) -> bytes:
    """Return arrays as one npz behind its checksum."""
    out = io.BytesIO()
    np.savez(out, **arrays)  # ty: ignore[invalid-argument-type]
    return zlib.crc32(out.getbuffer()).to_bytes(4, "little") + out.getbuffer()


def _unsealed(raw: bytes) -> Any:
    """Return the arrays of `_sealed` by name.

    Raises:
        ValueError: the checksum is wrong.
    """
    if len(raw) < 4 or zlib.crc32(memoryview(raw)[4:]) != int.from_bytes(raw[:4], "little"):
        raise ValueError("its index is damaged")
    return np.load(io.BytesIO(raw[4:]), allow_pickle=False)


def _numpy_type(dtype: str) -> np.dtype[Any]:
    return np.dtype("uint16" if dtype == "bfloat16" else dtype)


def _columns(infos: list[Info]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for info in infos for name in info)
    return {name: [info.get(name) for info in infos] for name in names}


def _mapped(path: Path, size: int) -> NDArray[np.uint8]:
    if not size:
        return np.empty(0, np.uint8)
    with path.open("rb") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ), np.uint8)


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
    file.close()
