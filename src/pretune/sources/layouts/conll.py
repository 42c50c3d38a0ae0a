"""CoNLL files: a word and its tags a line, blank lines between texts.

Two columns or more, with tabs or spaces between them; comments, `-DOCSTART-`, running numbers (CoNLL-U) and a header line are known.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Self

from pretune.errors import DataError
from pretune.formats import encodings
from pretune.formats.files import ending
from pretune.sources.layouts._base import DataPlace, OwnLayout
from pretune.sources.layouts._tagged import Found, TaggedText, table_of
from pretune.sources.readers.delimited import decode
from pretune.sources.readers.records import DELIMITED, MANIFESTS
from pretune.sources.schema import Schema
from pretune.sources.split_names import split_of_file, split_of_folder
from pretune.sources.table import Columns, RunColumns, Table
from pretune.sources.tags import TAGS, is_marked
from pretune.sources.target_type import TargetType
from pretune.sources.words import is_blank
from pretune.types import Split

_SURE = frozenset((".conll", ".conllu", ".conllx", ".iob", ".iob2", ".bio", ".bioes"))
"""File extensions that no other kind of data has."""
_ENDINGS = _SURE | {".ner", ".tsv", ".txt", ".data", ".tags", ".col", ""}
_ENDINGS = _SURE | {".ner", ".tsv", ".txt", ".data", ".tags", ".col", ""}
_LOOKED_AT = 1 << 16
_DOCUMENT = "-DOCSTART-"
_HEADERS = frozenset(("tag", "tags", "label", "labels", "ner", "ner_tag", "ner_tags", "pos", "pos_tag", "upos", "entity", "bio", "iob"))
_SPLITS: dict[str, Split] = {"testa": "val", "testb": "test"}
"""What CoNLL-2003 calls its splits: eng.testa, eng.testb."""
_CHUNKS = frozenset(("NP", "VP", "PP", "ADVP", "ADJP", "SBAR", "PRT", "CONJP", "INTJ", "LST", "UCP"))
_MOST_TAGS = 100
"""Plain tags at most: more different values in a last column are no tags."""


@dataclass(frozen=True, kw_only=True)
class Lines:
    """The lines of one file, as texts of cells."""

    name: str
    strings: list[list[tuple[int, list[str]]]]
    """For each text the number and the cells of its lines."""
    documents: list[int]
    """Number of the document that each text is of; all 0 where the file marks none."""
    width: int
    """Columns of most lines."""
    messages: list[str]

    def column(self, at: int) -> list[list[str]]:
        """Return one column of the texts that have it on every line."""
        return [[cells[at] for _, cells in text] for text in self.strings if all(len(cells) == self.width for _, cells in text)]


@dataclass(frozen=True, kw_only=True)
class Conll(OwnLayout):
    """One file, or the files of a folder."""

    root: Path
    files: tuple[tuple[Split | None, Path], ...]

    @classmethod
    def recognise(cls, place: DataPlace) -> Self | None:
        """Return the files whose first lines are words with tags."""
        if not place.may_be("text", TAGS):
            return None
        if place.path.is_file():
            found = [place.path] if _is_conll(place.path) else []
        else:
            if any(ending(file.parts[-1]) in MANIFESTS - DELIMITED for file in place.tree.files):
                return None
            found = [path for file in place.tree.files if _is_conll(path := place.tree.path(file))]
        root = place.path if place.path.is_dir() else place.path.parent
        splits = tuple((_split_of(path.relative_to(root)) if place.path.is_dir() else None, path) for path in found)
        return cls(columns=place.columns, modality="text", root=root, files=splits) if splits else None

    def read(self, target: TargetType | None) -> Table:
        """Return a row for each text."""
        return self._table(target, labelled=True)

    def read_unlabelled(self) -> Table:
        """Return a row for each text, whatever its tags."""
        return self._table(None, labelled=False)

    def _table(self, target: TargetType | None, *, labelled: bool) -> Table:
        named = any(split for split, _ in self.files)
        used = [(split, path) for split, path in self.files if split or not (named and labelled)]
        read = [(split, path, _read(path, path.relative_to(self.root).as_posix())) for split, path in used]
        lead = next((lines for split, _, lines in read if split == "train"), read[0][2])
        word, tag, messages = _columns(lead, self.columns, labelled=labelled)
        strings: list[TaggedText] = []
        for split, _, lines in read:
            strings += _texts(lines, word, tag, split)
        grouped = len({one.group for one in strings}) > 1 and self.columns.group is None and not named
        if not grouped:
            strings = [replace(one, group=None) for one in strings]
        names = ", ".join(lines.name for _, _, lines in read[:6]) + (" …" if len(read) > 6 else "")
        found = Found(
            strings=strings,
            root=self.root,
            layout=f"CoNLL file{'s' * (len(read) > 1)} {names}",
            columns={"text": f"column{word + 1}", **({"label": f"column{tag + 1}"} if labelled else {})},
            schema=Schema(label=(f"column{tag + 1}",), width=lead.width),
            messages=[*dict.fromkeys(line for _, _, lines in read for line in lines.messages), *messages],
        )
        left = [path.relative_to(self.root).as_posix() for split, path in self.files if (split, path) not in used]
        found.messages += [f"not used, as their names say no split: {', '.join(left[:5])}."] if left else []
        found.messages += ["texts of one document or file stay in one split (group=none turns this off)."] if grouped else []
        return table_of(found, target, labelled=labelled)


def _split_of(path: PurePath) -> Split | None:
    """Return the split that a file's name stands for, else its folder's: 'train.conll', 'eng.testa', 'dev/a.conll'."""
    words = [word for word in re.split(r"[\W_]+", path.name.casefold()) if word in _SPLITS]
    if words:
        return _SPLITS[words[0]]
    named = split_of_file(path.name)
    return split_of_folder(path.parent.name) if named is None and path.parent.name else named


# --- lines ---------------------------------------------------------------------------------------


def _is_conll(path: Path) -> bool:
    """Return whether a file's first lines are words with tags: marks of entities, or few different plain tags and blank lines."""
    kind = ending(path.name)
    if kind not in _ENDINGS and not kind[1:].startswith(("train", "test", "dev", "valid")):
        return False
    try:
        with path.open("rb") as file:
            raw = file.read(_LOOKED_AT)
        text = encodings.decode(raw[: raw.rfind(b"\n") + 1] if len(raw) == _LOOKED_AT else raw).text
    except (OSError, encodings.BadItem):
        return False
    lines = _parsed(text, path.name)
    if lines is None:
        return False
    last = lines.column(lines.width - 1)
    tags = Counter(tag for one in last for tag in one)
    if kind in _SURE or any(is_marked(list(dict.fromkeys(tag for one in lines.column(at) for tag in one))) for at in range(1, lines.width)):
        return True
    many = tags.total() / max(1, len(last))
    plain = all(re.fullmatch(r"[A-Z][A-Z0-9$+._:|-]{0,11}|[^\w\s]{1,2}|-LRB-|-RRB-|``|''", tag) for tag in tags)
    return len(last) > 1 and many > 1.5 and plain and 1 < len(tags) <= min(_MOST_TAGS, tags.total() / 2)


