"""Parallel text files: line by line a text and its translation, `train.en` beside `train.de`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pretune.errors import BadItem, DataError
from pretune.formats.files import ending, modality_of
from pretune.sources import languages
from pretune.sources.layouts._base import DataPlace, OwnLayout
from pretune.sources.readers.records import is_manifest
from pretune.sources.readers.text_files import TextFiles
from pretune.sources.split_names import split_of_file, split_of_folder
from pretune.sources.table import Table
from pretune.sources.target_type import TargetType
from pretune.sources.translations import Bitext, Direction, TranslationPair, direction, is_wanted
from pretune.sources.tree import FileEntry, Tree
from pretune.types import Split

_NAME = re.compile(r"(?:(?P<stem>.*?)[._-])?(?P<language>(?!(?:txt|text|tok|clean)$)[^._]+)(?:\.(?:txt|text|tok|clean))*", re.IGNORECASE)
_FEW = 8
"""Names that a message lists."""
_ABOUT = frozenset(("readme", "license", "licence", "makefile", "changelog"))
_NOT_SIDES = frozenset(
    (".gz", ".zip", ".bz2", ".xz", ".md", ".py", ".sh", ".pdf", ".html", ".xml", ".tmx", ".log", ".toml", ".yaml", ".yml")
)


@dataclass(frozen=True, kw_only=True)
class LineFile:
    """A file of lines in one language."""

    file: FileEntry
    stem: tuple[str, ...]
    """Folders and the name without the language: files that belong together share it."""
    language: str


@dataclass(frozen=True, kw_only=True)
class ParallelLines(OwnLayout):
    """Files of lines that belong together by their names."""

    tree: Tree
    groups: tuple[tuple[LineFile, ...], ...]
    """Files of one stem, of all languages there are."""
    wanted: TargetType | None
    one: Path | None = None
    """The file that is given itself, in place of a folder."""

    @classmethod
    def recognise(cls, place: DataPlace) -> Self | None:
        """Return the files that share a name but for a language; where translation is wanted, but for any word."""
        wanted = is_wanted(place.target)
        if place.modality not in (None, "text") or (place.target is not None and not wanted):
            return None
        one = None if place.path.is_dir() else place.path
        if one is not None and (is_manifest(one.name) or ending(one.name) in _NOT_SIDES - {".md", ".log"}):
            return None
        groups = _groups(place.tree, sure=not wanted, one=one)
        if not groups and not (wanted and one is not None and modality_of(one.name) in (None, "text")):
            return None
        return cls(columns=place.columns, modality="text", tree=place.tree, groups=tuple(groups), wanted=place.target, one=one)

    def read(self, target: TargetType | None) -> Table:
        """Return a row for each pair of lines.

        Raises:
            DataError: files of one stem have different numbers of lines, or nothing says the direction.
        """
        if not self.groups:
            raise DataError(f"{self.one} stands alone: beside it is no file of the same name in another language (train.en, train.de).")
        files = TextFiles()
        lines = {one.file.id: self._lines(one, files) for group in self.groups for one in group}
        for group in self.groups:
            self._require_equal(group, lines)
        way = self._direction()
        names = [one.language for group in self.groups for one in group]
        counted = f"{len(self.groups)} pair{'s' * (len(self.groups) != 1)} of files"
        bitext = Bitext(root=self.tree.root, layout=f"parallel lines ({counted}, .{way.source} and .{way.target})", direction=way)
        bitext.messages += files.messages()
        others = sorted(set(names) - {way.source, way.target})
        if others:
            bitext.messages.append(f"other languages are not read: {', '.join(others)}.")
        for group in self.groups:
            sides = {one.language: one for one in group}
            if way.source in sides and way.target in sides:
                first, second = sides[way.source], sides[way.target]
                split = self._split(first)
                pairs = enumerate(zip(lines[first.file.id], lines[second.file.id], strict=True), start=1)
                bitext.pairs += [TranslationPair(f"{first.file.id}:{at}", left, (right,), split) for at, (left, right) in pairs]
        return bitext.table(target)

    def read_unlabelled(self) -> Table:
        """Return the lines of the source language; of a file that is given itself, its own."""
        read = TextFiles()
        if self.one is not None:
            files = [(self.one.name, _lines(self.one, self.one.name, read))]
        else:
            way = self._direction()
            files = [(one.file.id, self._lines(one, read)) for group in self.groups for one in group if one.language == way.source]
        table = Table(rows=[], modality="text", target_type=None, root=self.tree.root, layout="lines")
        table.messages = [*read.messages(), f"{', '.join(name for name, _ in files[:_FEW])}: each line is one text."]
        way = Direction(source="", target="")
        for name, lines in files:
            bitext = Bitext(root=self.tree.root, layout="lines", direction=way)
            bitext.pairs = [TranslationPair(f"{name}:{at}", line, ("-",)) for at, line in enumerate(lines, start=1)]
            found = bitext.table(None)
            table.rows += found.rows
            table.ledger += found.ledger
            table.inputs += found.inputs
        return table

    def _direction(self) -> Direction:
        names = list(dict.fromkeys(one.language for group in self.groups for one in group))
        names = sorted(names)
        stems = [part for group in self.groups for part in group[0].stem]
        return direction(names, self.wanted, self.columns, [self.tree.root.name, *stems])

    def _split(self, one: LineFile) -> Split | None:
        named = split_of_file(one.stem[-1]) if one.stem else None
        folders = [split for part in one.stem[:-1] if (split := split_of_folder(part))]
        found = named or next(iter(folders), None)
        return found if self.columns.split != "new" and len(self.groups) > 1 else None

    def _lines(self, one: LineFile, files: TextFiles) -> list[str]:
        return _lines(self.tree.path(one.file), one.file.id, files)

    def _require_equal(self, group: Sequence[LineFile], lines: dict[str, list[str]]) -> None:
        counts = {one.file.id: len(lines[one.file.id]) for one in group}
        if len(set(counts.values())) == 1:
            return
        (first, many), (second, few) = max(counts.items(), key=lambda pair: pair[1]), min(counts.items(), key=lambda pair: pair[1])
        raise DataError(
            f"{self.tree.root}: {first} has {many:,} lines and {second} has {few:,}, so lines do not belong together from some place on"
            f"{_where(lines[first], lines[second])}. Make both files have a line for each pair; an empty line keeps the place of a text "
            "that is missing."
        )


def _groups(tree: Tree, *, sure: bool, one: Path | None) -> list[tuple[LineFile, ...]]:
    """Return the files that share a stem, sorted; those of less than two languages are none.

    Args:
        tree: the folder.
        sure: only names of languages count.
        one: a file that must be among them.
    """
    found: dict[tuple[str, ...], list[LineFile]] = {}
    for file in tree.files:
        match = _NAME.fullmatch(file.parts[-1])
        if match is None or modality_of(file.parts[-1]) not in (None, "text") or is_manifest(file.parts[-1]):
            continue
        language = match["language"]
        if not (languages.is_language(language) or (not sure and _may_be_a_side(file.parts[-1], language))):
            continue
        stem = (*file.parts[:-1], match["stem"] or "")
        found.setdefault(stem, []).append(LineFile(file=file, stem=stem, language=language))
    groups = [tuple(sorted(group, key=lambda one: one.language)) for _, group in sorted(found.items()) if len(group) > 1]
    groups = [group for group in groups if len({one.language for one in group}) == len(group)]
    if one is not None:
        groups = [group for group in groups if any(tree.path(side.file) == one for side in group)]
    return groups


def _may_be_a_side(name: str, language: str) -> bool:
    """Return whether a word may stand for one side: the file extension of a name that is not about the data."""
    return name.endswith(f".{language}") and name.casefold().partition(".")[0] not in _ABOUT and f".{language.casefold()}" not in _NOT_SIDES


def _lines(path: Path, name: str, files: TextFiles) -> list[str]:
    """Return the lines of a file: line feeds end them, and nothing else does (U+2028 and form feeds are parts of texts).

    Raises:
        DataError: it cannot be read, or is no text.
    """
    try:
        text = files.read(path, name)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    except BadItem as bad:
        raise DataError(f"{path} {bad.detail}.") from None
    if not text.strip():
        raise DataError(f"{path} is empty.")
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def _where(first: Sequence[str], second: Sequence[str]) -> str:
    """Return where two files of lines may have come apart: the first place at which exactly one side is blank."""
    for at, (left, right) in enumerate(zip(first, second, strict=False), start=1):
        if bool(left.strip()) != bool(right.strip()):
            return f" (perhaps line {at:,}, where one side is blank)"
    return f"; from line {min(len(first), len(second)) + 1:,} on one side is missing"
