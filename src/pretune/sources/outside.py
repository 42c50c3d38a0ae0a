"""Where a manifest's paths may lead outside the data folder.

A manifest may come from anybody. So a single path that leaves the data folder is dropped and named: else a data set could
have any file of the machine read, shown in a report, or trained on. Where most paths of a manifest leave, it was made with
its files elsewhere on this machine; then they are followed to the one folder below which they lie, which is reported. The top
of the file system, home folders as a whole and the system's own folders are never that folder.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pretune.formats.files import is_junk

_MOST = 50_000
"""Files above a manifest's folder that are looked through at most."""
_NEARLY_ALL = 0.8
_SYSTEM = tuple(map(Path, ("/etc", "/proc", "/sys", "/dev", "/boot", "/run", "/root/.ssh", "/var/lib", "/var/log", "/usr/lib")))

_TABLES = re.compile(r"meta(data)?|lists?|labels?|annotations?|csvs?|tables?|splits?|manifests?|docs?")
"""Words in the names of folders that hold tables about files which lie beside the folder."""


def holds_tables(name: str) -> bool:
    """Return whether a folder's name says that it holds tables about files elsewhere: 'meta', 'csv_files'."""
    return any(_TABLES.fullmatch(word) for word in re.split(r"[\W_]+", name.casefold()))


def common_folder(files: Sequence[str]) -> Path | None:
    """Return the deepest folder with nearly all of these files (absolute paths), None where it is none that data lie in."""
    folders = [Path(file).parent for file in files]
    folder = Path(folders[0].anchor)
    while True:
        depth = len(folder.parts)
        below = Counter(one.parts[depth] for one in folders if len(one.parts) > depth and one.is_relative_to(folder))
        if not below or below.most_common(1)[0][1] < _NEARLY_ALL * len(folders):
            break
        folder = folder / below.most_common(1)[0][0]
    return None if _is_forbidden(folder) else folder


def above(folder: Path) -> Path | None:
    """Return the folder above, None where it is none that data lie in."""
    return None if folder.parent == folder or _is_forbidden(folder.parent) else folder.parent


def files_below(folder: Path) -> list[str] | None:
    """Return the paths below a folder, with '/', sorted; None where there are too many to look through."""
    out: list[str] = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not is_junk(name)]
        base = Path(place).relative_to(folder)
        out += [(base / name).as_posix() for name in names if not is_junk(name)]
        if len(out) > _MOST:
            return None
    return sorted(out)


def _is_forbidden(folder: Path) -> bool:
    home = Path(os.path.expanduser("~"))
    return folder == Path(folder.anchor) or home.is_relative_to(folder) or any(folder.is_relative_to(system) for system in _SYSTEM)
