"""Tables (CSV, JSON, Parquet) of pairs and triplets of texts: a query and its passage, and what does not belong to it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from pretune.errors import DataError
from pretune.printable import shell_word
from pretune.sources import manifests, shards
from pretune.sources.column import as_text
from pretune.sources.columns import named
from pretune.sources.contents import named_columns, tables_in
from pretune.sources.layouts._base import DataPlace, OwnLayout
from pretune.sources.numbers import number
from pretune.sources.readers.dispatch import read_records
from pretune.sources.readers.records import Records, is_manifest
from pretune.sources.readers.spread import SpreadRecords, spread
from pretune.sources.related import RELATED, Related, Role
from pretune.sources.schema import Schema
from pretune.sources.table import Columns, RunColumns, Table
from pretune.sources.target_type import TargetType
from pretune.sources.tree import Tree, walk
from pretune.sources.vocabulary import GROUP, ID, PAIRS, SPLIT, plain
from pretune.types import LedgerEntry, Row, Split

_SURE = (("anchor", "positive"), ("query", "positive"), ("query", "pos"))
"""Columns that say by their names that the second belongs to the first."""
_KNOWN = (
    *_SURE,
    *PAIRS,
    *(("query", "document"), ("query", "text"), ("query", "answer"), ("query", "title"), ("question", "answer"), ("question", "passage")),
    *(("question", "context"), ("title", "abstract"), ("title", "text"), ("title", "body"), ("summary", "document"), ("summary", "text")),
    *(("sentence_a", "sentence_b"), ("sent1", "sent2"), ("source", "target"), ("input", "output"), ("prompt", "response")),
)
"""The first is the query."""
_NEGATIVE = ("negative", "neg", "hard_negative")
_GRADE = ("score", "similarity", "similarity_score", "relevance", "label", "labels", "is_duplicate", "grade")
_COPY = re.compile(r"#\d+$")
"""End of the id of a pair that is not the first of its record."""
_PLAIN = frozenset((*ID, *SPLIT, *GROUP))
"""Columns that say nothing of how texts belong together."""


@dataclass(frozen=True, kw_only=True)
class PairColumns:
    """Which columns hold what."""

    strings: tuple[str, ...]
    """The query's, the passage's, then those of negatives; the one to read of what is to be predicted."""
    grade: str = ""
    """How much the passage belongs to the query."""


@dataclass(frozen=True, kw_only=True)
class PairTables(OwnLayout):
    """The tables of one or several splits."""

    tree: Tree
    splits: tuple[tuple[Split | None, Records], ...]
    roles: PairColumns

    @classmethod
    def recognise(cls, place: DataPlace) -> Self | None:
        """Return the tables where columns are called anchor and positive, or like other pairs without a label beside them.

        Where the person wants pairs (task=retrieval), a label grades them, and any two columns that are named (text=FIRST,SECOND) are one.
        """
        if not place.may_be("text", RELATED):
            return None
        splits = _tables(place)
        if not splits:
            return None
        lead = manifests.leading(splits)
        roles = _roles(lead, place)
        tree = place.tree if place.path.is_dir() else walk(place.path.parent)
        if roles is None:
            return None
        spread_splits, roles = _spread(splits, roles)
        return cls(columns=place.columns, modality="text", tree=tree, splits=tuple(spread_splits), roles=roles)

    def read(self, target: TargetType | None) -> Table:
        """Return a row for each text of each record."""
        roles = self.roles
        if len(roles.strings) < 2:
            raise DataError(f"{self.splits[0][1].path} has no second column of texts. Name both: text=QUERY,PASSAGE.")
        table = self._table(roles.strings)
        records = {records.id(at): (records, at) for _, records in self.splits for at in range(len(records.values))}
        cut = _cut(records, roles.grade) if roles.grade else 0.0
        kept: list[Row] = []
        for row in table.rows:
            grade = _grade(*records[row.id], roles.grade) if roles.grade else None
            if roles.grade and grade is None:
                table.ledger.append(LedgerEntry(item=row.id, action="dropped", reason="no_finite_number", detail=_ungraded(row, roles)))
                continue
            kept += _texts(row, grade, cut)
        table.rows, table.target_type = kept, target or RELATED
        table.layout = table.layout.replace("manifest", "table", 1)
        table.columns = {"text": ",".join(roles.strings), **({"label": roles.grade} if roles.grade else {})}
        table.schema = Schema(text=roles.strings, label=(roles.grade,) if roles.grade else ())
        table.messages += [*_sentences(roles, kept, cut), *self._lists()]
        table.inputs = []
        return table

    def _lists(self) -> list[str]:
        """Return a sentence where lists of texts became several pairs."""
        several = sum(copy == 1 for _, records in self.splits if isinstance(records, SpreadRecords) for copy in records.copies)
        return [f"{several:,} records have several texts in {self.roles.strings[1]!r}: each is a pair."] if several else []

    def read_unlabelled(self) -> Table:
        """Return a row for each text of one column: the one that is named, else the queries' where there are some."""
        table = self._table(self.roles.strings[:1])
        table.messages.append(f"texts are read from {self.roles.strings[0]!r}; text=COLUMN reads another.")
        return table

    def _table(self, strings: tuple[str, ...]) -> Table:
        columns = Columns(text=",".join(strings), group=self.columns.group, split=self.columns.split)
        return manifests.build(list(self.splits), self.tree.root, lambda: self.tree, columns, modality="text", labelled=False)


