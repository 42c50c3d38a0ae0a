"""Walk a folder once: every real file at most once, no junk, no endless links."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pretune.modalities._formats import is_junk, modality_of
from pretune.types import LedgerEntry

Parts = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class File:
    """One file below the root."""

    parts: Parts
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
    files: list[File] = field(default_factory=list)
    """Sorted by path."""
    folders: set[Parts] = field(default_factory=set)
    broken: list[Parts] = field(default_factory=list)
    """Links that lead nowhere."""
    not_followed: list[Parts] = field(default_factory=list)
    """Folder links that lead back into what is read anyway."""
    closed: list[Parts] = field(default_factory=list)
    """Folders that may not be read."""

    @functools.cached_property
    def by_modality(self) -> dict[str | None, list[File]]:
        """The files of each modality; under None those of no modality."""
        out: dict[str | None, list[File]] = {}
        for file in self.files:
            out.setdefault(modality_of(file.parts[-1]), []).append(file)
        return out

    def media(self, modality: str, below: Parts = ()) -> list[File]:
        """Return the files of one modality below a folder."""
        files = self.by_modality.get(modality, [])
        return [file for file in files if file.parts[: len(below)] == below] if below else files

    def path(self, file: File) -> Path:
        """Return where a file is on disk."""
        return Path(os.path.join(self.root, *file.parts))

    def ledger(self, modality: str) -> list[LedgerEntry]:
        """Return an entry for every broken link and closed folder."""
        entries = [
            LedgerEntry(item=readable(parts), action="dropped", reason="broken_link", detail="is a link to a file that is gone")
            for parts in self.broken
            if modality_of(parts[-1]) == modality
        ]
        return entries + [
            LedgerEntry(
                item=readable(parts) or ".",
                action="dropped",
                reason="no_permission",
                detail="is a folder that may not be read",
            )
            for parts in self.closed
        ]

    def said(self) -> list[str]:
        """Return a sentence about folder links that were not followed."""
        if not self.not_followed:
            return []
        names = ", ".join(readable(parts) for parts in self.not_followed[:3])
        return [f"{len(self.not_followed)} folder link(s) lead back to a folder that is read anyway and were not followed: {names}."]


def readable(parts: Iterable[str]) -> str:
    r"""Return a path as text that can be written to any file: bytes that are no UTF-8 become \x escapes."""
    whole = "/".join(parts)
    return whole if whole.isascii() else os.fsencode(whole).decode("utf-8", "backslashreplace")


def walk(root: Path) -> Tree:
    """Return the files below `root`; real folders first, then links to folders outside."""
    tree = Tree(root=root)
    seen: set[tuple[int, int]] = set()
    links: list[Parts] = []
    _descend(tree, (), seen, links)
    while links:
        parts = links.pop(0)
        if _leads_back(root, parts, seen):
            tree.not_followed.append(parts)
        else:
            _descend(tree, parts, seen, links)
    tree.files.sort(key=lambda file: file.parts)
    tree.broken.sort()
    return tree


def _descend(tree: Tree, start: Parts, seen: set[tuple[int, int]], links: list[Parts]) -> None:
    """Read real folders from `start` down, with a stack (folders may be deeper than Python's)."""
    stack = [start]
    while stack:
        parts = stack.pop()
        tree.folders.add(parts)
        seen.add(_identity(tree.root, parts))
        for entry in _entries(tree, parts):
            where = (*parts, entry.name)
            _sort_in(tree, entry, where, stack, links)


def _sort_in(tree: Tree, entry: os.DirEntry[str], where: Parts, stack: list[Parts], links: list[Parts]) -> None:
    is_link = entry.is_symlink()
    if is_link and not os.path.exists(entry.path):
        tree.broken.append(where)
    elif entry.is_dir():
        (links if is_link else stack).append(where)
    elif entry.is_file():  # not a pipe or a device
        tree.files.append(File(where, os.path.realpath(entry.path) if is_link else None))


def _entries(tree: Tree, parts: Parts) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(tree.root.joinpath(*parts)) as entries:
            yield from (entry for entry in entries if not is_junk(entry.name))
    except PermissionError:
        tree.closed.append(parts)


def _identity(root: Path, parts: Parts) -> tuple[int, int]:
    status = os.stat(root.joinpath(*parts))
    return status.st_dev, status.st_ino


def _leads_back(root: Path, parts: Parts, seen: set[tuple[int, int]]) -> bool:
    """Tell whether a folder link leads to a folder already read, or above the root."""
    target = Path(os.path.realpath(root.joinpath(*parts)))
    return _identity(root, parts) in seen or root.resolve().is_relative_to(target)
