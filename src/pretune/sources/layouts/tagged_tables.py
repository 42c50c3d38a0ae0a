"""Tables (CSV, TSV) of tagged texts: one word a row, or one text a row with its tags in a cell of their own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

from pretune.errors import DataError
from pretune.formats import encodings
from pretune.formats.files import ending
from pretune.sources import shards
from pretune.sources.column import as_text
from pretune.sources.columns import named
from pretune.sources.contents import named_columns, tables_in
from pretune.sources.layouts._base import DataPlace, OwnLayout
from pretune.sources.layouts._tagged import Found, TaggedText, table_of
from pretune.sources.readers.dispatch import read_records
from pretune.sources.readers.records import DELIMITED, Records
from pretune.sources.schema import Schema
from pretune.sources.table import Columns, RunColumns, Table
from pretune.sources.tags import TAGS, is_marked
from pretune.sources.target_type import TargetType
from pretune.sources.vocabulary import TEXT, plain
from pretune.types import Split

_WORD = ("word", "token", "form")
_WORDS = ("words", "tokens", *TEXT)
_TAGS = (
    "tag",
    "tags",
    "ner",
    "ner_tag",
    "ner_tags",
    "label",
    "labels",
    "bio",
    "iob",
    "entity_tags",
    "word_labels",
    "pos",
    "pos_tag",
    "pos_tags",
    "upos",
)
"""In order of preference."""
_TEXT_OF = (
    "sentence",
    "sentence_id",
    "sent_id",
    "sent",
    "sentence_idx",
    "sentence_nr",
    "text_id",
    "doc_id",
    "document_id",
    "doc",
    "document",
    "id",
)
"""Columns that say which text a word is of."""
_START = 1 << 16
_LOOKED_AT = 500
_LIST = re.compile(r"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|([^\s,\[\]'"]+)""")


@dataclass(frozen=True, kw_only=True)
class TagRoles:
    """Which columns hold what."""

    kind: Literal["word", "text"]
    """What a row is."""
    words: str
    tags: str
    text_of: str = ""
    """Which text a word is of; empty cells belong to the text before them."""


@dataclass(frozen=True, kw_only=True)
class TaggedTables(OwnLayout):
    """The tables of one or several splits."""

    root: Path
    parts: tuple[tuple[Split | None, Records], ...]
    roles: TagRoles

    @classmethod
    def recognise(cls, place: DataPlace) -> Self | None:
        """Return the tables where a column marks entities (B-PER, I-PER, O), or the person wants tags and names their column."""
        if not place.may_be("text", TAGS):
            return None
        files = [place.path] if place.path.is_file() else [place.tree.path(file) for file in tables_in(place.tree)]
        files = [path for path in files if ending(path.name) in DELIMITED]
        if not files or not any(_may_be(path, place) for path in files):
            return None
        if place.path.is_file():
            parts = [(None, read_records(place.path, named_columns(place.columns)))]
        else:
            parts = shards.read_shards(place.tree, tables_in(place.tree), named_columns(place.columns)) or []
        lead = next((records for split, records in parts if split == "train"), parts[0][1]) if parts else None
        roles = None if lead is None else _roles(lead, place)
        root = place.path if place.path.is_dir() else place.path.parent
        return cls(columns=place.columns, modality="text", root=root, parts=tuple(parts), roles=roles) if roles else None

    def read(self, target: TargetType | None) -> Table:
        """Return a row for each text."""
        return self._table(target, labelled=True)

    def read_unlabelled(self) -> Table:
        """Return a row for each text, whatever its tags."""
        return self._table(None, labelled=False)

    def _table(self, target: TargetType | None, *, labelled: bool) -> Table:
        make = _of_words if self.roles.kind == "word" else _of_cells
        names = [records.name for _, records in self.parts]
        what = "one word a row" if self.roles.kind == "word" else "one text a row"
        found = Found(
            strings=[one for split, records in self.parts for one in make(records, self.roles, split)],
            root=self.root,
            layout=f"table{'s' * (len(names) > 1)} {', '.join(names[:6])} of tagged words, {what}",
            columns={"text": self.roles.words, **({"label": self.roles.tags} if labelled else {})},
            schema=Schema(text=(self.roles.words,), label=(self.roles.tags,)),
            messages=[*(line for _, records in self.parts for line in records.messages), *self._messages()],
            ledger=[entry for _, records in self.parts for entry in records.ledger],
        )
        return table_of(found, target, labelled=labelled)

    def _messages(self) -> list[str]:
        roles = self.roles
        of = f", {roles.text_of!r} says which text it is of" if roles.text_of else ""
        return [f"words are read from {roles.words!r}, tags from {roles.tags!r}{of}."]


def _may_be(path: Path, place: DataPlace) -> bool:
    """Return by a table's beginning whether a column of it marks entities, or whether its columns are called like words and tags."""
    if place.target is not None:
        return True
    try:
        with path.open("rb") as file:
            head = encodings.decode(file.read(_START)).text
    except (OSError, encodings.BadItem):
        return False
    return all(re.search(rf"(?<![\w-]){mark}", head) for mark in (r"[BIS][-_]\w", r"O(?![\w'’-])"))


# --- columns -------------------------------------------------------------------------------------


