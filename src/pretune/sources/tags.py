"""Tags of words: the schemes by which they mark entities, and targets that a task reads.

Schemes: IOB1 (Ramshaw & Marcus 1995), IOB2 (Tjong Kim Sang & Veenstra 1999), BIOES and its spellings BILOU and BMES, IO. Entities are
read by the rules of conlleval, which find them in sequences that break the scheme as well.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from pretune.errors import DataError
from pretune.sources.readers.records import Value
from pretune.sources.target_type import ParsedLabels, TargetType
from pretune.sources.words import Span
from pretune.types import Structured, Target

SchemeName = Literal["iob1", "iob2", "bioes", "io", "none"]
OUTSIDE = "O"
UNTYPED = "entity"
"""The type of entities whose tags are B and I alone."""
SPOKEN: dict[SchemeName, str] = {"iob1": "IOB1", "iob2": "IOB2", "bioes": "BIOES", "io": "IO", "none": "plain tags"}
_MARKED = re.compile(r"([BIESLUM])[-_](.+)", re.DOTALL)
_SMALL = re.compile(r"[bieslum][-_].+", re.DOTALL)
_SMALL = re.compile(r"[bieslum][-_].+", re.DOTALL)
_LETTERS = {"L": "E", "U": "S", "M": "I"}
"""What BILOU and BMES write for the end, for an entity of one word, and for the inside."""


class Entity(NamedTuple):
    """A run of words, or of characters, of one type."""

    start: int
    end: int
    """One past the last."""
    type: str


@dataclass(frozen=True, slots=True)
class TaggedWords(Structured):
    """What the words of a text are: entities, or a tag for each."""

    tags: tuple[str, ...]
    """One for each word: IOB2 marks of entities (O, B-PER, I-PER), or plain tags."""
    entities: tuple[Entity, ...] | None = None
    """In characters of the text, in order; None for plain tags."""

    @property
    def names(self) -> tuple[str, ...]:
        """The types of the entities, or the tags, each as often as it occurs."""
        return self.tags if self.entities is None else tuple(entity.type for entity in self.entities)

    def renamed(self, names: Mapping[str, str]) -> TaggedWords:
        """Return the same with other names for some types or tags."""
        if self.entities is None:
            return replace(self, tags=tuple(names.get(tag, tag) for tag in self.tags))
        tags = (tag if tag == OUTSIDE else f"{tag[:2]}{names.get(tag[2:], tag[2:])}" for tag in self.tags)
        return TaggedWords(tuple(tags), tuple(one._replace(type=names.get(one.type, one.type)) for one in self.entities))

    def __str__(self) -> str:
        """Return entities as '0:5 LOC, 14:25 PER' by their characters, plain tags with spaces between them."""
        return " ".join(self.tags) if self.entities is None else written(self.entities)


def written(entities: Sequence[Entity]) -> str:
    """Return entities as '0:5 LOC, 14:25 PER'; `read_entities` reads them back."""
    return ", ".join(f"{one.start}:{one.end} {one.type}" for one in entities)


def read_entities(text: str) -> list[Entity]:
    """Return the entities that `written` wrote; a type may hold anything but a comma before a place."""
    found = re.findall(r"(?:^|, )(\d+):(\d+) (.+?)(?=, \d+:\d+ |$)", text, re.DOTALL)
    return [Entity(int(start), int(end), name) for start, end, name in found]


@dataclass(frozen=True, kw_only=True)
class Tags(TargetType):
    """A tag for each word of a text; the layouts that hold such read them."""

    scheme: SchemeName | None = None
    """How tags mark entities; None recognises it."""

    def parse(self, values: list[Value], column: str) -> ParsedLabels:
        """Refuse data that have none of the layouts of tagged words.

        Raises:
            DataError: always; the layouts that hold tags have been looked for before.
        """
        raise DataError(
            f"{column!r} holds no tags of words, which task={self.task} needs. Accepted are CoNLL files (a word and its tag a line, blank "
            'lines between texts), records with lists of words and of tags ({"tokens": […], "ner_tags": […]}), and records with spans of '
            'characters ({"text": …, "entities": [[0, 5, "PER"]]}). text=… and label=… name the columns.'
        )

    def renamed(self, target: Target, names: Mapping[str, str]) -> Target:
        """Return a target with other names for some types or tags."""
        return target.renamed(names) if isinstance(target, TaggedWords) else target


TAGS = Tags(task="token_classification")


# --- schemes -------------------------------------------------------------------------------------


def scheme_of(strings: Sequence[Sequence[str]]) -> SchemeName:
    """Return the scheme of the tags of some texts, all of them together; 'none' for plain tags.

    Between IOB1 and IOB2 the one decides that fewer words contradict. Types without marks beside a most frequent O are read as IO.
    """
    counts = Counter(tag for tags in strings for tag in tags)
    inside = {tag for tag in counts if tag != OUTSIDE}
    letters = {mark for tag in inside if (mark := _split(tag)[0])}
    if not inside or not all(_split(tag)[0] for tag in inside):
        plain = not inside or any(_split(tag)[0] and "-" in tag for tag in inside) or counts.most_common(1)[0][0] != OUTSIDE
        return "none" if plain else "io"
    if letters - {"B", "I"}:
        return "bioes"
    if letters == {"I"}:
        return "io"
    wrong = {name: sum(_contradicted(tags, name) for tags in strings) for name in ("iob2", "iob1")}
    return "iob1" if wrong["iob1"] < wrong["iob2"] else "iob2"


def capitals_of(strings: Sequence[Sequence[str]]) -> dict[str, str]:
    """Return the tags whose mark is a small letter (b-per, o) with the capital; none where other tags are no marks either."""
    there = {tag for tags in strings for tag in tags}
    small = {tag for tag in there if tag == OUTSIDE.lower() or _SMALL.fullmatch(tag)}
    marked = all(tag == OUTSIDE or _MARKED.fullmatch(tag) for tag in there - small)
    return {tag: tag[0].upper() + tag[1:] for tag in sorted(small)} if marked and small != {OUTSIDE.lower()} else {}


def is_marked(tags: Sequence[str]) -> bool:
    """Return whether every tag is O or marks an entity by its first letter, and one does."""
    return any(tag != OUTSIDE for tag in tags) and all(tag == OUTSIDE or _split(tag)[0] for tag in tags)


def _split(tag: str) -> tuple[str, str]:
    """Return the mark (B, I, E, S) and the type of a tag; no mark where it has none."""
    if match := _MARKED.fullmatch(tag):
        return _LETTERS.get(match[1], match[1]), match[2]
    if tag in ("B", "I", "E", "S", "L", "U", "M"):
        return _LETTERS.get(tag, tag), UNTYPED
    return "", tag


def entities_of(tags: Sequence[str]) -> list[Entity]:
    """Return the entities (in words) of tags of any scheme; types without marks are runs of one type."""
    found: list[Entity] = []
    start, before, kind = 0, OUTSIDE, ""
    for at, tag in enumerate([*tags, OUTSIDE]):
        mark, name = (OUTSIDE, "") if tag == OUTSIDE else _split(tag)
        mark = mark or "I"
        begins = mark != OUTSIDE and (mark in "BS" or before in "OES" or name != kind)
        if before != OUTSIDE and (begins or mark == OUTSIDE):
            found.append(Entity(start, at, kind))
        if begins:
            start = at
        before, kind = mark, name
    return found


def iob2_of(entities: Sequence[Entity], words: int) -> tuple[str, ...]:
    """Return the IOB2 tags of entities (in words) of a text of so many words."""
    return _as(entities, words, "iob2")


def _as(entities: Sequence[Entity], words: int, scheme: SchemeName) -> tuple[str, ...]:
    tags = [OUTSIDE] * words
    last = Entity(-1, -1, "")
    for one in entities:
        tags[one.start : one.end] = [f"I-{one.type}"] * (one.end - one.start)
        if scheme != "iob1" or (last.end == one.start and last.type == one.type):
            tags[one.start] = f"B-{one.type}"
        if scheme == "bioes":
            tags[one.end - 1] = f"{'S' if one.end - one.start == 1 else 'E'}-{one.type}"
        last = one
    return tuple(tags)


def contradiction(tags: Sequence[str], scheme: SchemeName) -> tuple[int, str] | None:
    """Return the first word whose tag breaks the scheme, and its tag; None where none does."""
    if scheme in ("io", "none"):
        return None
    regular = _as(entities_of(tags), len(tags), scheme)
    pairs = zip(tags, regular, strict=True)
    return next(((at, tag) for at, (tag, right) in enumerate(pairs) if _split(tag)[0] != _split(right)[0]), None)


def _contradicted(tags: Sequence[str], scheme: SchemeName) -> int:
    regular = _as(entities_of(tags), len(tags), scheme)
    return sum(_split(tag)[0] != _split(right)[0] for tag, right in zip(tags, regular, strict=True))


def target_of(tags: Sequence[str], words: Sequence[Span], scheme: SchemeName) -> TaggedWords:
    """Return the target of a text's tags, of which there is one for each word."""
    if scheme == "none":
        return TaggedWords(tuple(tags))
    found = entities_of(tags)
    return TaggedWords(iob2_of(found, len(words)), tuple(Entity(words[one.start][0], words[one.end - 1][1], one.type) for one in found))
