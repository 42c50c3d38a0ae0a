"""Records (JSON, Parquet, `datasets` folders) of tagged texts: lists of words and of tags, or a text and spans of its characters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from pretune.errors import DataError
from pretune.formats.files import ending
from pretune.printable import shell_word
from pretune.sources import shards
from pretune.sources.columns import named
from pretune.sources.contents import named_columns, tables_in
from pretune.sources.layouts._base import DataPlace, OwnLayout
from pretune.sources.layouts._spans import fault_of_text, is_spans, spans_in
from pretune.sources.layouts._tagged import Found, TaggedText, table_of
from pretune.sources.readers import arrow
from pretune.sources.readers.arrow_file import ArrowFile
from pretune.sources.readers.dispatch import read_records
from pretune.sources.readers.records import ARROW, JSON, Records
from pretune.sources.schema import Schema
from pretune.sources.split_names import split_of, splits_of_words
from pretune.sources.table import RunColumns, Table
from pretune.sources.tags import TAGS, is_marked
from pretune.sources.target_type import TargetType
from pretune.sources.vocabulary import SPLIT, TEXT, plain
from pretune.types import Split

_WORDS = ("tokens", "words", "token", "word", "tokenized_text", "form", "forms", *TEXT)
_ENTITY_TAGS = ("ner_tags", "ner", "ner_tag", "ner_labels", "bio_tags", "iob_tags", "entity_tags", "tags", "tag", "labels", "label")
"""In order of preference."""
_OTHER_TAGS = ("pos_tags", "pos", "upos", "xpos", "upos_tags", "xpos_tags", "chunk_tags", "chunks", "fine_ner_tags", "coarse_ner_tags")
_SPANS = ("entities", "spans", "label", "labels", "ents", "annotations", "ner")
_START = 1 << 18
_LOOKED_AT = 200


@dataclass(frozen=True, kw_only=True)
class RecordRoles:
    """Which columns hold what."""

    text: str
    """Lists of words, or texts."""
    label: str = ""
    """Lists of tags, or of spans."""
    spans: bool = False
    messages: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TaggedRecords(OwnLayout):
    """The records of one or several splits."""

    root: Path
    splits: tuple[tuple[Split | None, Records], ...]
    roles: RecordRoles

    @classmethod
    def recognise(cls, place: DataPlace) -> Self | None:
        """Return the records where a column holds tags of words, or spans; of inputs of a run, also where one holds lists of words."""
        if not place.may_be("text", TAGS):
            return None
        splits = _records(place)
        if not splits:
            return None
        lead = next((records for split, records in splits if split == "train"), splits[0][1])
        roles = _roles(lead, place)
        if roles is None:
            return None
        root = place.path if place.path.is_dir() else place.path.parent
        return cls(columns=place.columns, modality="text", root=root, splits=tuple(splits), roles=roles)

    def read(self, target: TargetType | None) -> Table:
        """Return a row for each record."""
        if not self.roles.label:
            raise DataError(
                f"{self.splits[0][1].path} has lists of words ({self.roles.text!r}) and no tags of them. Name their column: label=…"
            )
        return self._table(target, labelled=True)

    def read_unlabelled(self) -> Table:
        """Return a row for each record, whatever its tags."""
        return self._table(None, labelled=False)

    def _table(self, target: TargetType | None, *, labelled: bool) -> Table:
        strings = [one for split, records in self.splits for one in _texts(records, self.roles, split, self.columns.group)]
        names = [records.name for _, records in self.splits]
        found = Found(
            strings=strings,
            root=self.root,
            layout=f"records {', '.join(names[:6])}" + (" …" if len(names) > 6 else ""),
            columns={"text": self.roles.text, **({"label": self.roles.label} if labelled else {})},
            schema=Schema(text=(self.roles.text,), label=(self.roles.label,) if self.roles.label else ()),
            messages=[*(line for _, records in self.splits for line in records.messages), *(self.roles.messages if labelled else ())],
            ledger=[entry for _, records in self.splits for entry in records.ledger],
        )
        table = table_of(found, target, labelled=labelled)
        table.inputs = [item for _, records in self.splits for item in _in_order(records, strings)]
        return table


def _in_order(records: Records, strings: Sequence[TaggedText]) -> list[str]:
    """Return the ids of a file's records in its order, those that could not be read among them."""
    mine = {records.id(at) for at in range(len(records.values))}
    lost = [entry.item for entry in records.ledger if entry.action == "dropped"]
    return sorted([*(one.id for one in strings if one.id in mine), *lost], key=lambda item: int(item.rpartition(":")[2]))


