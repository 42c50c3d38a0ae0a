"""Walk a folder once: every real file at most once, no junk, no endless links."""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pretune.formats.files import ending, is_junk, modality_of, modality_of_bytes
from pretune.sources.special import is_kernels, kind_of
from pretune.types import LedgerEntry

PathParts = tuple[str, ...]

_START = 4096
"""Bytes that tell what a file without a file extension is."""
_ABOUT = frozenset(
    (
        "readme",
        "license",
        "licence",
        "copying",
        "notice",
        "authors",
        "contributors",
        "changelog",
        "changes",
        "makefile",
        "dockerfile",
        "version",
    )
)
"""Names, lower-case, of text files without a file extension that are about the data."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file below the root."""

    parts: PathParts
    """Folders and name, relative to the root."""
    target: str | None = None
    """Where a link leads; None for a real file."""

    @property
    def id(self) -> str:
        """The path relative to the root, with '/'."""
        return readable(self.parts)


@dataclass(kw_only=True)
class Tree:
    """What lies below a folder."""

    root: Path
    files: list[FileEntry] = field(default_factory=list)
    """Sorted by path."""
    folders: set[PathParts] = field(default_factory=set)
    broken: list[PathParts] = field(default_factory=list)
    """Links that lead nowhere, or in a circle."""
    special: list[tuple[PathParts, str]] = field(default_factory=list)
    """Pipes, sockets and devices, and what each is."""
    outside: list[PathParts] = field(default_factory=list)
    """Folder links that lead out of the root and were followed."""
    kernels: list[PathParts] = field(default_factory=list)
    """Folders of the kernel's file systems, which are not read."""
    not_followed: list[PathParts] = field(default_factory=list)
    """Folder links that lead back into what is read anyway."""
    closed: list[PathParts] = field(default_factory=list)
    """Folders that may not be read."""

    @functools.cached_property
    def by_modality(self) -> dict[str | None, list[FileEntry]]:
        """The files of each modality; under None those of no modality."""
        out: dict[str | None, list[FileEntry]] = {}
        for file in self.files:
            known = modality_of(file.parts[-1]) or modality_by_content(self.path(file))
            out.setdefault(known, []).append(file)
        return out

    def media(self, modality: str, below: PathParts = ()) -> list[FileEntry]:
        """Return the files of one modality below a folder."""
        files = self.by_modality.get(modality, [])
        return [file for file in files if file.parts[: len(below)] == below] if below else files

    def path(self, file: FileEntry) -> Path:
        """Return where a file is on disk."""
        return Path(os.path.join(self.root, *file.parts))

    def ledger(self, modality: str) -> list[LedgerEntry]:
        """Return an entry for every broken link and closed folder."""
        entries = [
            LedgerEntry(item=readable(parts), action="dropped", reason="broken_link", detail="is a link to a file that is gone")
            for parts in self.broken
            if modality_of(parts[-1]) == modality
        ]
        entries += [
            LedgerEntry(item=readable(parts), action="dropped", reason="special_file", detail=f"is {kind}, not a file; it was not opened")
            for parts, kind in self.special
            if modality_of(parts[-1]) in (modality, None)
        ]
        return entries + [
            LedgerEntry(
                item=readable(parts) or ".",
                action="dropped",
                reason="no_permission",
                detail="is a folder that cannot be read",
            )
            for parts in self.closed
        ]

    def messages(self) -> list[str]:
        """Return sentences about links, and about what was not opened."""
        named = [parts for parts in self.broken if modality_of(parts[-1]) is None]
        back = "lead back to a folder that is read anyway and were not followed"
        return [
            *_counted(self.not_followed, "folder link(s)", back),
            *_counted(self.outside, "folder link(s)", "lead out of the folder and were followed"),
            *_counted(named, "link(s)", "lead nowhere"),
            *_counted([parts for parts, _ in self.special], "pipe(s), socket(s) or device(s)", "were not opened"),
            *_counted(self.kernels, "folder(s)", "belong to the kernel's own file systems and were not read"),
        ]


