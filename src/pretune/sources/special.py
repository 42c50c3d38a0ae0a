"""Paths that do not exist or hold no data: pipes, sockets, devices, the kernel's file systems, archives. None is opened or unpacked."""

from __future__ import annotations

import difflib
import functools
import os
import stat
from pathlib import Path

from pretune.errors import DataError
from pretune.formats.files import ending
from pretune.printable import path_word

_KINDS = (
    (stat.S_ISFIFO, "a named pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_SHOWN = 20
"""Folders that are named beside one that does not exist, at most."""
_KERNEL = ("/proc", "/sys", "/dev")
_UNPACK = {
    ".zip": "unzip {file} -d {folder}", ".7z": "7z x {file} -o{folder}", ".rar": "unrar x {file} {folder}/",
    ".tar": "mkdir {folder} && tar -xf {file} -C {folder}", ".gz": "gunzip -k {file}", ".bz2": "bunzip2 -k {file}",
    ".xz": "unxz -k {file}", ".zst": "unzstd {file}",
}  # fmt: skip
ARCHIVES = frozenset((*_UNPACK, ".tgz", ".tbz2", ".txz"))
_SIGNATURES = ((0, b"PK\x03\x04", ".zip"), (0, b"PK\x05\x06", ".zip"), (257, b"ustar", ".tar"), (0, b"\x1f\x8b", ".gz"),
               (0, b"7z\xbc\xaf\x27\x1c", ".7z"), (0, b"Rar!", ".rar"), (0, b"BZh", ".bz2"), (0, b"\xfd7zXZ", ".xz"))  # fmt: skip


def kind_of(mode: int) -> str | None:
    """Return what a file that is neither regular nor a folder is, from its `st_mode`; None for all others."""
    return next((name for test, name in _KINDS if test(mode)), None)


def is_kernels(device: int) -> bool:
    """Return whether a file system (`st_dev`) is the kernel's: what lies there is made up when it is read, and may have no end."""
    return device in _kernel_devices()


@functools.cache
def _kernel_devices() -> frozenset[int]:
    if not os.path.isdir("/proc/self"):
        return frozenset()
    root = os.stat("/").st_dev
    return frozenset(os.stat(place).st_dev for place in _KERNEL if os.path.isdir(place)) - {root}


def existing(path: Path) -> Path:
    """Return a path that exists and may hold data, '~' filled in.

    Raises:
        DataError: it does not, and the nearest names there are first; or it is a pipe, a device or an archive.
    """
    path = Path(path).expanduser()
    if _exists(path):
        refuse_special(path)
        return path
    parent = path.parent
    if not parent.is_dir():
        raise DataError(f"{path} does not exist, and there is no folder {parent} either.")
    names = sorted(entry.name for entry in parent.iterdir() if not entry.name.startswith("."))
    near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
    folders = [name for name in names if (parent / name).is_dir()]
    meant = f" Did you mean {' or '.join(str(parent / name) for name in near)}?" if near else ""
    there = f" Folders there: {', '.join(folders[:_SHOWN])}{f' and {len(folders) - _SHOWN} more' if len(folders) > _SHOWN else ''}."
    raise DataError(f"{path} does not exist.{meant or (there if folders else f' {parent.absolute()} has no folders.')}")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:  # a folder above it may not be entered, or the name is too long
        raise DataError(f"{str(path)[:200]} cannot be reached: {error.strerror}.") from None


def refuse_special(path: Path) -> None:
    """Refuse a path that a person gave and that holds no data: nothing is opened but the first bytes of a regular file.

    Raises:
        DataError: it is a pipe, a socket, a device, a folder of the kernel's, or an archive; says what to do.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be reached: {error.strerror}.") from None
    kind = kind_of(status.st_mode)
    if kind == "a named pipe (FIFO)":
        raise DataError(f"{path} is {kind}, which can be read only once. Write what it gives into a file and name that.")
    if kind is not None:
        raise DataError(f"{path} is {kind}, not a file or folder of data. It was not opened.")
    if is_kernels(status.st_dev):
        raise DataError(f"{path} belongs to the kernel's own file systems ({', '.join(_KERNEL)}), which hold no data. Name another folder.")
    if stat.S_ISREG(status.st_mode) and (archive := archive_of(path)):
        raise DataError(f"{path} is an archive, and archives are not read. Unpack it and give what was in it: {unpacking(path, archive)}")


def archive_of(path: Path) -> str | None:
    """Return the file extension of the archive that a file is, by its name, else (where the name says nothing) by its first bytes."""
    suffix = ending(path.name)
    if suffix in ARCHIVES:
        return suffix
    if suffix and not suffix[1:].isdigit():
        return None
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError:
        return None
    return next((kind for at, mark, kind in _SIGNATURES if start[at : at + len(mark)] == mark), None)


def unpacking(path: Path, archive: str) -> str:
    """Return the shell command that unpacks an archive beside itself."""
    name = path.name.lower()
    is_tar = archive in (".tar", ".tgz", ".tbz2", ".txz") or ".tar." in name
    stem = path.name[: name.index(".tar")] if ".tar" in name else path.name.removesuffix(path.suffix)
    folder = path.with_name(stem if stem != path.name else f"{stem}_unpacked")
    template = _UNPACK[".tar" if is_tar else archive]
    return template.format(file=path_word(str(path)), folder=path_word(str(folder)))
