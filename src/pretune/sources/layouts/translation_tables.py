"""Tables of translations: columns that are named by languages, `en` and `de`, or one that holds both, as `datasets` has them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pretune.formats.files import ending
from pretune.sources import languages, shards, vocabulary
from pretune.sources.column import as_text
from pretune.sources.columns import named
from pretune.sources.contents import named_columns, tables_in
from pretune.sources.layouts._base import DataPlace, OwnLayout
from pretune.sources.readers.dispatch import read_records
from pretune.sources.readers.records import ARROW, Records, is_manifest
from pretune.sources.split_names import split_of, splits_of_words
from pretune.sources.table import Columns, RunColumns, Table
from pretune.sources.target_type import TargetType
from pretune.sources.translations import Bitext, Direction, TranslationPair, Translations, direction, is_wanted
from pretune.types import Split

_BOTH = ("translation", "translations")
_PEEK = 1 << 14


@dataclass(frozen=True, kw_only=True)
class TranslationTables(OwnLayout):
    """One table, or those of a folder, whose rows are texts in several languages."""

    splits: tuple[tuple[Split | None, Records], ...]
    root: Path
    names: tuple[str, ...]
    """The languages, or the columns of the two sides, in the order of the file."""
    both: str
    """The column that holds all of them by name; '' where each has its own."""
    prefix: str
    """What their columns' names begin with: 'translation.' of a dictionary that was read into columns."""
    wanted: TargetType | None

    @classmethod
    def recognise(cls, place: DataPlace) -> Self | None:
        """Return the tables whose columns are languages; where translation is wanted, those that are named or called source and target."""
        wanted = is_wanted(place.target)
        if place.modality not in (None, "text") or (place.target is not None and not wanted):
            return None
        splits = _tables(place, sure=wanted)
        if not splits:
            return None
        lead = next((records for split, records in splits if split == "train"), splits[0][1])
        both = next((name for name in lead.columns if vocabulary.plain(name) in _BOTH and _languages_in(lead.column(name))), "")
        prefix = "" if both else next((start for one in _BOTH if _parts(lead, start := f"{one}.")), "")
        names = _languages_in(lead.column(both)) if both else _parts(lead, prefix) if prefix else _names(lead, place, wanted=wanted)
        if len(names) < 2 and not (wanted and isinstance(place.columns, RunColumns) and names):
            return None
        root = place.path if place.path.is_dir() else place.path.parent
        return cls(
            columns=place.columns,
            modality="text",
            splits=tuple(splits),
            root=root,
            names=tuple(names),
            both=both,
            prefix=prefix,
            wanted=place.target,
        )

    def read(self, target: TargetType | None) -> Table:
        """Return a row for each record that has both sides."""
        way = direction(self.names, self.wanted, self.columns, [self.root.name], ordered="the order in the file")
        bitext = self._bitext(way)
        if not self.both:
            bitext.columns = {"text": f"{self.prefix}{way.source}", "label": f"{self.prefix}{way.target}"}
        for split, records in self.splits:
            column = _split_column(records, self.columns)
            words = splits_of_words([as_text(value) for value in records.column(column)]) if column else {}
            for at, value in enumerate(records.values):
                record = dict(zip(records.columns, value, strict=True))
                source, targets = (self._side(record, name) for name in (way.source, way.target))
                texts = tuple(as_text(one) for one in (targets if isinstance(targets, list | tuple) else [targets]))
                own = words.get(as_text(record[column])) if column else None
                bitext.pairs.append(TranslationPair(records.id(at), as_text(source), texts, own or split))
        return bitext.table(target)

    def read_unlabelled(self) -> Table:
        """Return the texts of the source language."""
        named_by_run = self.wanted.source if isinstance(self.wanted, Translations) else ""
        source = self.columns.text or languages.found(named_by_run, self.names) or self.names[0]
        bitext = self._bitext(Direction(source=source, target=""))
        for _, records in self.splits:
            for at, value in enumerate(records.values):
                record = dict(zip(records.columns, value, strict=True))
                bitext.pairs.append(TranslationPair(records.id(at), as_text(self._side(record, source)), ("-",)))
        table = bitext.table(None)
        table.columns = {} if self.both else {"text": f"{self.prefix}{source}"}
        table.target_type, table.findings = None, []
        return table

    def _side(self, record: dict[str, Any], name: str) -> Any:
        """Return the text, or the texts, of one side; None where the record has none."""
        if not self.both:
            return record.get(f"{self.prefix}{name}")
        sides = _unwritten(record[self.both])
        return sides.get(name) if isinstance(sides, dict) else None

    def _bitext(self, way: Direction) -> Bitext:
        shown = ", ".join(records.name for _, records in self.splits)
        bitext = Bitext(root=self.root, layout=f"table of translations {shown}", direction=way)
        bitext.messages = [sentence for _, records in self.splits for sentence in records.messages]
        bitext.ledger = [entry for _, records in self.splits for entry in records.ledger]
        return bitext