def _roles(records: Records, place: DataPlace) -> TagRoles | None:
    """Return which columns hold words and tags; None where none mark entities.

    Raises:
        DataError: a word and a tag are in each row, and nothing says which text they are of.
    """
    columns = place.columns
    words, tags = _known(records, columns, "text"), _known(records, columns, "label")
    sample = {name: [as_text(row[at]) for row in records.values[:_LOOKED_AT]] for at, name in enumerate(records.columns)}
    for name in _first([tags] if tags else records.columns, _TAGS):
        sure = tags is not None and place.target is not None
        if sure or _marks([tag for cell in sample[name] for tag in cells_of(cell)]):
            others = [other for other in _first([words] if words else records.columns, (*_WORD, *_WORDS)) if other != name]
            found = _of_rows(records, sample, name, others) or _of_texts(sample, name, others)
            if found is not None:
                return found
    return _untagged(records, sample, words) if words is not None and tags is None and isinstance(columns, RunColumns) else None


def _untagged(records: Records, sample: dict[str, list[str]], words: str) -> TagRoles | None:
    """Return the columns of words without tags, which a run is to predict; None where the cells are plain texts."""
    ids = _ids(records, words)
    if plain(words) in _WORD and ids:
        return TagRoles(kind="word", words=words, tags="", text_of=ids[0])
    lists = sum(cell.startswith("[") and cell.endswith("]") for cell in sample[words])
    return TagRoles(kind="text", words=words, tags="") if lists > len(sample[words]) / 2 else None


def _known(records: Records, columns: Columns, role: Literal["text", "label"]) -> str | None:
    given = named(records, getattr(columns, role), role)
    trained: tuple[str, ...] = getattr(columns.schema, role) if isinstance(columns, RunColumns) else ()
    return given or (trained[0] if len(trained) == 1 and trained[0] in records.columns else None)


def _ids(records: Records, *taken: str) -> list[str]:
    """Return the columns that may say which text a word is of, the likeliest first."""
    return [name for name in _first(records.columns, _TEXT_OF) if plain(name).strip("_") in _TEXT_OF and name not in taken]


def _first(names: Sequence[str], order: Sequence[str]) -> list[str]:
    """Return names, those first that are called as in `order`."""
    return sorted(names, key=lambda name: order.index(plain(name)) if plain(name) in order else len(order))


def _marks(tags: Sequence[str]) -> bool:
    return is_marked(list(dict.fromkeys(tags)))


def _of_rows(records: Records, sample: dict[str, list[str]], tags: str, others: Sequence[str]) -> TagRoles | None:
    """Return the columns of a table with one word a row."""
    words = next((name for name in others if plain(name) in _WORD), None)
    if words is None or any(len(tag.split()) > 1 for tag in sample[tags]):
        return None
    ids = _ids(records, words, tags)
    if not ids:
        raise DataError(
            f"{records.path} has one word a row ({words!r}, tag {tags!r}), and no column says which text a word is of. "
            "Add one with the number of the text, called sentence_id."
        )
    return TagRoles(kind="word", words=words, tags=tags, text_of=ids[0])


def _of_texts(sample: dict[str, list[str]], tags: str, others: Sequence[str]) -> TagRoles | None:
    """Return the columns of a table with one text a row, where a column has as many words as there are tags, nearly everywhere."""
    for name in others:
        pairs = [(cells_of(words), cells_of(tag)) for words, tag in zip(sample[name], sample[tags], strict=True) if tag]
        if pairs and sum(len(words) == len(tag) for words, tag in pairs) >= 0.5 * len(pairs):
            return TagRoles(kind="text", words=name, tags=tags)
    return None


def cells_of(text: str) -> list[str]:
    """Return the words of a cell: of a list as Python, JSON or NumPy write it ("['EU', 'rejects']"), else those between spaces."""
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return text.split()
    found = [next(part for part in match.groups() if part is not None) for match in _LIST.finditer(text[1:-1])]
    return [re.sub(r"\\(.)", r"\1", part) for part in found]


# --- texts ---------------------------------------------------------------------------------------


def _of_cells(records: Records, roles: TagRoles, split: Split | None) -> list[TaggedText]:
    words_at, *tags_at = _places(records, roles.words, *([roles.tags] if roles.tags else []))
    strings = []
    for at, row in enumerate(records.values):
        words, tags = cells_of(as_text(row[words_at])), cells_of(as_text(row[tags_at[0]])) if tags_at else []
        base = TaggedText(id=records.id(at), where=records.where(at), words=words, split=split)
        fault = ("blank_label", "has no tags") if not tags else ("other_tags", f"has {len(tags)} tags for {len(words)} words")
        strings.append(replace(base, tags=tags) if len(tags) == len(words) else replace(base, fault=fault))
    return strings


def _of_words(records: Records, roles: TagRoles, split: Split | None) -> list[TaggedText]:
    words_at, text_at, *tags_at = _places(records, roles.words, roles.text_of, *([roles.tags] if roles.tags else []))
    strings: list[TaggedText] = []
    words: list[str] = []
    tags: list[str] = []
    before = None
    for at, row in enumerate(records.values):
        of, word, tag = as_text(row[text_at]), as_text(row[words_at]), as_text(row[tags_at[0]]) if tags_at else ""
        if not strings or (of and of != before):
            words, tags, before = [], [], of
            strings.append(TaggedText(id=records.id(at), where=records.where(at), words=words, tags=tags, split=split))
        words.append(word)
        tags.append(tag)
        if (
            fault := ("blank_label", f"has no tag for {word!r}")
            if not tag
            else ("ragged", "has a tag without a word")
            if not word
            else None
        ):
            strings[-1] = replace(strings[-1], fault=fault)
    return strings


def _places(records: Records, *names: str) -> list[int]:
    lost = [name for name in names if name not in records.columns]
    if lost:
        raise DataError(f"{records.path} has no column {lost[0]!r}, which the other tables have (columns: {', '.join(records.columns)}).")
    return [records.columns.index(name) for name in names]
