"""The files below a folder, found by names that are written otherwise than on disk."""

from __future__ import annotations

import functools
import os
import posixpath
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pretune.formats.files import ending, modality_of
from pretune.sources.names import folded, variants
from pretune.sources.outside import files_below
from pretune.sources.readers.records import is_manifest
from pretune.sources.special import kind_of
from pretune.sources.tree import Tree

_Names = dict[str, list[str]]


@dataclass(kw_only=True)
class FilesBelow:
    """The files below a root. Letter case, Unicode form, separators and missing file extensions are looked through."""

    root: Path
    walk: Callable[[], Tree]
    """Gives the tree below the first root, when it is needed."""
    others: list[str] | None = None
    """Files below a root that was moved; None where `walk` or the disk says."""
    _listings: dict[str, tuple[_Names, _Names]] = field(default_factory=dict)

    def move(self, root: Path, files: list[str] | None) -> None:
        """Look below another root; `files` are those below it where they are known."""
        self.root, self.others = root, files
        self._listings.clear()
        self.__dict__.pop("_by_name", None)

    def variants_of(self, value: str) -> list[str]:
        """Return the ways to read a path as written, relative to the root where it is absolute and inside."""
        root = f"{self.root.absolute().as_posix()}/"
        literal = [value] if "\\" in value and (self.root / value).is_file() else []
        return literal + [one.removeprefix(root) for one in variants(value)]

    def exists(self, value: str) -> bool:
        """Return whether a path, relative to the root, is that of a file below it."""
        if posixpath.isabs(value) or "\0" in value:
            return False
        plain = posixpath.normpath(value)
        return not plain.startswith("../") and os.path.isfile(self.root / plain)

    def similar(self, plain: str) -> list[str]:
        """Return files whose name differs in letter case or Unicode form only, else files that have an ending more."""
        if posixpath.isabs(plain) or ".." in plain.split("/"):
            return []
        *folders, name = plain.split("/")
        places = [""]
        for folder in folders:
            places = [f"{place}{found}/" for place in places for found in self._listing(place)[0].get(folded(folder), [])]
        same = [place + found for place in places for found in self._listing(place)[0].get(folded(name), [])]
        longer = [place + found for place in places for found in self._listing(place)[1].get(folded(name), [])]
        return [found for found in same or longer if self.exists(found)]

    def _listing(self, place: str) -> tuple[_Names, _Names]:
        """Return the names in a folder (with a closing '/') by their folded form, with and without endings."""
        if place not in self._listings:
            names = os.listdir(self.root / place) if (self.root / place).is_dir() else []
            whole = _group((folded(name), name) for name in names)
            self._listings[place] = whole, _group((folded(posixpath.splitext(name)[0]), name) for name in names if ending(name))
        return self._listings[place]

    def _files(self) -> list[str]:
        if self.others is not None:
            return self.others
        tree = self.walk()
        return ["/".join(file.parts) for file in tree.files] if tree.root == self.root else files_below(self.root) or []

    @functools.cached_property
    def _by_name(self) -> tuple[_Names, _Names]:
        """Files by their folded name, and by their folded name without its ending."""
        names = [(name.rpartition("/")[2], name) for name in self._files()]
        return _group((folded(last), name) for last, name in names), _group(
            (folded(posixpath.splitext(last)[0]), name) for last, name in names
        )

    def named(self, key: str) -> list[str]:
        """Return the files of a folded name, else those that have it and a file extension."""
        whole, stems = self._by_name
        return whole.get(key) or stems.get(key, [])

    def knows(self, value: str) -> bool:
        """Return whether there is a file that is no manifest of a name without a known file extension, or of that name with one."""
        if modality_of(value) is not None:
            return False
        names = {folded(one.rpartition("/")[2]) for one in variants(value)} - {""}
        return any(not is_manifest(found) for name in names for found in self.named(name))

    def why_absent(self, plain: str) -> str:
        """Return why a name stands for no file."""
        try:
            mode = os.stat(self.root / plain).st_mode
        except (OSError, ValueError):
            return "does not exist"
        return f"is {kind_of(mode) or 'a folder'}, not a file" if plain else "does not exist"


def _group(pairs: Iterable[tuple[str, str]]) -> _Names:
    out: _Names = {}
    for key, name in pairs:
        out.setdefault(key, []).append(name)
    return out
