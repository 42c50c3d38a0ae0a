"""What the layouts of transcripts share: lines of a name and what is said, and the table made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pretune.errors import BadItem, DataError
from pretune.formats.encodings import damaged
from pretune.sources import tables
from pretune.sources.manifests import SplitRecords
from pretune.sources.readers.delimited import decode
from pretune.sources.readers.records import Records, read_bytes
from pretune.sources.table import Columns, Table
from pretune.sources.target_type import TargetType
from pretune.sources.transcripts import TRANSCRIPTS
from pretune.sources.tree import Tree
from pretune.types import LedgerEntry, Split


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """One clip and its transcript."""

    path: str
    """The file, relative to the folder of the list or to the root; absolute where the list says so."""
    text: str
    line: int = 1
    """Of the list."""
    group: str = ""
    """Who speaks; '' where nobody says."""


@dataclass(kw_only=True)
class TranscriptList:
    """One list of clips with their transcripts."""

    file: Path
    split: Split | None = None
    utterances: list[Utterance] = field(default_factory=list)
    dropped: list[tuple[int, str, str]] = field(default_factory=list)
    """Line, reason and words of what cannot be used."""
    messages: list[str] = field(default_factory=list)
    """How the files were read."""

    def records(self, called: str) -> SplitRecords:
        """Return it as a table."""
        damage = [one for one in self.utterances if damaged(one.text)]
        self.dropped += [(one.line, "bad_bytes", f"is the transcript of {one.path} and holds bytes that are no text") for one in damage]
        self.utterances = [one for one in self.utterances if not damaged(one.text)]
        grouped = any(one.group for one in self.utterances)
        records = Records(
            path=self.file,
            columns=["path", "text", *(["group"] if grouped else [])],
            values=[[one.path, one.text, *([one.group] if grouped else [])] for one in self.utterances],
            numbers=[one.line for one in self.utterances],
            word="line",
            called=called,
        )
        records.messages += self.messages
        for line, reason, words in self.dropped:
            detail = f"{called} line {line} {words}"
            records.ledger.append(LedgerEntry(item=f"{called}:{line}", action="dropped", reason=reason, detail=detail))
        return self.split, records


def named_lines(path: Path, messages: list[str]) -> list[tuple[int, str, str]]:
    """Return number, first word and the rest of each line of a text file that is not blank; an encoding other than UTF-8 is reported.

    Raises:
        DataError: it cannot be read, or is no text.
    """
    try:
        text, read_as = decode(path, read_bytes(path))
    except BadItem as error:
        raise DataError(f"{path}: {error}.") from None
    messages += read_as
    out = []
    for number, line in enumerate(text.split("\n"), 1):
        name, _, rest = line.strip().replace("\t", " ").partition(" ")
        if name:
            out.append((number, name, rest.strip()))
    return out


def table_of(lists: Sequence[TranscriptList], tree: Tree, columns: Columns, target: TargetType | None, layout: str) -> Table:
    """Return the rows of some lists: files are found, and what is wrong is named, as for any table.

    Raises:
        DataError: none of them has an utterance.
    """
    found = [one for one in lists if one.utterances]
    if not found:
        raise DataError(f"{tree.root}: {layout} without an utterance that can be used.")
    names = [one.file.relative_to(tree.root).as_posix() if one.file.is_relative_to(tree.root) else one.file.name for one in found]
    records = [one.records(name) for one, name in zip(found, names, strict=True)]
    if columns.group is None and "group" in records[0][1].columns:
        columns = replace(columns, group="group")
    table = tables.build(records, tree, columns, target or TRANSCRIPTS, "audio")
    table.layout = layout
    return table