# --- files ---------------------------------------------------------------------------------------


def _records(place: DataPlace) -> list[tuple[Split | None, Records]]:
    """Return the records at a place; empty where a first look finds no lists in them, or where it is not clear which file is meant."""
    path, wanted = place.path, named_columns(place.columns)
    if path.is_file():
        return [(None, read_records(path, wanted))] if _has_lists(path) else []
    if arrow.is_datasets_folder(path):
        first = next((place.tree.path(file) for file in place.tree.files if ending(file.parts[-1]) == ".arrow"), None)
        return arrow.read_datasets_folder(path) if first is not None and _has_lists(first) else []
    found = tables_in(place.tree)
    if not found or not _has_lists(place.tree.path(found[0])):
        return []
    return shards.read_shards(place.tree, found, wanted) or []


def _has_lists(path: Path) -> bool:
    """Return by a file's beginning whether a column of it holds lists."""
    if ending(path.name) in ARROW:
        return any("list" in str(field.type) for field in ArrowFile(path).schema)
    if ending(path.name) not in JSON:
        return False
    with path.open("rb") as file:
        head = file.read(_START).decode("utf-8", "replace")
    try:
        record, _ = json.JSONDecoder().raw_decode(head[head.index("{") :])
    except (ValueError, RecursionError):
        return "[" in head
    inner = [value for part in record.values() if isinstance(part, dict) for value in part.values()]
    return any(isinstance(value, list) for value in [*record.values(), *inner])


# --- columns -------------------------------------------------------------------------------------


def _roles(records: Records, place: DataPlace) -> RecordRoles | None:
    """Return which columns hold words and tags, or texts and spans; None where none do.

    Raises:
        DataError: several columns may hold the tags.
        SettingError: a named column does not exist.
    """
    wanted = place.columns
    text, label = named(records, wanted.text, "text"), named(records, wanted.label, "label")
    if isinstance(wanted, RunColumns):
        text = text or _trained(records, wanted.schema.text)
        label = label or _trained(records, wanted.schema.label)
    sample = {name: [row[at] for row in records.values[:_LOOKED_AT]] for at, name in enumerate(records.columns)}
    words = [name for name, values in sample.items() if _are_words(values) and text in (None, name)]
    found = _tagged(records, sample, words, label) or _spanned(sample, text, label)
    if found is None and words and isinstance(wanted, RunColumns) and (text or plain(words[0]) in _WORDS):
        return RecordRoles(text=words[0])
    return found


def _trained(records: Records, names: tuple[str, ...]) -> str | None:
    return names[0] if len(names) == 1 and names[0] in records.columns else None


def _are_words(values: Sequence[Any]) -> bool:
    """Return whether a column holds lists of strings, nearly everywhere."""
    lists = [value for value in values if isinstance(value, list)]
    filled = [value for value in lists if value]
    return bool(filled) and len(lists) >= 0.9 * len(values) and all(isinstance(one, str) for value in filled for one in value)


def _tagged(records: Records, sample: dict[str, list[Any]], words: list[str], label: str | None) -> RecordRoles | None:
    """Return a column of words and one of as many tags each; of several, the one that is called like names' tags."""
    for text in sorted(words, key=lambda name: _WORDS.index(plain(name)) if plain(name) in _WORDS else len(_WORDS)):
        tags = [name for name, values in sample.items() if name != text and _fit(sample[text], values)]
        if label is not None:
            tags = [name for name in tags if name == label]
        sure = [
            name
            for name in tags
            if _marks(records, sample, name) or (plain(text) in _WORDS and plain(name) in (*_ENTITY_TAGS, *_OTHER_TAGS))
        ]
        tags = sure or (tags if label is not None else [])
        if tags:
            chosen = _chosen(records, tags)
            others = [name for name in tags if name != chosen]
            messages = (f"{chosen!r} holds the tags; label=… reads another ({', '.join(others)}).",) if others else ()
            return RecordRoles(text=text, label=chosen, messages=messages)
    return None


def _chosen(records: Records, tags: list[str]) -> str:
    """Return the column of tags that is meant.

    Raises:
        DataError: that is not clear.
    """
    named_so = [name for wanted in _ENTITY_TAGS for name in tags if plain(name) == wanted]
    if named_so or len(tags) == 1:
        return (named_so or tags)[0]
    shown = " or ".join(f"label={shell_word(name)}" for name in tags)
    raise DataError(f"{records.path}: several columns hold a tag for each word. Name the one to read: {shown}.")


