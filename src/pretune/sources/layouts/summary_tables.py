"""Tables (CSV, JSON, Parquet) of documents and their summaries, recognised by how columns are called and by their lengths."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from pretune.errors import DataError
from pretune.formats.files import ending
from pretune.printable import shell_word
from pretune.sources import summaries
from pretune.sources.column import as_text
from pretune.sources.columns import listed, named
from pretune.sources.contents import tables_in
from pretune.sources.conversation import SUMMARISATION, Conversation
from pretune.sources.layouts._base import DataPlace
from pretune.sources.layouts.prompts import Prompts, TextColumns, tables_at, unwritten
from pretune.sources.readers.records import ARROW, Records, is_manifest
from pretune.sources.table import Columns, RunColumns, Table
from pretune.sources.target_type import TargetType
from pretune.sources.vocabulary import FLAGS, LABEL, NUMBER, plain

DOCUMENTS = (
    ("document", "article", "dialogue", "dialog", "source", "full_text", "fulltext", "maintext", "report", "story", "transcript", "bill"),
    ("text", "body", "content", "contents", "abstract", "description", "news", "passage", "paragraph", "input", "inputs"),
)
"""Names of columns of documents; the second list counts where none of the first is there."""
SUMMARIES = (
    ("summary", "summaries", "highlights", "tldr", "abstractive_summary", "summary_text", "gold_summary", "reference_summary"),
    ("target", "targets", "headline", "headlines", "title", "abstract", "short_text", "reference", "output", "label"),
)
"""Names of columns of summaries; the first list alone says that they are some."""
_ABOUT_BOTH = (("source", "target"), ("text", "target"), ("document", "target"), ("article", "headline"), ("article", "title"))
"""Columns that hold a document and its summary where the one is much longer than the other; else a translation, say."""
_MORE = {"targets", "references", "summaries", "other_summaries"}
"""Columns of further summaries, beside one of a single summary."""
_SHORTER = 3.0
"""How many times as long as its summary a document is at least, in characters, where names alone do not tell."""
_DIFFERENT = 0.5
"""Share of the summaries that must differ from all others to be texts rather than classes."""
_PEEK = 1 << 16
"""Bytes of a file that are looked at."""


@dataclass(frozen=True, kw_only=True)
class SummaryTables(Prompts):
    """One table, or those of a folder, whose rows are documents with their summaries."""

    targets: ClassVar[tuple[TargetType, ...]] = (SUMMARISATION,)

    @classmethod
    def recognise(cls, place: DataPlace) -> Self | None:
        """Return the tables where the task is named, or where their columns are called and filled as those of summaries are.

        Raises:
            DataError: several columns may be meant, or the data may be for another task as well.
        """
        wanted = place.target is not None and place.target.task == SUMMARISATION.task
        if place.modality not in (None, "text") or (place.target is not None and not wanted):
            return None
        parts = tables_at(place) if wanted or _may_be(place) else None
        if not parts:
            return None
        lead = next((records for part, records in parts if part == "train"), parts[0][1])
        where = _wanted(lead, place.columns) if wanted else _sure(lead, place.columns)
        if where is None:
            return None
        root = place.path if place.path.is_dir() else place.path.parent
        return cls(columns=place.columns, modality="text", parts=parts, root=root, where=where)

    def read(self, target: TargetType | None) -> Table:
        """Return a row for each record; what has no summary goes to the ledger."""
        table = self._table(target)
        for part, records in self.parts:
            self._add(table, part, records, answered=True)
        lengths = [(len(text), len(answer)) for text, answer in map(_lengths, table.rows)]
        document, summary = " and ".join(map(repr, self.where.prompt)), repr(self.where.answer)
        sentence = f"{self.parts[0][1].name}: the document is {document}, the summary is {summary}"
        if lengths:
            ratio = float(np.median([a for a, _ in lengths])) / max(1.0, float(np.median([b for _, b in lengths])))
            sentence += f"; documents are {ratio:.1f} times as long"
        several = sum(bool(row.target.others) for row in table.rows if isinstance(row.target, Conversation))
        if several:
            more = f" ({', '.join(map(repr, self.where.more))})" if self.where.more else ""
            have = f"{several:,} have" if several > 1 else "1 has"
            sentence += f"; {have} several references{more}: the first is learned, the nearest counts in the evaluation"
        table.messages.insert(0, f"{sentence}.")
        summaries.inspect(table)
        return table

    def _table(self, target: TargetType | None) -> Table:
        table = super()._table(target)
        table.layout = table.layout.replace("prompts with answers", "documents with summaries", 1)
        return table

    def _conversation(self, record: dict[str, Any], *, answered: bool) -> Conversation | tuple[str, str]:
        found = super()._conversation(record, answered=answered)
        if isinstance(found, tuple):
            reason, words = found
            reason = {"no_answer": "blank_target", "empty_answer": "blank_target", "empty_text": "blank_text"}.get(reason, reason)
            return reason, words.replace("an empty prompt", "an empty document")
        if not found.answered:
            return found
        cells = (unwritten(record.get(name)) for name in self.where.more)
        more = [text for cell in cells for one in (cell if isinstance(cell, list | tuple) else [cell]) if (text := as_text(one))]
        _, *others = dict.fromkeys([found.turns[-1].content, *found.others, *more])
        return replace(found, others=tuple(others))


def _lengths(row: Any) -> tuple[str, str]:
    turns = row.target.turns
    return turns[0].content, turns[-1].content


# --- finding -------------------------------------------------------------------------------------


def _may_be(place: DataPlace) -> bool:
    """Tell by the first bytes of a table whether its columns may be called so; cheap, as every path is looked at."""
    if place.path.is_dir():
        found = [place.tree.path(file) for file in tables_in(place.tree)]
        found = [path for path in found if ending(path.name) not in ARROW][:1] or found[:1]
    else:
        found = [place.path] if is_manifest(place.path.name) else []
    if not found:
        return False
    if ending(found[0].name) in ARROW:
        return True
    try:
        with found[0].open("rb") as file:
            head = file.read(_PEEK).decode("utf-8", "ignore")
    except OSError:
        return False
    line = head.partition("\n")[0] if ending(found[0].name) not in (".json", ".jsonl", ".ndjson") else head
    words = {plain(word) for word in line.replace('"', ",").replace("\t", ",").replace(";", ",").replace(":", ",").split(",")}
    return bool(words & {*DOCUMENTS[0], *DOCUMENTS[1]}) and bool(words & {*SUMMARIES[0], *(target for _, target in _ABOUT_BOTH)})


def _wanted(records: Records, columns: Columns) -> TextColumns:
    """Return which columns hold documents and summaries, where the person or the run wants them.

    Raises:
        DataError: several may, or none does.
        SettingError: a named column does not exist.
    """
    trained = columns.schema if isinstance(columns, RunColumns) else None
    text = tuple(named(records, name.strip(), "text") or "" for name in (columns.text or "").split(",") if name.strip())
    if not text and trained is not None and trained.text:
        text = trained.find(records, trained.text, "text")
    label = named(records, columns.label, "label")
    if label is None and trained is not None:
        label = next((name for name in trained.label if name in records.columns), None)
    if text and (label or trained is not None):
        return TextColumns(prompt=text, answer=label, more=_more(records, label))
    answers = _without_lists([label] if label else _called(records, SUMMARIES, without=text))
    documents = list(text) if text else _called(records, DOCUMENTS, without=answers)
    if (len(documents) > 1 and not text) or len(answers) > 1:
        role, several = ("text", documents) if len(documents) > 1 and not text else ("label", answers)
        what = "document" if role == "text" else "summary"
        spelled = " or ".join(f"{role}={shell_word(name)}" for name in several)
        raise DataError(f"{records.path}: {len(several)} columns may hold the {what}. Name one: {spelled}.")
    if not documents or not answers:
        what = "documents" if not documents else "summaries"
        raise DataError(
            f"{records.path} has no column that is called like one of {what} (columns: {listed(records.columns)}). "
            "Name them: text=DOCUMENT label=SUMMARY."
        )
    return TextColumns(prompt=tuple(documents), answer=answers[0], more=_more(records, answers[0]))


def _without_lists(names: Sequence[str]) -> list[str]:
    """Return columns of summaries without the one of all references, where a single one stands beside it: target and targets."""
    single = [name for name in names if plain(name) not in _MORE]
    return single or list(names)


def _more(records: Records, summary: str | None) -> tuple[str, ...]:
    """Return the columns with further summaries: lists."""
    return tuple(name for name in records.columns if plain(name) in _MORE and name != summary and _holds_lists(records, name))


def _holds_lists(records: Records, name: str) -> bool:
    value = next((value for value in records.column(name) if value not in (None, "", [])), None)
    return isinstance(value, list | tuple) or (isinstance(value, str) and value.lstrip().startswith("["))


def _called(records: Records, names: tuple[tuple[str, ...], ...], without: Sequence[str]) -> list[str]:
    """Return the columns that are called as the first of these lists says; where there is none, as the next does."""
    for group in names:
        found = [name for name in records.columns if plain(name) in group and name not in without]
        if found:
            return found
    return []


def _sure(records: Records, columns: Columns) -> TextColumns | None:
    """Return the columns where nobody named a task and they can hardly be anything else.

    Raises:
        DataError: they may be, and a label may be meant just as well.
    """
    if columns.path is not None:
        return None
    called = {plain(name): name for name in records.columns}
    answers = _without_lists([name for name in records.columns if plain(name) in SUMMARIES[0]])
    documents = _called(records, DOCUMENTS, without=answers)
    pair = (documents[0], answers[0]) if len(documents) == 1 and len(answers) == 1 else None
    if pair is None:
        pair = next(((called[a], called[b]) for a, b in _ABOUT_BOTH if a in called and b in called), None)
    if pair is None or not _much_longer(records, *pair) or (columns.label and columns.label != pair[1]):
        return None
    if columns.text and columns.text != pair[0]:
        return None
    labels = [name for name in records.columns if name not in pair and plain(name) in {*LABEL, *NUMBER, *FLAGS} - _MORE]
    labels = [name for name in labels if not columns.label and len(set(map(str, records.column(name)))) > 1]
    if labels:
        raise DataError(
            f"{records.path} has documents with summaries ({pair[0]!r}, {pair[1]!r}) and what may be a label ({labels[0]!r}). "
            f"Say which is meant: task=summarisation, or label={shell_word(labels[0])} text={shell_word(pair[0])}."
        )
    return TextColumns(prompt=(pair[0],), answer=pair[1], more=_more(records, pair[1]))


def _much_longer(records: Records, document: str, summary: str) -> bool:
    """Return whether documents are texts much longer than their summaries, and these differ."""
    texts = [as_text(value) for value in records.column(document)]
    short = [as_text(value[0] if isinstance(value, list) and value else value) for value in records.column(summary)]
    pairs = [(len(one), len(other)) for one, other in zip(texts, short, strict=True) if one and other]
    if not pairs:
        return False
    long, brief = (float(np.median(one)) for one in zip(*pairs, strict=True))
    times = 1.0 if plain(summary) in SUMMARIES[0] else _SHORTER
    texts_too = sum(_is_text(text) for text in short) > _DIFFERENT * len(short)
    return long >= times * brief and len(set(short)) > _DIFFERENT * len(short) and texts_too


def _is_text(value: str) -> bool:
    """Return whether a cell holds several words, or letters of a script without spaces between them."""
    words = re.findall(r"[^\W_]+", value)
    return (len(words) > 1 and any(map(str.isalpha, words))) or any(ord(letter) > 0x2E7F for letter in value[:20])
