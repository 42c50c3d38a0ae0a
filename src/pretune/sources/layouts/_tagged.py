"""Texts with tags or spans, as layouts of any kind have read them, become a table: one scheme for all, problems named."""

from __future__ import annotations

import bisect
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pretune.errors import DataError
from pretune.sources.schema import Schema
from pretune.sources.table import Table
from pretune.sources.tags import (
    SPOKEN,
    TAGS,
    Entity,
    SchemeName,
    TaggedWords,
    Tags,
    capitals_of,
    contradiction,
    iob2_of,
    scheme_of,
    target_of,
)
from pretune.sources.target_type import TargetType
from pretune.sources.words import is_blank, joined, words_of
from pretune.types import LedgerEntry, Row, Split


@dataclass(frozen=True, kw_only=True)
class TaggedText:
    """One text as its file has it."""

    id: str
    where: str
    """For people: 'train.conll line 17'."""
    words: Sequence[str] | None = None
    """Where the file separates them."""
    text: str = ""
    """Where it does not."""
    tags: Sequence[str] | None = None
    """One for each word."""
    spans: Sequence[Entity] | None = None
    """In characters of the text."""
    fault: tuple[str, str] | None = None
    """Why it cannot be used: a reason, and words that continue 'train.conll line 17 …'."""
    repaired: tuple[str, str] | None = None
    """What was wrong and is mended, likewise."""
    split: Split | None = None
    group: str | None = None


@dataclass(kw_only=True)
class Found:
    """What a layout has read."""

    strings: list[TaggedText]
    root: Path
    layout: str
    columns: dict[str, str] = field(default_factory=dict)
    """Role -> the column that was read."""
    schema: Schema = field(default_factory=Schema)
    messages: list[str] = field(default_factory=list)
    ledger: list[LedgerEntry] = field(default_factory=list)
    """What the file itself made unusable."""


def table_of(found: Found, target: TargetType | None, *, labelled: bool = True) -> Table:
    """Return the rows of the texts that can be used; every other text is named in the ledger.

    Args:
        found: what was read.
        target: `Tags` with the scheme that the person names; None recognises it.
        labelled: False for texts that are to be predicted, which have no targets.

    Raises:
        DataError: the tags mark no entity, or not by the scheme that was named.
    """
    kind = target if isinstance(target, Tags) else TAGS
    out = Table(
        rows=[],
        modality="text",
        target_type=None,
        root=found.root,
        layout=found.layout,
        columns=found.columns,
        schema=found.schema,
        messages=list(found.messages),
        ledger=list(found.ledger),
        inputs=[one.id for one in found.strings],
    )
    whole = [one for one in found.strings if not _dropped(out, one, labelled)]
    out.ledger += [
        LedgerEntry(item=one.id, action="repaired", reason=one.repaired[0], detail=f"{one.where} {one.repaired[1]}")
        for one in whole
        if one.repaired
    ]
    if not labelled:
        out.rows = [_row(one) for one in whole]
        return out
    whole = _with_capitals(whole, out) if kind.scheme is None else whole
    scheme = _scheme(whole, kind, out)
    out.target_type = replace(kind, scheme=scheme)
    make: Callable[[Table, TaggedText, Row], Row | None] = _with_spans if any(one.spans is not None for one in whole) else _tagger(scheme)
    made = (make(out, one, _row(one)) for one in whole)
    out.rows = [row for row in made if row is not None]
    _report(out, scheme)
    return out


def _dropped(out: Table, one: TaggedText, labelled: bool) -> bool:
    """Name a text that cannot be used in the ledger."""
    fault = one.fault if labelled or one.fault is None or one.fault[0] not in ("other_tags", "blank_label") else None
    if is_blank("".join(one.words if one.words is not None else one.text)):
        fault = "empty_text", "has an empty text"
    if fault is not None:
        out.ledger.append(LedgerEntry(item=one.id, action="dropped", reason=fault[0], detail=f"{one.where} {fault[1]}"))
    return fault is not None


def _row(one: TaggedText) -> Row:
    """Return a text without its target."""
    text, words = (one.text, None) if one.words is None else joined(one.words)
    return Row(id=one.id, text=(text,), words=words, split=one.split, group=one.group)


# --- tags ----------------------------------------------------------------------------------------


def _with_capitals(strings: Sequence[TaggedText], out: Table) -> list[TaggedText]:
    """Return texts whose tags have capital marks, and say so where some had small ones."""
    capitals = capitals_of([one.tags for one in strings if one.tags is not None])
    if not capitals:
        return list(strings)
    first = next(iter(capitals))
    out.messages.append(f"tags with a small letter before the type are read with a capital: {first} is {capitals[first]}.")
    return [one if one.tags is None else replace(one, tags=tuple(capitals.get(tag, tag) for tag in one.tags)) for one in strings]