def _tables(place: DataPlace, *, sure: bool) -> list[tuple[Split | None, Records]]:
    wanted = named_columns(place.columns)
    if place.path.is_file():
        fits = is_manifest(place.path.name) and (sure or _may_be(place.path))
        return [(None, read_records(place.path, wanted))] if fits else []
    found = tables_in(place.tree)
    if not found or not (sure or _may_be(place.tree.path(found[0]))):
        return []
    return shards.read_shards(place.tree, found, wanted) or []


def _may_be(path: Path) -> bool:
    """Return by a table's first line whether its columns may be languages; cheap, as every table is looked at."""
    if ending(path.name) in ARROW:
        return False
    with path.open("rb") as file:
        head = file.read(_PEEK).decode("utf-8", errors="replace").lstrip("\ufeff[ \r\n")
    if head.startswith("{"):
        try:
            record, _ = json.JSONDecoder().raw_decode(head)
        except ValueError:
            return False
        return sum(map(languages.is_language, record)) > 1 or any(vocabulary.plain(name) in _BOTH for name in record)
    cells = re.split("[,;\t|]", head.partition("\n")[0])
    return sum(languages.is_language(cell.strip(" \"'\r")) for cell in cells) > 1


def _names(records: Records, place: DataPlace, *, wanted: bool) -> list[str]:
    """Return the columns that are sides, in the order of the file."""
    columns = place.columns
    if isinstance(columns, RunColumns):
        trained = (*columns.schema.text, *columns.schema.label)
        own = [name for one in (columns.text, columns.label) if one and (name := named(records, one, "text"))]
        return own or [name for name in records.columns if name.casefold() in {one.casefold() for one in trained}]
    if wanted and columns.text and columns.label:
        return [name for one in (columns.text, columns.label) if (name := named(records, one, "text"))]
    found = [name for name in records.columns if languages.is_language(name.strip())]
    if wanted and len(found) < 2:
        asked = place.target
        sides = (asked.source, asked.target) if isinstance(asked, Translations) else ("", "")
        found = [name for name in records.columns if name in sides] if all(sides) else list(languages.sides(records.columns) or ())
    others = [name for name in records.columns if name not in found]
    telling = (*vocabulary.ID, *vocabulary.SPLIT, *vocabulary.GROUP, "score", "alignment")
    if not wanted and any(vocabulary.plain(name) not in telling for name in others):
        return []
    return found


def _parts(records: Records, prefix: str) -> list[str]:
    """Return the languages of the columns whose names begin so."""
    found = [name.removeprefix(prefix) for name in records.columns if name.startswith(prefix)]
    return found if len(found) > 1 else []


def _languages_in(values: Sequence[Any]) -> list[str]:
    """Return the names in a column of dictionaries of texts by language; none where it holds something else."""
    first = _unwritten(next((value for value in values if value not in (None, "")), None))
    return [str(name) for name in first] if isinstance(first, dict) and len(first) > 1 else []


def _unwritten(value: Any) -> Any:
    """Return the dictionary that a cell of a CSV has as JSON; all else as it is."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _split_column(records: Records, columns: Columns) -> str | None:
    """Return the column that says train, val or test; None where there is none, or new splits are wanted."""
    if columns.split == "new":
        return None
    if columns.split:
        return named(records, columns.split, "split")
    for name in records.columns:
        words = [text for value in records.column(name) if (text := as_text(value))] if vocabulary.plain(name) in vocabulary.SPLIT else []
        if words and all(split_of(word) for word in words):
            return name
    return None