def _read(path: Path, name: str) -> Lines:
    """Return the lines of a file.

    Raises:
        DataError: it is no text, is empty, or has no common number of columns.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    text, messages = decode(path, raw)
    lines = _parsed(text, name)
    if lines is None:
        raise DataError(f"{path} holds no lines of at least two columns (a word and its tag), so it is no CoNLL file.")
    return replace(lines, messages=[*messages, *lines.messages])


def _parsed(text: str, name: str) -> Lines | None:
    """Return the texts of a file's content; None where most of its lines have less than two columns."""
    lines = [line.rstrip("\r ") for line in text.split("\n")]
    filled = [line for line in lines if line.strip() and not line.startswith("#")]
    tabs = sum("\t" in line for line in filled) > len(filled) / 2
    widths = Counter(len(_cells(line, tabs)) for line in filled)
    width, count = widths.most_common(1)[0] if widths else (0, 0)
    if width < 2 or count < 0.8 * len(filled):
        return None
    strings: list[list[tuple[int, list[str]]]] = []
    documents: list[int] = []
    current: list[tuple[int, list[str]]] = []
    document, messages = 0, []
    for number, line in enumerate([*lines, ""], 1):
        cells = _cells(line, tabs)
        if not line.strip() or line.startswith(_DOCUMENT):
            if current:
                strings.append(current)
                documents.append(document)
            current, document = [], document + line.startswith(_DOCUMENT)
        elif not (line.startswith("#") and (len(cells) != width or (not current and line.startswith("# ")))):
            current.append((number, cells))
    if strings and (header := strings[0][0][1])[-1].casefold() in _HEADERS and len(header) == width:
        messages.append(f"{name}: the first line names the columns ({', '.join(header)}).")
        strings[0] = strings[0][1:]
        strings, documents = (strings, documents) if strings[0] else (strings[1:], documents[1:])
    return (
        Lines(name=name, strings=[_words_only(one) for one in strings], documents=documents, width=width, messages=messages)
        if strings
        else None
    )


def _cells(line: str, tabs: bool) -> list[str]:
    return line.split("\t") if tabs else line.split()


def _words_only(text: list[tuple[int, list[str]]]) -> list[tuple[int, list[str]]]:
    """Return lines without CoNLL-U's tokens of several words (1-2) and empty ones (1.1)."""
    return [(number, cells) for number, cells in text if len(cells) < 8 or not re.fullmatch(r"\d+[-.]\d+", cells[0])]


# --- columns -------------------------------------------------------------------------------------


def _columns(lines: Lines, columns: Columns, *, labelled: bool) -> tuple[int, int, list[str]]:
    """Return the places of the word and of the tag, and a sentence where there was a choice.

    Raises:
        DataError: a named column does not exist, or two columns may be meant.
    """
    trained = columns.schema if isinstance(columns, RunColumns) and columns.schema.width else None
    word = _named(columns.text, lines, "text")
    word = int(_counts_up(lines)) if word is None else word
    tag = _named(columns.label, lines, "label")
    if tag is not None or not labelled:
        return word, lines.width - 1 if tag is None else tag, []
    if trained and trained.width == lines.width and trained.label:
        return word, int(trained.label[0].removeprefix("column")) - 1, []
    return word, *_tag_column(lines, word)


