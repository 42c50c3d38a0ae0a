"""Audio files with their transcripts in text files of the same name: clip.wav and clip.txt (or .lab), side by side or in sister folders."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Self

from pretune.errors import BadItem, DataError
from pretune.formats.files import ending
from pretune.sources.layouts._base import DataPlace, OwnLayout
from pretune.sources.layouts._spoken import TranscriptList, Utterance, table_of
from pretune.sources.readers.text_files import TextFiles
from pretune.sources.table import Table
from pretune.sources.target_type import TargetType
from pretune.sources.transcripts import TRANSCRIPTS
from pretune.sources.tree import FileEntry, Tree

_ENDINGS = (".txt", ".lab")
_MOST = 0.5
"""Share of the audio files that must have a text file of their name."""
_MOST_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class TextBesideAudio(OwnLayout):
    """Pairs of files."""

    tree: Tree
    pairs: tuple[tuple[FileEntry, FileEntry | None], ...]
    """Each audio file with its text file, if there is one."""

    @classmethod
    def recognise(cls, place: DataPlace) -> Self | None:
        """Return the pairs of a folder where most audio files are one of a pair."""
        if not place.path.is_dir() or not place.may_be("audio", TRANSCRIPTS):
            return None
        clips = place.tree.media("audio")
        texts = [file for file in place.tree.files if ending(file.parts[-1]) in _ENDINGS]
        if not clips or len(texts) < 2:
            return None
        beside = {(*file.parts[:-1], _stem(file)): file for file in texts}
        by_name = _unique(texts)
        pairs = tuple((clip, beside.get((*clip.parts[:-1], _stem(clip))) or by_name.get(_stem(clip))) for clip in clips)
        if sum(text is not None for _, text in pairs) <= _MOST * len(clips):
            return None
        return cls(columns=place.columns, modality="audio", tree=place.tree, pairs=pairs)

    def read(self, target: TargetType | None) -> Table:
        """Return a row for each pair; files without a partner are named."""
        found, files = TranscriptList(file=self.tree.root / "transcripts"), TextFiles()
        for number, (clip, text) in enumerate(self.pairs, 1):
            if text is None:
                found.dropped.append((number, "blank_transcript", f"is missing: {clip.id} has no text file of its name"))
                continue
            try:
                found.utterances.append(Utterance(path=clip.id, text=self._text(text, files), line=number))
            except (BadItem, DataError, OSError) as error:
                found.dropped.append((number, "bad_bytes", f"cannot be read: {text.id}: {error}"))
        found.messages += files.messages()
        endings = Counter(ending(text.parts[-1]) for _, text in self.pairs if text is not None)
        layout = f"audio files with a {' or '.join(endings)} file each"
        return table_of([found], self.tree, self.columns, target, layout)

    def _text(self, file: FileEntry, files: TextFiles) -> str:
        path = self.tree.path(file)
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise BadItem("too_long", f"holds {size:,} bytes, which is no transcript of a clip")
        return " ".join(files.read(path, file.id, keep_damage=True).split()) if size else ""


def _stem(file: FileEntry) -> str:
    return file.parts[-1].rpartition(".")[0]


def _unique(files: list[FileEntry]) -> dict[str, FileEntry]:
    """Return the files whose names, without their endings, occur once."""
    counts = Counter(map(_stem, files))
    return {_stem(file): file for file in files if counts[_stem(file)] == 1}
