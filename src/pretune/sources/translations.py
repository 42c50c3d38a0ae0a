"""Pairs of a text and its translation: the type of target, the direction, and the table that every layout makes of its pairs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pretune.errors import DataError, SettingError
from pretune.printable import shell_word
from pretune.sources import languages
from pretune.sources.schema import Schema
from pretune.sources.swapped import swapped, swapped_names
from pretune.sources.table import Columns, RunColumns, Table
from pretune.sources.target_texts import TargetText, TargetTexts
from pretune.sources.target_type import TargetType
from pretune.types import Finding, LedgerEntry, Row, Split

_TIMES, _LONG = 6, 60
"""How many times as long as the other a side is that hardly translates it, where it has so many characters more."""
_SHOWN = 200


@dataclass(frozen=True, kw_only=True)
class Translations(TargetTexts):
    """The translation of a text."""

    source: str = ""
    """The language that is read; '' where the data decide."""
    target: str = ""
    """The language that is written; '' where the data decide."""


TRANSLATIONS = Translations(task="translation")


@dataclass(frozen=True, kw_only=True)
class Direction:
    """What is translated into what, and why."""

    source: str
    target: str
    why: str = ""
    """A sentence on how it was chosen; '' where the person said so."""


def is_wanted(target: TargetType | None) -> bool:
    """Return whether the person, or a run, wants translations."""
    return target is not None and target.task == TRANSLATIONS.task


def direction(names: Sequence[str], wanted: TargetType | None, columns: Columns, hints: Iterable[str], *, ordered: str = "") -> Direction:
    """Return which of the languages is read, and which is written.

    Args:
        names: of the languages, or the columns, two at least.
        wanted: the type of target that the person or a run wants; it may name languages.
        columns: text= and label= name them too.
        hints: names of folders and files, which may say a direction.
        ordered: where the order of `names` means something, what gives it: 'the order of the columns'.

    Raises:
        SettingError: a language is named that is not there.
        DataError: nothing says the direction, or which two of several languages are meant.
    """
    named = wanted if isinstance(wanted, Translations) else TRANSLATIONS
    text, label = (None, None) if isinstance(columns, RunColumns) else (columns.text, columns.label)
    source, target = _named(named.source or text, names, "source"), _named(named.target or label, names, "target")
    if source and source == target:
        raise SettingError(f"task.source and task.target both mean {source!r}: name two languages.")
    others = [name for name in names if name not in (source, target)]
    if source and target:
        return Direction(source=source, target=target)
    if (source or target) and len(others) == 1:
        return Direction(source=source or others[0], target=target or others[0])
    if len(names) > 2:
        shown = ", ".join(names)
        raise DataError(f"the data have {len(names)} languages: {shown}. Name two: {_spelt(names[0], names[1])}.")
    first, second = names
    if (sides := languages.sides(names)) is not None:
        return Direction(source=sides[0], target=sides[1])
    for hint in hints:
        if (pair := languages.direction_in(hint, first, second)) is not None:
            return _chosen(pair, f"as {hint!r} says")
    if ordered:
        return _chosen((first, second), ordered)
    english = [name for name in names if languages.is_english(name)]
    if len(english) == 1:
        return _chosen((english[0], second if english[0] == first else first), "English is read where nothing says the direction")
    raise DataError(
        f"nothing says whether {first} is translated into {second} or {second} into {first}. "
        f"Say which: {_spelt(first, second)}, or {_spelt(second, first)}."
    )


def _spelt(source: str, target: str) -> str:
    """Return how a direction is written; where the data alone said the task, its settings need its name beside them."""
    return f"task=translation task.source={shell_word(source)} task.target={shell_word(target)}"


def _chosen(pair: tuple[str, str], why: str) -> Direction:
    source, target = pair
    turned = f"{_spelt(target, source)} turns it round"
    return Direction(source=source, target=target, why=f"{source} is translated into {target} ({why}; {turned}).")


def _named(name: str | None, names: Sequence[str], what: str) -> str:
    if not name:
        return ""
    found = languages.found(name, names)
    if found is None:
        raise SettingError(f"task.{what}={name}: the data have no such language. They have {', '.join(names)}.")
    return found


# --- the table -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TranslationPair:
    """One pair, before it is judged."""

    item: str
    source: str
    target: tuple[str, ...]
    split: Split | None = None


@dataclass(kw_only=True)
class Bitext:
    """The pairs of a data set."""

    root: Path
    layout: str
    direction: Direction
    columns: dict[str, str] = field(default_factory=dict)
    """Role -> the column that was used, of tables."""
    pairs: list[TranslationPair] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    ledger: list[LedgerEntry] = field(default_factory=list)

    def table(self, target: TargetType | None) -> Table:
        """Return a row for each pair; those with a blank side go to the ledger.

        Raises:
            DataError: the sides of a file are swapped against those of another.
        """
        way = self.direction
        kind = Translations(task=(target or TRANSLATIONS).task, source=way.source, target=way.target)
        table = Table(rows=[], modality="text", target_type=kind, root=self.root, layout=self.layout, columns=self.columns)
        table.schema = Schema(text=(way.source,), label=(way.target,), text_count=1)
        table.messages = [*self.messages, *([way.why] if way.why else [])]
        table.ledger = list(self.ledger)
        for pair in self.pairs:
            table.inputs.append(pair.item)
            texts = [text for one in pair.target if (text := one.strip())]
            if pair.source.strip() and texts:
                target_text = TargetText(texts[0], tuple(texts[1:]))
                table.rows.append(Row(id=pair.item, text=(pair.source.strip(),), target=target_text, split=pair.split))
                continue
            side, reason = (way.target, "blank_target") if pair.source.strip() else (way.source, "blank_source")
            detail = f"{pair.item} is blank" + (f" in {side!r}" if side else "")
            table.ledger.append(LedgerEntry(item=pair.item, action="dropped", reason=reason, detail=detail))
        table.findings += [*_findings(table.rows, way), *self._swapped(table.rows)]
        return table

    def _swapped(self, rows: Sequence[Row]) -> list[Finding]:
        """Return what shows that sides are swapped.

        Raises:
            DataError: those of a whole file are, against another.
        """
        way, groups = self.direction, defaultdict(list)
        for row in rows:
            groups[row.id.rpartition(":")[0] or str(row.split)].append((row.id, (row.text or ("",))[0], str(row.target)))
        found = swapped(groups)
        if found.files:
            raise DataError(
                f"{self.root}: the pairs of {', '.join(found.files)} have their sides swapped against those of {found.reference}: "
                f"most have {way.target!r} where {way.source!r} belongs. Exchange the sides in one of them: the names "
                "of its files or columns."
            )
        out = []
        if found.pairs:
            message = (
                f"{len(found.pairs):,} of {len(rows):,} pairs have their sides swapped, by the words of the others: {found.pairs[0]} "
                f"has {way.target!r} where {way.source!r} belongs. They are kept; exchange their sides."
            )
            out.append(Finding(kind="swapped_sides", severity="warning", message=message, items=found.pairs[:_SHOWN]))
        if swapped_names(way.source, way.target, [pair for group in groups.values() for pair in group]):
            message = (
                f"the texts called {way.source!r} have the commonest words of {way.target!r}, and the other way round: "
                "the names of the sides are swapped, and what is learned is the other direction. Exchange the names."
            )
            out.append(Finding(kind="swapped_names", severity="warning", message=message))
        return out


def _findings(rows: Sequence[Row], way: Direction) -> list[Finding]:
    """Return what pairs show that hardly translate each other: equal sides, and lengths that do not go together."""
    targets = [(row, (row.text or ("",))[0], str(row.target)) for row in rows]
    equal = [row.id for row, source, target in targets if source.casefold() == target.casefold()]
    absurd = [row.id for row, source, target in targets if _is_absurd(len(source), len(target))]
    out = []
    if equal:
        out.append(
            Finding(
                kind="equal_sides",
                severity="warning" if len(equal) > 0.05 * len(rows) else "note",
                message=f"{len(equal):,} of {len(rows):,} pairs are equal in {way.source} and {way.target} ({equal[0]} …): "
                "names and numbers may be, sentences are not translated. They are kept.",
                items=tuple(equal[:_SHOWN]),
            )
        )
    if absurd:
        out.append(
            Finding(
                kind="absurd_lengths",
                severity="warning",
                message=f"{len(absurd):,} of {len(rows):,} pairs have one side more than {_TIMES} times as long as the other "
                f"({absurd[0]} …), which hardly translates it. Look at them: they are kept, cut to max_tokens.",
                items=tuple(absurd[:_SHOWN]),
            )
        )
    return out


def _is_absurd(first: int, second: int) -> bool:
    short, long = sorted((first, second))
    return long > _TIMES * short and long - short > _LONG
