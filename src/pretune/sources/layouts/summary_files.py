"""Documents beside their summaries, each a text file: x.txt with x.summary, or the folders documents/ and summaries/ with equal names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from pretune.errors import BadItem
from pretune.formats.files import ending
from pretune.sources import summaries
from pretune.sources.conversation import SUMMARISATION, Conversation, Turn
from pretune.sources.layouts._base import DataPlace, OwnLayout
from pretune.sources.readers.text_files import TextFiles
from pretune.sources.schema import Schema
from pretune.sources.split_names import split_of_folder
from pretune.sources.table import Table
from pretune.sources.target_type import TargetType
from pretune.sources.tree import FileEntry, PathParts, Tree
from pretune.sources.vocabulary import plain
from pretune.types import LedgerEntry, Row, Split

_TEXTS = frozenset((".txt", ".text", ".md", ".story", ".doc", ".src", ".source", ".document"))
_SUMMARIES = frozenset((".summary", ".sum", ".summ", ".tldr", ".abs", ".ref", ".highlights", ".tgt", ".target"))
"""File extensions of summaries."""
_ENDS = ("_summary", "-summary", ".summary", "_highlights", ".highlights", "_reference")
"""Ends of stems of summaries: x_summary.txt."""
_OF_DOCUMENTS = frozenset(
    [
        "document",
        "documents",
        "doc",
        "docs",
        "article",
        "articles",
        "news_articles",
        "source",
        "sources",
        "text",
        "texts",
        "story",
        "stories",
        "input",
        "inputs",
    ]
)
_OF_SUMMARIES = frozenset(
    ["summary", "summaries", "highlights", "abstracts", "reference", "references", "gold", "target", "targets", "tldr"]
)
_LEAST = 2
"""Pairs of files that make it this layout."""
_MOST = 0.5
"""Share of the documents that must have a summary of their name."""
_ABOUT = frozenset(("readme", "license", "licence", "notice"))

Key = tuple[PathParts, str]
"""Folders without those that say what a file is, and the stem."""


@dataclass(frozen=True, kw_only=True)
class SummaryFiles(OwnLayout):
    """Pairs of files."""

    tree: Tree
    pairs: tuple[tuple[FileEntry, FileEntry | None], ...]
    """Each document with its summary, if there is one."""
    lonely: tuple[FileEntry, ...]
    """Summaries without a document."""
    again: tuple[FileEntry, ...]
    """Files of the same part as one before, by name: which of them belong together is not known."""

    @classmethod
    def recognise(cls, place: DataPlace) -> Self | None:
        """Return the pairs of a folder where most documents are one of a pair."""
        if not place.path.is_dir() or not place.may_be("text", SUMMARISATION):
            return None
        texts: dict[Key, FileEntry] = {}
        answers: dict[Key, FileEntry] = {}
        again: list[FileEntry] = []
        for file in place.tree.files:
            if file.parts[-1].casefold().partition(".")[0] in _ABOUT:
                continue
            kind, key = _role(file)
            if kind and (texts if kind == "document" else answers).setdefault(key, file) is not file:
                again.append(file)
        found = sum(key in answers for key in texts)
        if found < _LEAST or found <= _MOST * len(texts):
            return None
        pairs = tuple((file, answers.get(key)) for key, file in texts.items())
        lonely = tuple(file for key, file in answers.items() if key not in texts)
        return cls(columns=place.columns, modality="text", tree=place.tree, pairs=pairs, lonely=lonely, again=tuple(again))

    def read(self, target: TargetType | None) -> Table:
        """Return a row for each pair; files without a partner go to the ledger."""
        table, files = self._table(target), TextFiles()
        for file in self.again:
            self._drop(table, file, "ambiguous", "is one of several files of its name that could belong together; the first is read")
        for file, summary in self.pairs:
            table.inputs.append(file.id)
            if summary is None:
                self._drop(table, file, "blank_target", "has no summary of its name")
                continue
            try:
                document, answer = self._text(file, files), self._text(summary, files)
            except BadItem as bad:
                self._drop(table, file, bad.reason, bad.detail)
                continue
            turns = (Turn("user", document), Turn("assistant", answer))
            table.rows.append(Row(id=file.id, text=(document,), target=Conversation(turns=turns), split=_split(file)))
        for file in self.lonely:
            self._drop(table, file, "missing_file", "is a summary without a document of its name")
        table.messages += files.messages()
        table.messages.append(f"{len(table.rows):,} documents have a summary of their name, {self._example()}.")
        summaries.inspect(table)
        return table

    def read_unlabelled(self) -> Table:
        """Return the documents."""
        table, files = self._table(None), TextFiles()
        for file in (*(file for file, _ in self.pairs), *(file for file in self.again if _role(file)[0] == "document")):
            table.inputs.append(file.id)
            try:
                document = self._text(file, files)
            except BadItem as bad:
                self._drop(table, file, bad.reason, bad.detail)
                continue
            table.rows.append(Row(id=file.id, text=(document,), target=Conversation(turns=(Turn("user", document),)), split=_split(file)))
        table.messages += files.messages()
        return table

    def _table(self, target: TargetType | None) -> Table:
        layout = "text files with their summaries beside them"
        return Table(
            rows=[],
            modality="text",
            target_type=target or SUMMARISATION,
            root=self.tree.root,
            layout=layout,
            schema=Schema(text_count=1),
        )

    def _example(self) -> str:
        file, summary = next((file, summary) for file, summary in self.pairs if summary is not None)
        return f"as {file.id} has {summary.id}"

    def _drop(self, table: Table, file: FileEntry, reason: str, detail: str) -> None:
        table.ledger.append(LedgerEntry(item=file.id, action="dropped", reason=reason, detail=f"{file.id} {detail}"))

    def _text(self, file: FileEntry, files: TextFiles) -> str:
        """Return the text of a file.

        Raises:
            BadItem: it cannot be read, or is empty.
        """
        is_summary = _role(file)[0] == "summary"
        try:
            text = files.read(self.tree.path(file), file.id).strip()
        except OSError as error:
            raise BadItem("unreadable", f"cannot be read: {file.id}: {error.strerror}") from None
        if not text:
            raise BadItem("blank_target", f"has an empty summary: {file.id}") if is_summary else BadItem("empty", "is empty")
        return text


def _role(file: FileEntry) -> tuple[str, Key]:
    """Return whether a file is a document or a summary, '' for neither, and what it has in common with its partner."""
    name, folders = file.parts[-1], file.parts[:-1]
    end = ending(name)
    if end not in _TEXTS | _SUMMARIES:
        return "", ((), "")
    stem = name[: len(name) - len(end)]
    kinds = [plain(part) for part in folders]
    rest = tuple(part for part, kind in zip(folders, kinds, strict=True) if kind not in _OF_DOCUMENTS | _OF_SUMMARIES)
    called = next((stem[: -len(mark)] for mark in _ENDS if stem.casefold().endswith(mark)), None)
    is_summary = end in _SUMMARIES or called is not None or any(kind in _OF_SUMMARIES for kind in kinds)
    return ("summary" if is_summary else "document"), (rest, called or stem)


def _split(file: FileEntry) -> Split | None:
    return next((split for part in file.parts[:-1] if (split := split_of_folder(part))), None)