def _counted(found: list[PathParts], what: str, fate: str) -> list[str]:
    names = ", ".join(readable(parts) for parts in found[:3]) + (" …" if len(found) > 3 else "")
    return [f"{len(found)} {what} {fate}: {names}."] if found else []


def modality_by_content(path: Path) -> str | None:
    """Return the modality of a file by its file extension; of one that has none (or a number) by its first bytes."""
    suffix = ending(path.name)
    if suffix and not suffix[1:].isdigit():
        return modality_of(path.name)
    try:
        with path.open("rb") as file:
            start = file.read(_START)
    except OSError:
        return None
    return modality_of_bytes(start) or ("text" if path.name.casefold() not in _ABOUT and _is_text(start) else None)


def _is_text(start: bytes) -> bool:
    """Return whether a file begins like UTF-8 or an 8-bit text: no control characters but white space."""
    return bool(start.strip()) and not start.startswith(_NOT_TEXT) and not any(c < 32 and c not in b"\t\n\r\f\x1b" for c in start)


_NOT_TEXT = (b"%PDF", b"{\\rtf", b"#!")


def readable(parts: Iterable[str]) -> str:
    r"""Return a path as text that can be written to any file: bytes that are no UTF-8 become \x escapes."""
    whole = "/".join(parts)
    return whole if whole.isascii() else os.fsencode(whole).decode("utf-8", "backslashreplace")


def walk(root: Path) -> Tree:
    """Return the files below `root`; real folders first, then links to folders outside."""
    tree = Tree(root=root)
    seen: set[tuple[int, int]] = set()
    links: list[PathParts] = []
    _descend(tree, (), seen, links)
    while links:
        parts = links.pop(0)
        if _leads_back(root, parts, seen):
            tree.not_followed.append(parts)
        else:
            tree.outside.append(parts)
            _descend(tree, parts, seen, links)
    tree.files.sort(key=lambda file: file.parts)
    for names in (tree.broken, tree.special, tree.outside):
        names.sort()
    return tree


def _descend(tree: Tree, start: PathParts, seen: set[tuple[int, int]], links: list[PathParts]) -> None:
    """Read real folders from `start` down, with a stack (folders may be deeper than Python's)."""
    stack = [start]
    while stack:
        parts = stack.pop()
        try:
            identity = _identity(tree.root, parts)
        except OSError:  # it is gone, or may not be looked at
            tree.closed.append(parts)
            continue
        if is_kernels(identity[0]):
            tree.kernels.append(parts)
            continue
        tree.folders.add(parts)
        seen.add(identity)
        for entry in _entries(tree, parts):
            where = (*parts, entry.name)
            _sort_in(tree, entry, where, stack, links)


def _sort_in(tree: Tree, entry: os.DirEntry[str], where: PathParts, stack: list[PathParts], links: list[PathParts]) -> None:
    is_link = entry.is_symlink()
    try:
        mode = entry.stat().st_mode
    except OSError:  # its target is gone, may not be looked at, or is itself
        tree.broken.append(where)
        return
    if stat.S_ISDIR(mode):
        (links if is_link else stack).append(where)
    elif kind := kind_of(mode):
        tree.special.append((where, kind))
    else:
        tree.files.append(FileEntry(where, os.path.realpath(entry.path) if is_link else None))


def _entries(tree: Tree, parts: PathParts) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(tree.root.joinpath(*parts)) as entries:
            yield from (entry for entry in entries if not is_junk(entry.name))
    except OSError:  # no permission, or the disk fails
        tree.closed.append(parts)


def _identity(root: Path, parts: PathParts) -> tuple[int, int]:
    status = os.stat(root.joinpath(*parts))
    return status.st_dev, status.st_ino


def _leads_back(root: Path, parts: PathParts, seen: set[tuple[int, int]]) -> bool:
    """Return whether a folder link leads to a folder already read, or above the root."""
    target = Path(os.path.realpath(root.joinpath(*parts)))
    return _identity(root, parts) in seen or root.resolve().is_relative_to(target)
