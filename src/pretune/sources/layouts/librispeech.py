"""LibriSpeech: `SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt`, each line the name of a clip beside it and its transcript."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from pretune.sources.layouts._base import DataPlace, OwnLayout
from pretune.sources.layouts._spoken import TranscriptList, Utterance, named_lines, table_of
from pretune.sources.split_names import split_of
from pretune.sources.table import Table
from pretune.sources.target_type import TargetType
from pretune.sources.transcripts import TRANSCRIPTS
from pretune.sources.tree import FileEntry, Tree
from pretune.types import Split

_ENDING = ".trans.txt"


@dataclass(frozen=True, kw_only=True)
class LibriSpeech(OwnLayout):
    """The clips of one or several subsets: train-clean-100, dev-clean, test-other."""

    tree: Tree
    lists: tuple[FileEntry, ...]

    @classmethod
    def recognise(cls, place: DataPlace) -> Self | None:
        """Return the folder's lists of transcripts."""
        if not place.path.is_dir() or not place.may_be("audio", TRANSCRIPTS):
            return None
        found = tuple(file for file in place.tree.files if file.parts[-1].endswith(_ENDING))
        return cls(columns=place.columns, modality="audio", tree=place.tree, lists=found) if found else None

    def read(self, target: TargetType | None) -> Table:
        """Return a row for each line; the first part of a clip's name is its speaker, who stays on one side of a split."""
        beside = {(file.parts[:-1], file.parts[-1].rpartition(".")[0]): file.parts[-1] for file in self.tree.media("audio")}
        lists = [self._list(file, beside) for file in self.lists]
        return table_of(lists, self.tree, self.columns, target, "LibriSpeech folders")

    def _list(self, file: FileEntry, beside: dict[tuple[tuple[str, ...], str], str]) -> TranscriptList:
        found = TranscriptList(file=self.tree.path(file), split=_split(file))
        for line, name, text in named_lines(found.file, found.messages):
            clip = beside.get((file.parts[:-1], name))
            if clip is None:
                found.dropped.append((line, "missing_file", f"is the transcript of {name}, and no audio file beside it has that name"))
            else:
                speaker = name.partition("-")[0] if "-" in name else ""
                path = "/".join((*file.parts[:-1], clip))
                found.utterances.append(Utterance(path=path, text=text, line=line, group=speaker))
        return found


def _split(file: FileEntry) -> Split | None:
    """Return the split that the nearest folder names: dev-clean is val, test-other test."""
    named = (split_of(part.partition("-")[0]) for part in reversed(file.parts[:-1]))
    return next((split for split in named if split), None)
