"""Find the files that a manifest names: below one root, back-slashes and letter case forgiven."""

from __future__ import annotations

import functools
import os
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from pretune.data.records import is_manifest
from pretune.data.special import kind_of
from pretune.data.tree import Tree, readable
from pretune.modalities._formats import ending

_SAMPLE = 200
_Names = dict[str, list[str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Located:
    """Where one manifest entry's file is, or why it is nowhere."""

    id: str
    """Path relative to the root with '/', as found; as written where nothing was found."""
    path: Path | None = None
    reason: str = ""
    """A slug where there is no file, or where the name had to be repaired."""
    words: str = ""
    """Continues 'row 19 …'."""


class Locator:
    """Resolves the paths of one manifest."""

    def __init__(self, root: Path, tree: Callable[[], Tree]) -> None:
        self.root = root
        self._walk = tree
        self.prefix = ""
        """Folder, with '/', that is put before every path."""
        self.cut = ""
        """Leading folders, with '/', that are cut from every path."""
        self._listings: dict[str, tuple[_Names, _Names]] = {}

    def settle(self, values: list[str]) -> str | None:
        """Choose what the paths are relative to, from a sample; return a sentence where it is not the root."""
        sample = [_slashes(value) for value in values if value][:_SAMPLE]
        if not sample or sum(self._exists(value) for value in sample) >= 0.5 * len(sample):
            return None
        if sum(os.path.isabs(value) and os.path.isfile(value) for value in sample) >= 0.5 * len(sample):
            return self._move(values)
        added = Counter(prefix for value in sample for prefix in self._prefixes(value))
        cut = Counter(lead for value in sample for lead in self._leads(value))
        best_added, best_cut = (counter.most_common(1)[0] if counter else ("", 0) for counter in (added, cut))
        if max(best_added[1], best_cut[1]) < 0.3 * len(sample):
            return None
        if best_added[1] >= best_cut[1]:
            self.prefix = best_added[0]
            return f"its paths are relative to {self.prefix}"
        self.cut = best_cut[0]
        return f"{self.cut!r} was cut from the front of its paths"

    def _move(self, values: list[str]) -> str | None:
        """Take absolute paths, where they are the rule, below the folder that holds all their files; a few of them are strays."""
        folders = {os.path.dirname(value) for value in values if os.path.isabs(value)}
        root = Path(os.path.commonpath([folder for folder in folders if os.path.isdir(folder)]))
        if root.is_relative_to(self.root.absolute()):
            return None
        self.root = root
        return f"its paths are absolute, below {root}"

    def find(self, value: str) -> Located:
        """Return the file that `value` names."""
        if re.match(r"[a-z][a-z0-9+]+://", value, re.I):
            return Located(id=value, reason="remote_path", words=f"names {value}, which is not on this disk; nothing is downloaded")
        plain = self._plain(value)
        if plain is None:
            return Located(id=value, reason="outside_root", words=f"names {value}, which lies outside {self.root.absolute()}")
        if self._exists(plain):
            return Located(id=readable((plain,)), path=self.root / plain)
        near = self._similar(plain)
        if len(near) == 1:
            only_ending = posixpath.splitext(near[0])[0] == plain
            words = "" if only_ending else f"names {value}; the file is called {near[0]}"
            return Located(id=readable(near), path=self.root / near[0], reason="" if only_ending else "other_spelling", words=words)
        words = f"names {value}, which {self._absent(plain)}" if not near else f"names {value}, which may be any of {', '.join(near[:3])}"
        return Located(id=value, reason="missing_file", words=words)

    def _absent(self, plain: str) -> str:
        """Return why a name stands for no file."""
        try:
            mode = os.stat(self.root / plain).st_mode
        except (OSError, ValueError):
            return "does not exist"
        return f"is {kind_of(mode) or 'a folder'}, not a file"

    def _plain(self, value: str) -> str | None:
        """Return the path relative to the root with '/', None where it leads outside."""
        if "\\" not in value or not (self.root / value).is_file():
            value = _slashes(value)
        value = value.removeprefix(self.cut) if self.cut else value
        if posixpath.isabs(value) and Path(value).is_relative_to(self.root.absolute()):
            value = Path(value).relative_to(self.root.absolute()).as_posix()
        if posixpath.isabs(value) or re.match(r"[A-Za-z]:/", value):
            return None
        value = posixpath.normpath(self.prefix + value)
        return None if value == ".." or value.startswith("../") else value

    def _exists(self, value: str) -> bool:
        return not posixpath.isabs(value) and ".." not in value.split("/") and os.path.isfile(self.root / value)

    def _similar(self, plain: str) -> list[str]:
        """Return files whose name differs in letter case or Unicode form only, else files that have an ending more."""
        *folders, name = plain.split("/")
        places = [""]
        for folder in folders:
            places = [f"{place}{found}/" for place in places for found in self._listing(place)[0].get(_fold(folder), [])]
        same = [place + found for place in places for found in self._listing(place)[0].get(_fold(name), [])]
        longer = [place + found for place in places for found in self._listing(place)[1].get(_fold(name), [])]
        return [found for found in same or longer if self._exists(found)]

    def _listing(self, place: str) -> tuple[_Names, _Names]:
        """Return the names in a folder (with a closing '/') by their folded form, with and without endings."""
        if place not in self._listings:
            names = os.listdir(self.root / place) if (self.root / place).is_dir() else []
            whole = _group((_fold(name), name) for name in names)
            self._listings[place] = whole, _group((_fold(posixpath.splitext(name)[0]), name) for name in names if ending(name))
        return self._listings[place]

    # --- what needs to know every file below the root

    @functools.cached_property
    def _by_name(self) -> dict[str, list[str]]:
        names = ["/".join(file.parts) for file in self._walk().files]
        by_name = _group((name.rpartition("/")[2], name) for name in names)
        by_stem = _group((posixpath.splitext(name.rpartition("/")[2])[0], name) for name in names)
        return by_stem | by_name

    def stems(self) -> set[str]:
        """Return the names of all files below the root but manifests, without folders and endings."""
        names = [file.parts[-1] for file in self._walk().files]
        return {posixpath.splitext(name)[0] for name in names if ending(name) and not is_manifest(name)}

    def _prefixes(self, value: str) -> set[str]:
        """Return the folders below which `value` exists."""
        out = set()
        for name in self._by_name.get(value.rpartition("/")[2], []):
            whole = name if ending(value) else name.removesuffix(posixpath.splitext(name)[1])
            if whole.endswith("/" + value):
                out.add(whole.removesuffix(value))
        return out

    def _leads(self, value: str) -> set[str]:
        """Return the leading folders without which `value` exists."""
        tokens = value.split("/")
        rests = ("/".join(tokens[i:]) for i in range(1, len(tokens)))
        return {value.removesuffix(rest) for rest in rests if self._exists(rest)}


def _slashes(value: str) -> str:
    return value.replace("\\", "/").removeprefix("./")


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _group(pairs: Iterable[tuple[str, str]]) -> _Names:
    out: _Names = {}
    for key, name in pairs:
        out.setdefault(key, []).append(name)
    return out
