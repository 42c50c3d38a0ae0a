"""Plain text to learn to write from: a text file, or a folder of them, without labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pretune.errors import BadItem, DataError
from pretune.formats.files import ending
from pretune.sources.conversation import TEXT_GENERATION, Conversation
from pretune.sources.layouts._base import DataPlace, OwnLayout
from pretune.sources.readers.text_files import TextFiles
from pretune.sources.split_names import split_of_file, split_of_folder
from pretune.sources.table import Table
from pretune.sources.target_type import TargetType
from pretune.types import Finding, LedgerEntry, Row

_ENDINGS = frozenset((".txt", ".text", ".md", ".rst", ".log"))
_ABOUT = frozenset(("readme", "license", "licence"))
"""Names, without endings, of files that are about the others."""


@dataclass(frozen=True, kw_only=True)
class Documents(OwnLayout):
    """Text files, each a document."""

    root: Path
    files: tuple[Path, ...]
    about: tuple[str, ...] = ()

    @classmethod
    def recognise(cls, place: DataPlace) -> Self | None:
        """Return the text files where the task is named: without labels they may be meant for other things."""
        if place.target is None or place.target.task != TEXT_GENERATION.task or place.modality not in (None, "text"):
            return None
        if not place.path.is_dir():
            if ending(place.path.name) not in _ENDINGS:
                return None
            return cls(columns=place.columns, modality="text", root=place.path.parent, files=(place.path,))
        found = [place.tree.path(file) for file in place.tree.files if ending(file.parts[-1]) in _ENDINGS]
        about = [path for path in found if path.name.casefold().partition(".")[0] in _ABOUT]
        files = tuple(sorted(path for path in found if path not in about))
        names = tuple(path.name for path in about)
        return cls(columns=place.columns, modality="text", root=place.path, files=files, about=names) if files else None

    def read(self, target: TargetType | None) -> Table:
        """Return a row for each file."""
        table = Table(rows=[], modality="text", target_type=target or TEXT_GENERATION, root=self.root, layout=self._layout())
        damaged, files = 0, TextFiles()
        for path in self.files:
            item = path.relative_to(self.root).as_posix()
            table.inputs.append(item)
            try:
                text = files.read(path, item)
                if not text.strip():
                    raise BadItem("empty", "is empty")
            except (BadItem, OSError) as error:
                detail = error.detail if isinstance(error, BadItem) else f"cannot be read ({error.strerror})"
                reason = error.reason if isinstance(error, BadItem) else "unreadable"
                table.ledger.append(LedgerEntry(item=item, action="dropped", reason=reason, detail=f"{item} {detail}"))
                continue
            damaged += text.count("\ufffd")
            folders = [split for part in Path(item).parts[:-1] if (split := split_of_folder(part))]
            split = (folders[0] if folders else split_of_file(path.stem)) if len(self.files) > 1 else None
            table.rows.append(Row(id=item, text=(text,), target=Conversation(), split=split))
        if not table.rows:
            raise DataError(f"{self.root / table.ledger[0].item}: {table.ledger[0].detail}. Give plain text files.")
        characters = sum(len(row.text[0]) for row in table.rows if row.text)
        table.messages += files.messages()
        table.messages.append(f"{characters:,} characters of plain text; all of it is learned from.")
        if damaged:
            message = f"{damaged:,} invalid bytes ({damaged / characters:.2%} of the text) are read as the replacement character U+FFFD."
            table.findings.append(Finding(kind="invalid_bytes", severity="warning", message=message))
        if self.about:
            table.messages.append(f"ignored, as they are about the text: {', '.join(self.about)}.")
        return table

    def _layout(self) -> str:
        return f"plain text {self.files[0].name}" if len(self.files) == 1 else f"{len(self.files):,} plain text files"
