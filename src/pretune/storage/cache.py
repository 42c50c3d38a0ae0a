"""A folder of what takes long to make and can be made again: shared by runs, bounded, verified, safe to delete.

An entry `root/kind/key` is a store. Whoever makes one holds its `build` lock, so that a second process waits and then
finds it. Whoever uses one holds its `use` lock, shared, until the process ends: what is in use anywhere is never
evicted. What a killed process left half-built goes when the next one opens the cache. POSIX only (flock).
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from pretune.storage.store import BUILDING, BrokenStore, NoRoom, Store, is_store, raise_no_room

_LOCKS = "locks"
_RESERVE = 1 << 30
"""Bytes of the disk that are always left free, or a twentieth of a small disk."""
AT_ONCE = 256 << 20
"""Bytes of an entry up to which all of it is verified when it is opened: a tenth of a second. Larger ones that are taken item by item are
verified as they are read, where that was asked for."""
_POLL = 0.1
"""Seconds between two looks whether another process has finished building an entry."""
_CLOSED = frozenset((errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTEMPTY, errno.EIO))
_LEFTOVER = re.compile(rf"\.(.+?){re.escape(BUILDING)}(\.[0-9a-f]{{8}})?")

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
    state: str = ""
    """'damaged' or 'half-built'; empty for what can be used."""


def _ignore(message: str) -> None:
    """Drop a sentence."""


class Cache:
    """Entries under one root, the least recently used ones evicted beyond `limit` bytes."""

    def __init__(self, root: Path | None = None, limit: int | None = None) -> None:
        """Name the folder ($PRETUNE_CACHE or ~/.cache/pretune where `root` is None) and its bytes at most."""
        default = os.environ.get("PRETUNE_CACHE") or Path.home() / ".cache" / "pretune"
        self.root = Path(root or default).expanduser().absolute()
        self.limit = limit
        self.warn: Callable[[str], None] = _ignore
        """Takes a sentence about an entry that is damaged, or that another process is building."""
        self.pause: Callable[[], None] = lambda: time.sleep(_POLL)
        """Waits a moment; may raise where the person asked to stop."""

    @classmethod
    def bounded(cls, root: Path | None = None, limit: int | None = None) -> Cache:
        """Return a cache of `limit` bytes; of half of what the disk has left, what it holds already included, where that is None.

        What killed processes left half-built is removed.
        """
        cache = cls(root, limit)
        cache.sweep()
        if cache.limit is None:
            there = next(folder for folder in (cache.root, *cache.root.parents) if folder.exists())
            occupied = sum(entry.bytes for entry in cache.entries())
            cache.limit = (shutil.disk_usage(there).free + occupied) // 2
        return cache

    def build(self, kind: str, key: str, make: Callable[[Path], object], *, as_read: bool = False) -> Store:
        """Return the entry, made by `make(path)` if it is absent or damaged; it is verified.

        Args:
            kind: what sort of thing, a folder name.
            key: hash of everything the entry depends on.
            make: writes the entry, a store, to the path it is given, a new name beside the final one.
            as_read: verify an entry larger than `AT_ONCE` block by block as it is read: its reader can do without a damaged block.

        Raises:
            NoRoom: the disk is full or read-only, or `make` gave up for want of room; do without the cache.
        """
        path = self.root / kind / key
        self._open(path)
        try:
            with self._alone(path):
                store = self._whole(path, as_read)
                if store is None:
                    _make(path, make)
                    store = Store.open(path)
            os.utime(path)
            if self.limit is not None:
                self._shrink(self.limit)
        except OSError as error:
            self._refused(error)
            raise_no_room(error, path)
        return store

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
        """Return all finished entries, the least recently used first; folders that the cache did not make are not among them."""
        return sorted(filter(None, map(_entry, self._paths())), key=lambda entry: entry.used)

    def inspected(self) -> Iterator[Entry]:
        """Yield all entries, each verified, and what is half-built; reads every byte."""
        for entry in self.entries():
            try:
                Store.open(entry.path).verify()
                yield entry
            except BrokenStore:
                yield replace(entry, state="damaged")
        yield from self._leftovers()

    def clear(self) -> list[Entry]:
        """Remove all entries that no process uses, and what killed processes left; return what was removed."""
        gone = self.sweep() + self._shrink(0)
        self.sweep()
        return gone

    def sweep(self) -> list[Entry]:
        """Remove what killed processes left half-built (and return it), and locks of entries that are gone; nothing in use."""
        gone = []
        for left in self._leftovers():
            with self._try_lock(left.path.with_name(left.key), "build") as free:
                if free and _remove(left.path):
                    gone.append(left)
        for lock in self._folder(_LOCKS):
            kind, _, rest = lock.name.partition("-")
            key, _, purpose = rest.rpartition(".")
            entry = self.root / kind / key
            if purpose in ("build", "use") and not entry.exists():
                with self._try_lock(entry, purpose) as free:
                    if free and not entry.exists():
                        lock.unlink(missing_ok=True)
        return gone

    def _paths(self) -> list[Path]:
        kinds = [folder for folder in self._folder() if folder.name != _LOCKS and folder.is_dir()]
        return [path for kind in kinds for path in self._folder(kind.name) if not path.name.startswith(".") and self._is_ours(path)]

    def _is_ours(self, path: Path) -> bool:
        """Return whether the cache made a folder: a person may have named one for it that holds other things."""
        return is_store(path) or self._lock_path(path, "use").exists()

    def _leftovers(self) -> list[Entry]:
        """Return what is half-built, by a living process or by a dead one."""
        kinds = [folder for folder in self._folder() if folder.is_dir()]
        found = [(path, _LEFTOVER.fullmatch(path.name)) for kind in kinds for path in self._folder(kind.name)]
        known = [(_entry(path), match[1]) for path, match in found if match]
        return [replace(entry, key=key, state="half-built") for entry, key in known if entry is not None]

    def _folder(self, name: str = "") -> list[Path]:
        """Return what is in a folder of the cache; nothing where it is missing or cannot be read."""
        try:
            return sorted((self.root / name).iterdir())
        except OSError:
            return []

    def _whole(self, path: Path, as_read: bool) -> Store | None:
        """Return an entry that can be used; None, and a word, where it is damaged."""
        if not os.path.lexists(path):
            return None
        try:
            store = Store.open(path)
            if store.nbytes <= AT_ONCE or not as_read:
                store.verify()
            return store
        except BrokenStore as error:
            self.warn(f"cache: {error}; it is built again")
            return None

    def _shrink(self, limit: int) -> list[Entry]:
        """Evict the least recently used entries until at most `limit` bytes are left, or only entries in use."""
        entries = self.entries()
        total = sum(entry.bytes for entry in entries)
        gone = []
        for entry in entries:
            if total <= limit:
                break
            with self._try_lock(entry.path, "use") as free:
                if free and _remove(entry.path):
                    gone.append(entry)
                    total -= entry.bytes
        return gone

    def _open(self, path: Path) -> None:
        """Make the folders of an entry and keep it from being evicted until this process ends."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path not in _in_use:
                _in_use[path] = self._locked(path, "use", fcntl.LOCK_SH)
        except OSError as error:
            raise NoRoom(f"the cache folder {self.root} cannot be used ({error.strerror})") from error

    def _refused(self, error: OSError) -> None:
        """Raise `NoRoom` where the error is of the cache's own folder, which may not be written to."""
        if error.errno in _CLOSED and str(error.filename).startswith(str(self.root)):
            raise NoRoom(f"the cache folder {self.root} cannot be used ({error.strerror})") from error

    # --- locks ---------------------------------------------------------------------------------

    def _lock_path(self, path: Path, purpose: str) -> Path:
        return self.root / _LOCKS / f"{path.parent.name}-{path.name}.{purpose}"

    def _locked(self, path: Path, purpose: str, how: int) -> IO[bytes]:
        """Return an open lock of an entry.

        Raises:
            BlockingIOError: somebody else holds it, and `how` does not wait.
        """
        place = self._lock_path(path, purpose)
        while True:
            place.parent.mkdir(parents=True, exist_ok=True)
            file = place.open("ab")
            try:
                fcntl.flock(file, how)
                if place.exists() and os.path.samestat(os.fstat(file.fileno()), place.stat()):
                    return file
            except FileNotFoundError:
                pass  # swept between opening and locking: nobody else would find this lock
            except BaseException:
                file.close()
                raise
            file.close()

    @contextmanager
    def _alone(self, path: Path) -> Generator[None, None, None]:
        """Hold an entry's build lock, waiting for a process that has it."""
        waited = False
        while True:
            try:
                file = self._locked(path, "build", fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waited:
                    self.warn(f"cache: waiting for another process that is building {path.parent.name}/{path.name}")
                waited = True
                self.pause()
        with file:
            yield

    @contextmanager
    def _try_lock(self, path: Path, purpose: str) -> Generator[bool, None, None]:
        """Hold the lock if nobody else does; yield whether."""
        try:
            file = self._locked(path, purpose, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # held, or the folder cannot be written to
            yield False
            return
        with file:
            yield True

    def _is_busy(self, path: Path) -> bool:
        with self._try_lock(path, "use") as free:
            return not free


def _make(path: Path, make: Callable[[Path], object]) -> None:
    """Write an entry beside its place and move it there; the caller holds the build lock."""
    for left in [path, *path.parent.glob(f".{path.name}.*")]:  # damaged, or left by a process that was killed
        _remove(left)
    building = path.with_name(f".{path.name}{BUILDING}")
    try:
        make(building)
        building.rename(path)
    finally:
        for left in path.parent.glob(f".{path.name}.*"):
            _remove(left)


def _remove(path: Path) -> bool:
    """Remove a file or a folder; Return whether nothing is left of it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        try:
            path.unlink(missing_ok=True)
        except OSError:
            return False
    return not path.exists()


def _entry(path: Path) -> Entry | None:
    """Return what is known of an entry, None where another process has just evicted it."""
    try:
        size = sum(file.stat().st_size for file in path.iterdir()) if path.is_dir() else path.lstat().st_size
        return Entry(kind=path.parent.name, key=path.name, path=path, bytes=size, used=path.lstat().st_mtime)
    except OSError:
        return None


def _size(nbytes: int) -> str:
    return f"{nbytes / 1e9:.1f} GB" if nbytes >= 1e8 else f"{nbytes / 1e6:.1f} MB"