def _scheme(strings: Sequence[TaggedText], kind: Tags, out: Table) -> SchemeName:
    """Return the scheme of all texts together, and say which it is.

    Raises:
        DataError: none of the words has a tag other than O.
    """
    if any(one.spans is not None for one in strings):
        return "iob2"
    tags = [one.tags for one in strings if one.tags is not None]
    counts = Counter(tag for one in tags for tag in one)
    if counts and set(counts) == {"O"}:
        raise DataError(f"{out.root}: none of the {counts.total():,} words has a tag other than O, so there is nothing to learn.")
    scheme = kind.scheme or scheme_of(tags)
    if kind.scheme is None:
        how = {
            "none": "the tags mark no entities (no O, B-, I-): a plain tag for each word. "
            "task=token_classification task.scheme=io reads runs of a tag as entities.",
            "io": "entities are runs of words of one type (scheme IO): two of a type that touch cannot be told apart.",
        }.get(scheme, f"the tags mark entities by the scheme {SPOKEN[scheme]}.")
        out.messages.append(how)
    return scheme


def _tagger(scheme: SchemeName) -> Callable[[Table, TaggedText, Row], Row | None]:
    def tagged(out: Table, one: TaggedText, row: Row) -> Row | None:
        assert one.tags is not None
        assert one.words is not None
        assert row.words is not None
        if (broken := contradiction(one.tags, scheme)) is not None:
            at, tag = broken
            detail = f"{one.where}: {one.words[at]!r} has the tag {tag}, which cannot stand there ({SPOKEN[scheme]}); " + _cure(tag)
            out.ledger.append(LedgerEntry(item=one.id, action="repaired", reason="broken_scheme", detail=detail))
        return replace(row, target=target_of(one.tags, row.words, scheme))

    return tagged


def _cure(tag: str) -> str:
    begins = tag[:1] in "IEML" and len(tag) > 1
    return f"with no B-{tag[2:]} before it, an entity begins there" if begins else "the entities are read as conlleval reads them"


# --- spans ---------------------------------------------------------------------------------------


def _with_spans(out: Table, one: TaggedText, row: Row) -> Row | None:
    """Return a text whose words carry its spans; a border inside a word is moved to the word's."""
    text, words = one.text, words_of(one.text)
    assert one.spans is not None
    if (fault := _fault_of(one.spans, text)) is not None:
        out.ledger.append(LedgerEntry(item=one.id, action="dropped", reason=fault[0], detail=f"{one.where} {fault[1]}"))
        return None
    found, entities, moved = [], [], []
    for span in sorted(set(one.spans)):
        first = bisect.bisect_right(words, span.start, key=lambda word: word[1])
        last = bisect.bisect_left(words, span.end, key=lambda word: word[0])
        if first >= last or (found and first < found[-1].end):
            moved.append(f"{text[span.start : span.end]!r} ({span.type}) is no word of its own and is ignored")
            continue
        whole = Entity(words[first][0], words[last - 1][1], span.type)
        if text[whole.start : whole.end].strip() != text[span.start : span.end].strip():
            moved.append(f"{text[span.start : span.end]!r} ({span.type}) ends inside a word: {text[whole.start : whole.end]!r} was read")
        found.append(Entity(first, last, span.type))
        entities.append(whole)
    if moved:
        more = f", and {len(moved) - 1} more" if len(moved) > 1 else ""
        out.ledger.append(LedgerEntry(item=one.id, action="repaired", reason="span_in_word", detail=f"{one.where}: {moved[0]}{more}"))
    return replace(row, words=words, target=TaggedWords(iob2_of(found, len(words)), tuple(entities)))


def _fault_of(spans: Sequence[Entity], text: str) -> tuple[str, str] | None:
    """Return why the spans of a text cannot be: outside of it, empty, or over each other."""
    for span in spans:
        if not 0 <= span.start < span.end <= len(text):
            return "span_outside", f"has a span {span.start}:{span.end} ({span.type}) outside of its text of {len(text)} characters"
        if not text[span.start : span.end].strip():
            return "empty_span", f"has a span {span.start}:{span.end} ({span.type}) that holds no characters but spaces"
    ordered = sorted(set(spans))
    for first, second in itertools.pairwise(ordered):
        if second.start < first.end:
            both = f"{first.start}:{first.end} ({first.type}) and {second.start}:{second.end} ({second.type})"
            return "overlapping_spans", f"has spans that overlap: {both}; a word has one tag"
    return None


# --- what is said --------------------------------------------------------------------------------


def _report(out: Table, scheme: SchemeName) -> None:
    """Report how many words and entities there are."""
    targets = [row.target for row in out.rows if isinstance(row.target, TaggedWords)]
    words = sum(len(target.tags) for target in targets)
    counts = Counter(name for target in targets for name in target.names)
    shown = ", ".join(f"{name} {count:,}" for name, count in counts.most_common(8)) + (" …" if len(counts) > 8 else "")
    what = f"{counts.total():,} entities" if scheme != "none" else f"{len(counts)} tags"
    out.messages.append(f"{len(targets):,} texts of {words:,} words, {what}: {shown}.")
