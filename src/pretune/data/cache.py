"""A folder of what takes long to make and can be made again: shared by runs, bounded, safe to delete.

An entry `root/kind/key` is a store (a folder) or a file. Whoever makes one holds its `build` lock, so that a
second process waits and then finds it. Whoever uses one holds its `use` lock, shared, until the
process ends: what is in use anywhere is never evicted. POSIX only (flock).
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pretune.data.store import BrokenStore, NoRoom, Store, raise_no_room

_LOCKS = "locks"
_RESERVE = 1 << 30
"""Bytes of the disk that are always left free, or a twentieth of a small disk."""

_in_use: dict[Path, IO[bytes]] = {}
"""Open use locks of this process, by entry."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One thing the cache holds."""

    kind: str
    key: str
    path: Path
    bytes: int
    used: float
    """Last use, seconds since 1970."""


class Cache:
    """Entries under one root, the least recently used ones evicted beyond `limit` bytes."""

    def __init__(self, root: Path | None = None, limit: int | None = None) -> None:
        """Name the folder ($PRETUNE_CACHE or ~/.cache/pretune where `root` is None) and its bytes at most."""
        default = os.environ.get("PRETUNE_CACHE") or Path.home() / ".cache" / "pretune"
        self.root = Path(root or default).expanduser().absolute()
        self.limit = limit

    @classmethod
    def bounded(cls, root: Path | None = None, limit: int | None = None) -> Cache:
        """Return a cache of `limit` bytes; of half of what the disk has left, what it holds already included, where that is None."""
        cache = cls(root, limit)
        if cache.limit is None:
            there = next(folder for folder in (cache.root, *cache.root.parents) if folder.exists())
            held = sum(entry.bytes for entry in cache.entries())
            cache.limit = (shutil.disk_usage(there).free + held) // 2
        return cache

    def build(self, kind: str, key: str, make: Callable[[Path], object], whole: Callable[[Path], bool] | None = None) -> Path:
        """Return the entry's path, made by `make(path)` if it is absent or damaged.

        Args:
            kind: what sort of thing, a folder name.
            key: hash of everything the entry depends on.
            make: writes the entry to the path it is given, a new name beside the final one.
            whole: tells whether an entry is undamaged; by default whether a folder is a whole store.

        Raises:
            NoRoom: the disk is full or read-only, or `make` gave up for want of room; do without the cache.
        """
        path = self.root / kind / key
        self._open(path)
        try:
            with self._lock(path, "build", fcntl.LOCK_EX):
                if not (whole or _is_whole)(path):
                    _make(path, make)
            os.utime(path)
            if self.limit is not None:
                self._shrink(self.limit)
        except OSError as error:
            raise_no_room(error, path)
        return path

    def admit(self, nbytes: int, written: int | None = None) -> None:
        """Make room for an entry of `nbytes`, evicting what nobody uses.

        Args:
            nbytes: of the entry when it is whole.
            written: of these, those that are on the disk already; None for all.

        Raises:
            NoRoom: it cannot fit; nothing has been evicted then.
        """
        entries = self.entries()
        busy = sum(entry.bytes for entry in entries if self._is_busy(entry.path))
        idle = sum(entry.bytes for entry in entries) - busy
        disk = shutil.disk_usage(self.root)
        need = min(_RESERVE, disk.total // 20) + nbytes - (nbytes if written is None else written)
        if disk.free + idle < need:
            raise NoRoom(f"the disk that holds {self.root} has {_size(disk.free)} left")
        keep = idle - max(0, need - disk.free)
        if self.limit is not None:
            keep = min(keep, self.limit - busy - nbytes)
            if keep < 0:
                others = f", {_size(busy)} of which are in use" if busy else ""
                raise NoRoom(f"{_size(nbytes)} do not fit into the cache's {_size(self.limit)}{others} (set cache_size)")
        self._shrink(busy + keep)

    def entries(self) -> list[Entry]:
        """Return everything the cache holds, the least recently used first."""
        paths = [path for path in self.root.glob("*/*") if path.parent.name != _LOCKS and not path.name.startswith(".")]
        return sorted(filter(None, map(_entry, paths)), key=lambda entry: entry.used)

    def clear(self) -> list[Entry]:
        """Remove all entries that no process uses, and what crashed processes left; return the removed entries."""
        for building in self.root.glob("*/.*"):
            with self._try_lock(building.with_name(building.name.split(".")[1]), "build") as free:
                if free:
                    _remove(building)
        return self._shrink(0)

    def _shrink(self, limit: int) -> list[Entry]:
        """Evict the least recently used entries until at most `limit` bytes are left, or only entries in use."""
        entries = self.entries()
        total = sum(entry.bytes for entry in entries)
        gone = []
        for entry in entries:
            if total <= limit:
                break
            with self._try_lock(entry.path, "use") as free:
                if free:
                    _remove(entry.path)
                    gone.append(entry)
                    total -= entry.bytes
        return gone

    def _open(self, path: Path) -> None:
        """Make the folders of an entry and keep it from being evicted until this process ends."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path not in _in_use:
                file = self._lock_file(path, "use")
                fcntl.flock(file, fcntl.LOCK_SH)
                _in_use[path] = file
        except OSError as error:
            raise NoRoom(f"the cache folder {self.root} cannot be used ({error.strerror})") from error

    # --- locks ---------------------------------------------------------------------------------

    def _lock_file(self, path: Path, purpose: str) -> IO[bytes]:
        folder = self.root / _LOCKS
        folder.mkdir(parents=True, exist_ok=True)
        return (folder / f"{path.parent.name}-{path.name}.{purpose}").open("ab")

    @contextmanager
    def _lock(self, path: Path, purpose: str, how: int) -> Generator[None, None, None]:
        with self._lock_file(path, purpose) as file:
            fcntl.flock(file, how)
            yield

    @contextmanager
    def _try_lock(self, path: Path, purpose: str) -> Generator[bool, None, None]:
        """Hold the lock if nobody else does; yield whether."""
        with self._lock_file(path, purpose) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                free = True
            except BlockingIOError:
                free = False
            yield free

    def _is_busy(self, path: Path) -> bool:
        with self._try_lock(path, "use") as free:
            return not free


def _is_whole(path: Path) -> bool:
    if path.is_dir():
        try:
            Store.open(path)
        except BrokenStore:
            return False
    return path.exists()


def _make(path: Path, make: Callable[[Path], object]) -> None:
    """Write an entry beside its place and move it there; the caller holds the build lock."""
    for left in [path, *path.parent.glob(f".{path.name}.*")]:  # damaged, or left by a process that was killed
        _remove(left)
    building = path.with_name(f".{path.name}.building")
    try:
        make(building)
        building.rename(path)
    finally:
        for left in path.parent.glob(f".{path.name}.*"):
            _remove(left)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _entry(path: Path) -> Entry | None:
    """Return what is known of an entry, None where another process has just evicted it."""
    try:
        size = sum(file.stat().st_size for file in path.iterdir()) if path.is_dir() else path.stat().st_size
        return Entry(kind=path.parent.name, key=path.name, path=path, bytes=size, used=path.stat().st_mtime)
    except FileNotFoundError:
        return None


def _size(nbytes: int) -> str:
    return f"{nbytes / 1e9:.1f} GB" if nbytes >= 1e8 else f"{nbytes / 1e6:.1f} MB"
