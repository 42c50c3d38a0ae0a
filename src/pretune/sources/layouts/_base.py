"""What labelled data lie under a path, as a value that reads itself, and what a layout of its own adds to that."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pretune.formats.files import ending
from pretune.sources.table import Columns, Table
from pretune.sources.target_type import TargetType
from pretune.sources.tree import FileEntry, Tree, walk


@dataclass(frozen=True, kw_only=True)
class DataPlace:
    """Where data are read, and what is known of them beforehand."""

    path: Path
    """A folder or a file that exists."""
    columns: Columns
    """The columns that the person named, or of a run those of its training data."""
    modality: str | None = None
    """image, audio or text; None infers it."""
    target: TargetType | None = None
    """The type of target that is wanted, to predict that of the run; None infers it."""

    @functools.cached_property
    def tree(self) -> Tree:
        """The files below the folder; of a file, those beside it."""
        return walk(self.path if self.path.is_dir() else self.path.parent)

    def files(self, endings: Collection[str]) -> list[FileEntry]:
        """Return the file that is named, or those below the folder, where it has one of these endings, given in lower case."""
        named = self.path.name if self.path.is_file() else None
        if named is not None and ending(named) not in endings:
            return []
        return [file for file in self.tree.files if ending(file.parts[-1]) in endings and named in (None, file.id)]

    def may_be(self, modality: str, target: TargetType) -> bool:
        """Return whether data of this modality with targets of this type may be meant."""
        asked, kind = self.target, type(target)
        same = asked is None or asked.task == target.task or (kind is not TargetType and isinstance(asked, kind))
        return self.modality in (None, modality) and same


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """Labelled data under a path, before a row of them is made."""

    columns: Columns
    """The columns to read: those that the person named, of a run those of its training data."""
    modality: str | None
    """image, audio or text; None where the tables have to show it."""

    @abstractmethod
    def read(self, target: TargetType | None) -> Table:
        """Return the rows with their targets.

        Args:
            target: the type of target that is wanted; None infers it.

        Raises:
            DataError: the data as a whole cannot be used.
            SettingError: a named column does not exist.
        """


@dataclass(frozen=True, kw_only=True)
class OwnLayout(Source):
    """A layout that files of one kind or the names of folders tell by themselves; one file of this package each."""

    @classmethod
    @abstractmethod
    def recognise(cls, place: DataPlace) -> Self | None:
        """Return the data at a place where they have this layout, else None; cheap, as every path is looked at.

        Raises:
            DataError: they have it, and cannot be read.
        """

    def read_unlabelled(self) -> Table | None:
        """Return what is to be predicted, `Table.inputs` in order; None where the files themselves show it."""
        return None