def _fit(words: Sequence[Any], tags: Sequence[Any]) -> bool:
    """Return whether a column holds lists of names or numbers as long as the words, nearly everywhere."""
    pairs = [(one, other) for one, other in zip(words, tags, strict=True) if isinstance(one, list) and isinstance(other, list) and one]
    flat = [tag for _, other in pairs for tag in other]
    if not flat or not all(isinstance(tag, str | int) for tag in flat):
        return False
    return sum(len(one) == len(other) for one, other in pairs) >= 0.5 * len(pairs)


def _marks(records: Records, sample: dict[str, list[Any]], name: str) -> bool:
    flat = dict.fromkeys(tag for one in sample[name] if isinstance(one, list) for tag in one)
    names = records.names.get(name)
    return is_marked(names) if names else is_marked([str(tag) for tag in flat])


def _spanned(sample: dict[str, list[Any]], text: str | None, label: str | None) -> RecordRoles | None:
    """Return a column of texts and one of spans of their characters."""
    spans = [name for name, values in sample.items() if label in (None, name) and is_spans(values)]
    spans.sort(key=lambda name: _SPANS.index(plain(name)) if plain(name) in _SPANS else len(_SPANS))
    strings = [name for name, values in sample.items() if text in (None, name) and all(isinstance(value, str | None) for value in values)]
    strings = [name for name in strings if any(isinstance(value, str) for value in sample[name])]
    if not spans or not strings:
        return None
    by_name = [name for name in strings if plain(name.rpartition(".")[2]) in TEXT]
    chosen = (by_name or sorted(strings, key=lambda name: -sum(len(value or "") for value in sample[name])))[0]
    others = [f"{name!r}" for name in spans[1:]]
    messages = (f"{spans[0]!r} holds the spans; label=… reads another ({', '.join(others)}).",) if others else ()
    return RecordRoles(text=chosen, label=spans[0], spans=True, messages=messages)


# --- texts ---------------------------------------------------------------------------------------


def _texts(records: Records, roles: RecordRoles, split: Split | None, group: str | None) -> list[TaggedText]:
    place = {name: at for at, name in enumerate(records.columns)}
    if roles.text not in place or (roles.label and roles.label not in place):
        lost = roles.text if roles.text not in place else roles.label
        raise DataError(f"{records.path} has no column {lost!r}, which the other tables have (columns: {', '.join(records.columns)}).")
    of_split = next((name for name in records.columns if plain(name) in SPLIT), None) if split is None else None
    words = splits_of_words(str(row[place[of_split]]) for row in records.values) if of_split else {}
    of_group = named(records, None if group == "none" else group, "group")
    made = []
    for at, row in enumerate(records.values):
        base = TaggedText(
            id=records.id(at),
            where=records.where(at),
            split=words.get(str(row[place[of_split]]), split_of(row[place[of_split]])) if of_split else split,
            group=str(row[place[of_group]]) if of_group and row[place[of_group]] is not None else None,
        )
        label = row[place[roles.label]] if roles.label else None
        made.append(
            _spans(base, row[place[roles.text]], label)
            if roles.spans
            else _tags(base, row[place[roles.text]], label, records.names.get(roles.label))
        )
    return made


def _spans(base: TaggedText, text: Any, spans: Any) -> TaggedText:
    text = text if isinstance(text, str) else ""
    found = spans_in(spans)
    if found is None:
        return replace(base, text=text, spans=(), fault=("bad_spans", "has spans that are none: each needs a start, an end and a label"))
    return replace(base, text=text, spans=[one for one, _ in found], fault=fault_of_text(found, text))


def _tags(base: TaggedText, words: Any, tags: Any, names: list[str] | None) -> TaggedText:
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        return replace(base, words=(), fault=("empty_text", "has no list of words"))
    if tags is None:
        return replace(base, words=words, fault=("blank_label", "has no tags"))
    if not isinstance(tags, list) or len(tags) != len(words):
        count = len(tags) if isinstance(tags, list) else 0
        return replace(base, words=words, fault=("other_tags", f"has {count} tags for {len(words)} words"))
    if names:
        strange = next((tag for tag in tags if isinstance(tag, int) and not 0 <= tag < len(names)), None)
        if strange is not None:
            return replace(
                base, words=words, fault=("unknown_label", f"has the tag {strange}, but the table names {len(names)}, from 0 on")
            )
        tags = [names[tag] if isinstance(tag, int) else tag for tag in tags]
    if any(tag is None or tag == "" for tag in tags):
        return replace(
            base,
            words=words,
            fault=("blank_label", f"has no tag for its word {words[[*tags, None].index(None)] if None in tags else ''!r}"),
        )
    return replace(base, words=words, tags=[str(tag) for tag in tags])