def _named(name: str | None, lines: Lines, role: str) -> int | None:
    if name is None:
        return None
    match = re.fullmatch(r"(?:column)?[ _]?(\d+)", name.strip(), re.IGNORECASE)
    if not match or not 1 <= int(match[1]) <= lines.width:
        shown = ", ".join(f"column{at + 1} ({cell} …)" for at, cell in enumerate(lines.strings[0][0][1]))
        raise DataError(f"{role}={name}: {lines.name} has the columns {shown}. Name one: {role}=column{lines.width}.")
    return int(match[1]) - 1


def _counts_up(lines: Lines) -> bool:
    """Return whether the first column numbers the words of each text, from 0 or 1 on."""
    if lines.width < 3:
        return False
    starts = [[cells[0] for _, cells in text] for text in lines.strings[:50]]
    return all(
        numbers[0] in ("0", "1") and numbers == [str(at) for at in range(int(numbers[0]), int(numbers[0]) + len(numbers))]
        for numbers in starts
    )


def _tag_column(lines: Lines, word: int) -> tuple[int, list[str]]:
    """Return the column of the tags: the one that marks entities, else the last (of CoNLL-U the fourth, UPOS)."""
    values = {at: lines.column(at) for at in range(lines.width) if at != word}
    marked = [at for at, strings in values.items() if is_marked([tag for one in strings for tag in one])]
    entities = [at for at in marked if not _are_chunks(values[at])]
    if len(entities) > 1:
        shown = " or ".join(f"label=column{at + 1} ({', '.join(_types(values[at])[:4])})" for at in entities)
        raise DataError(f"{lines.name}: several columns mark entities. Name the one to read: {shown}.")
    chosen = next(iter(entities or marked), 3 if lines.width == 10 and word == 1 else lines.width - 1)
    others = [
        f"column{at + 1} ({', '.join(dict.fromkeys(tag for one in values[at][:5] for tag in one if tag != '_'))[:30]} …)"
        for at in values
        if at != chosen
    ]
    messages = f"column {chosen + 1} of {lines.width} holds the tags; label=… reads another: {', '.join(others)}."
    return chosen, [messages] if lines.width > 2 and others else []


def _sample(strings: Sequence[Sequence[str]]) -> str:
    return ", ".join(dict.fromkeys(tag for one in strings[:5] for tag in one if tag != "_"))[:30]


def _types(strings: Sequence[Sequence[str]]) -> list[str]:
    return list(dict.fromkeys(tag.partition("-")[2] for one in strings for tag in one if "-" in tag))


def _are_chunks(strings: Sequence[Sequence[str]]) -> bool:
    """Return whether entities are phrases (NP, VP), which CoNLL-2000 and 2003 have beside names."""
    types = set(_types(strings))
    return bool(types & _CHUNKS) and len(types & _CHUNKS) >= len(types) / 2


# --- texts ---------------------------------------------------------------------------------------


def _texts(lines: Lines, word: int, tag: int, split: Split | None) -> list[TaggedText]:
    made = []
    for text, document in zip(lines.strings, lines.documents, strict=True):
        group = f"{lines.name} document {document}" if any(lines.documents) else lines.name
        first = text[0][0]
        seen = [(number, cells) for number, cells in text if len(cells) <= word or not is_blank(cells[word])]
        base = TaggedText(id=f"{lines.name}:{first}", where=f"{lines.name} line {first}", split=split, group=group)
        made.append(
            replace(
                base,
                words=[cells[word] for _, cells in seen if len(cells) > word],
                tags=[cells[tag] for _, cells in seen if len(cells) > tag],
                fault=_fault(seen, lines.width, word, tag),
                repaired=_repair(text, len(text) - len(seen), word),
            )
        )
    return made


def _repair(text: list[tuple[int, list[str]]], lost: int, word: int) -> tuple[str, str] | None:
    if not lost or lost == len(text):
        return None
    number = next(number for number, cells in text if len(cells) > word and is_blank(cells[word]))
    more = f", nor on {lost - 1} more" if lost > 1 else ""
    return "empty_word", f"has a tag but no word on line {number}{more}; such lines are ignored"


def _fault(text: list[tuple[int, list[str]]], width: int, word: int, tag: int) -> tuple[str, str] | None:
    """Return why a text cannot be used: a line with more or fewer columns, or without a tag."""
    for number, cells in text:
        if len(cells) != width:
            reason = "other_tags" if len(cells) > word else "ragged"
            count = f"{len(cells)} column{'s' * (len(cells) != 1)}"
            return reason, f"has {count} on line {number} ({' '.join(cells)[:40]!r}) where the others have {width}"
        if not all(map(str.isascii, cells)) and any(map(encodings.damaged, cells)):
            return "bad_bytes", f"holds bytes that are no text on line {number}"
        if not cells[tag]:
            return "blank_label", f"has no tag on line {number}"
    return None