def _tables(place: DataPlace) -> list[tuple[Split | None, Records]]:
    """Return the tables at a place; empty where there are none, or where it is not clear which is meant."""
    wanted = named_columns(place.columns)
    if place.path.is_file():
        return [(None, read_records(place.path, wanted))] if is_manifest(place.path.name) and _may_be(place.path, place) else []
    found = tables_in(place.tree)
    if not found or not _may_be(place.tree.path(found[0]), place):
        return []
    return shards.read_shards(place.tree, found, wanted) or []


def _may_be(path: Path, place: DataPlace) -> bool:
    """Return by a table's beginning whether its columns may be called like pairs; cheap, as every table is looked at."""
    if place.target is not None or path.suffix in (".parquet", ".arrow", ".feather", ".pq"):
        return True
    with path.open("rb") as file:
        head = plain(file.read(1 << 12).decode("utf-8", errors="replace").partition("\n")[0])
    return any(first in head and second in head for first, second in (*_SURE, *PAIRS))


def _spread(splits: list[tuple[Split | None, Records]], roles: PairColumns) -> tuple[list[tuple[Split | None, Records]], PairColumns]:
    """Return the tables with a record for each text of a list of passages, and the columns that lists of negatives became."""
    if len(roles.strings) < 2:
        return splits, roles
    query, passage, *negatives = roles.strings
    done = [(split, *spread(records, passage, negatives)) for split, records in splits]
    fewest = {name: min(len(named.get(name, (name,))) for _, _, named in done) for name in negatives}
    widest = {name: max((named.get(name, (name,)) for _, _, named in done), key=len)[: fewest[name]] for name in negatives}
    strings = (query, passage, *(one for name in negatives for one in widest[name]))
    return [(split, records) for split, records, _ in done], replace(roles, strings=strings)


# --- columns -------------------------------------------------------------------------------------


def _roles(records: Records, place: DataPlace) -> PairColumns | None:
    """Return which columns hold what; None where the table holds no pairs."""
    columns, wanted = place.columns, place.target is not None
    grade = named(records, columns.label, "label") if wanted else None
    if wanted and columns.text:
        names = [columns.text] if columns.text in records.columns else [name.strip() for name in columns.text.split(",")]
        strings = tuple(name for one in names if (name := named(records, one, "text")))
        return PairColumns(strings=strings, grade=grade or "") if len(strings) > 1 or isinstance(columns, RunColumns) else None
    if isinstance(columns, RunColumns):
        return _as_trained(records, columns, grade)
    called = {plain(name): name for name in records.columns}
    strings = next(((called[first], called[second]) for first, second in _KNOWN if first in called and second in called), None)
    if strings is None:
        if wanted and not columns.label:
            _refuse_unnamed(records)
        return None
    negatives = tuple(name for short, name in called.items() if short in _NEGATIVE or short.rstrip("_0123456789") in _NEGATIVE)
    others = {short for short, name in called.items() if name not in (*strings, *negatives)}
    sure = tuple(map(plain, strings)) in _SURE or (tuple(map(plain, strings)) in PAIRS and others <= _PLAIN)
    if not wanted:
        return PairColumns(strings=strings + negatives) if sure and not columns.label and columns.path is None else None
    return PairColumns(strings=strings + negatives, grade=grade or ("" if negatives else _grades(records, called)))


