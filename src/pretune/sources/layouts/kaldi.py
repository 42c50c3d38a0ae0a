"""Kaldi's data folders: `wav.scp` (utterance and file), `text` (utterance and transcript), `utt2spk` (utterance and speaker)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from pretune.errors import DataError
from pretune.sources.layouts._base import DataPlace, OwnLayout
from pretune.sources.layouts._spoken import TranscriptList, Utterance, named_lines, table_of
from pretune.sources.split_names import splits_of_folders
from pretune.sources.table import Table
from pretune.sources.target_type import TargetType
from pretune.sources.transcripts import TRANSCRIPTS
from pretune.sources.tree import Tree
from pretune.types import Split


@dataclass(frozen=True, kw_only=True)
class Kaldi(OwnLayout):
    """One data folder, or one for each split."""

    tree: Tree
    folders: tuple[tuple[str, ...], ...]

    @classmethod
    def recognise(cls, place: DataPlace) -> Self | None:
        """Return the folders that hold both `wav.scp` and `text`."""
        if not place.path.is_dir() or not place.may_be("audio", TRANSCRIPTS):
            return None
        there = {file.parts for file in place.tree.files}
        found = sorted(parts[:-1] for parts in there if parts[-1] == "wav.scp" and (*parts[:-1], "text") in there)
        return cls(columns=place.columns, modality="audio", tree=place.tree, folders=tuple(found)) if found else None

    def read(self, target: TargetType | None) -> Table:
        """Return a row for each utterance; speakers stay on one side of a split.

        Raises:
            DataError: utterances are segments of longer recordings.
        """
        splits = splits_of_folders(parts[-1] for parts in self.folders if parts)
        lists = [self._list(parts, splits.get(parts[-1]) if parts else None) for parts in self.folders]
        return table_of(lists, self.tree, self.columns, target, "Kaldi data folder" + "s" * (len(lists) > 1))

    def _list(self, parts: tuple[str, ...], split: Split | None) -> TranscriptList:
        folder = self.tree.root.joinpath(*parts)
        if (folder / "segments").exists():
            raise DataError(
                f"{folder} has a file 'segments': its utterances are parts of longer recordings. Cut these into one file for each "
                "utterance first (in Kaldi: extract-segments)."
            )
        found = TranscriptList(file=folder / "text", split=split)
        transcripts = {name: (number, text) for number, name, text in named_lines(folder / "text", found.messages)}
        speakers = {name: who for _, name, who in named_lines(folder / "utt2spk", found.messages)} if (folder / "utt2spk").exists() else {}
        for _, name, path in named_lines(folder / "wav.scp", found.messages):
            line, text = transcripts.pop(name, (0, ""))
            if path.endswith("|"):
                found.dropped.append((line, "command", f"is the output of a command ({path[:60]}), which is not run; write a file of it"))
            elif not line:
                found.dropped.append((0, "blank_transcript", f"is missing: {name} of wav.scp has no transcript"))
            else:
                found.utterances.append(Utterance(path=path, text=text, line=line, group=speakers.get(name, "")))
        found.dropped += [
            (line, "missing_file", f"has a transcript of {name}, which wav.scp does not have") for name, (line, _) in transcripts.items()
        ]
        return found