def _refuse_unnamed(records: Records) -> None:
    """Refuse a table whose only two columns are texts that hardly repeat: they are pairs, and which is the query is for the person to say.

    Raises:
        DataError: shows both spellings.
    """
    free = [name for name in records.columns if plain(name) not in _PLAIN]
    if len(free) != 2 or not all(_holds_texts(records, name) for name in free):
        return
    first, second = map(shell_word, (f"text={free[0]},{free[1]}", f"text={free[1]},{free[0]}"))
    raise DataError(
        f"{records.path}: the columns {free[0]!r} and {free[1]!r} hold texts, and neither is called a query or its passage. Name both, the "
        f"query first: task=retrieval {first} or task=retrieval {second}."
    )


def _holds_texts(records: Records, name: str) -> bool:
    strings = [text for value in records.column(name) if (text := as_text(value).strip())]
    return len(set(strings)) > 0.5 * len(strings) and sum(" " in text for text in strings) > 0.5 * len(strings)


def _grades(records: Records, called: dict[str, str]) -> str:
    """Return the column that grades pairs by numbers; '' where there is none."""
    for short in _GRADE:
        if short in called:
            values = [as_text(value) for value in records.column(called[short]) if as_text(value)]
            if values and all(number(value) is not None for value in values[:500]) and len(set(values)) > 1:
                return called[short]
    return ""


def _as_trained(records: Records, columns: RunColumns, grade: str | None) -> PairColumns | None:
    """Return the columns of the training data that a table has: all of them, or of inputs to predict the first that is there."""
    trained = columns.schema.text
    there = {name.casefold(): name for name in records.columns}
    strings = tuple(there[name.casefold()] for name in trained if name.casefold() in there)
    if len(trained) < 2 or not strings:
        return None
    label = tuple(there[name.casefold()] for name in columns.schema.label if name.casefold() in there)
    return PairColumns(strings=strings, grade=grade or (label[0] if label else ""))


# --- texts ---------------------------------------------------------------------------------------


def _texts(row: Row, grade: float | None, cut: float) -> Iterator[Row]:
    """Return the texts of a record as rows, which are one group."""
    assert row.text is not None
    belongs = grade is None or grade > cut
    roles: Sequence[tuple[str, Role]] = [
        ("query", "query"),
        ("passage", "passage" if belongs else "negative"),
        *((f"negative {at}" if len(row.text) > 3 else "negative", "negative") for at in range(1, len(row.text) - 1)),
    ]
    for at, (text, (name, role)) in enumerate(zip(row.text, roles, strict=True)):
        target = Related(role=role, pair=row.id, grade=grade if at == 1 else None)
        yield replace(row, id=f"{row.id} ({name})", text=(text,), target=target, group=row.group or _COPY.sub("", row.id))


def _grade(records: Records, at: int, column: str) -> float | None:
    return number(as_text(records.values[at][records.columns.index(column)]))


def _cut(records: dict[str, tuple[Records, int]], column: str) -> float:
    """Return the grade above which a passage belongs to its query: the middle of the grades there are."""
    values = [value for place in records.values() if (value := _grade(*place, column)) is not None]
    return (min(values) + max(values)) / 2 if values else 0.0


def _ungraded(row: Row, roles: PairColumns) -> str:
    return f"{row.id} has no number in {roles.grade!r}, which grades pairs"


def _sentences(roles: PairColumns, rows: Sequence[Row], cut: float) -> list[str]:
    first, second, *negatives = roles.strings
    pairs = len({row.target.pair for row in rows if isinstance(row.target, Related)})
    lines = [
        f"{pairs:,} pairs: {second!r} belongs to {first!r}"
        + (f", {', '.join(map(repr, negatives))} {'does' if len(negatives) == 1 else 'do'} not" if negatives else "")
        + f". text={second},{first} turns them round."
    ]
    if roles.grade:
        positive = sum(isinstance(row.target, Related) and row.target.role == "passage" for row in rows)
        lines.append(
            f"{roles.grade!r} grades the pairs: the {positive:,} above {cut:g} belong together, the others do not "
            f"(task=classification or task=regression with label={roles.grade} predicts it instead)."
        )
    return lines
