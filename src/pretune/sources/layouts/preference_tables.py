"""Tables of preferences: a prompt, the answer that was preferred, and one that was rejected."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from pretune.errors import DataError
from pretune.printable import shell_word
from pretune.sources import vocabulary
from pretune.sources.columns import listed, named
from pretune.sources.conversation import Conversation, turns_of
from pretune.sources.layouts._base import DataPlace
from pretune.sources.layouts.prompts import MORE, PROMPTS, Prompts, TextColumns, answered_by, called, may_be_prompts, tables_at, unwritten
from pretune.sources.preferences import PREFERENCES, Preference, paired, split_prompt
from pretune.sources.readers.records import Records
from pretune.sources.table import Columns, RunColumns, Table
from pretune.sources.target_type import TargetType

SIDES = ("chosen", "rejected")
"""Names of the columns of both answers, as TRL has them."""
_FEW = 5
"""Prompts below which pairs are split one by one: of fewer, hardly any split has a share that is wanted."""


@dataclass(frozen=True, kw_only=True)
class PreferenceTables(Prompts):
    """One table, or those of a folder, whose rows are pairs of answers; the prompt has its own columns, or begins both answers."""

    targets: ClassVar[tuple[TargetType, ...]] = (PREFERENCES,)
    rejected: str | None = None
    """The column of the rejected answer; None where only prompts are there, to be answered."""

    @classmethod
    def recognise(cls, place: DataPlace) -> Self | None:
        """Return the tables where the task is named, or where columns are called chosen and rejected and nobody names others."""
        wanted = place.target is not None and place.target.task == PREFERENCES.task
        if place.modality not in (None, "text") or (place.target is not None and not wanted):
            return None
        if not wanted and (place.columns.label or place.columns.text):
            return None
        parts = tables_at(place) if wanted or may_be_prompts(place) else None
        if not parts:
            return None
        lead = next((records for part, records in parts if part == "train"), parts[0][1])
        sides = _sides(lead, place.columns)
        if sides is None and not (wanted and isinstance(place.columns, RunColumns)):
            if wanted:
                raise DataError(
                    f"{lead.path} has no columns that are called chosen and rejected (columns: {listed(lead.columns)}). Name the preferred "
                    "answer and the other one: label=PREFERRED,REJECTED, and text=PROMPT."
                )
            return None
        answer, rejected = sides or (None, None)
        where = TextColumns(prompt=_prompt(lead, place.columns, sides or ()), answer=answer)
        root = place.path if place.path.is_dir() else place.path.parent
        return cls(columns=place.columns, modality="text", parts=parts, root=root, where=where, rejected=rejected)

    def read(self, target: TargetType | None) -> Table:
        """Return a row for each pair; pairs of one prompt are a group."""
        if self.rejected is None:
            raise DataError(f"{self.parts[0][1].path} has prompts only: a preferred and a rejected answer are needed (label=).")
        table = self._table(target)
        for part, records in self.parts:
            self._add(table, part, records, answered=True)
        prompts = dict.fromkeys(row.text for row in table.rows)
        if _FEW <= len(prompts) < len(table.rows):
            numbers = {text: str(number) for number, text in enumerate(prompts)}
            table.rows = [replace(row, group=f"prompt {numbers[row.text]}") for row in table.rows]
            table.messages.append(
                f"{len(table.rows):,} pairs have {len(prompts):,} prompts; automatic splits keep the pairs of one together."
            )
        prompt = f"the prompt is {' and '.join(map(repr, self.where.prompt))}" if self.where.prompt else "both begin with the prompt"
        alone = f"{'label' if self.where.prompt else 'text'}={shell_word(self.where.answer or '')}"
        table.messages.insert(
            0,
            f"{self.parts[0][1].name}: {self.where.answer!r} is preferred to {self.rejected!r}; {prompt}. "
            f"task=text_generation {alone} learns the preferred answers alone.",
        )
        return table

    def _table(self, target: TargetType | None) -> Table:
        table = super()._table(target)
        sides = tuple(name for name in (self.where.answer, self.rejected) if name)
        table.layout = f"pairs of answers in {', '.join(records.name for _, records in self.parts)}"
        table.columns |= {"label": ",".join(sides)} if sides else {}
        table.schema = replace(table.schema, label=sides)
        return table

    def _conversation(self, record: dict[str, Any], *, answered: bool) -> Conversation | tuple[str, str]:
        """Return what a record says, or why nothing can be learned from it."""
        if self.where.prompt and not answered:
            return super()._conversation(record, answered=False)
        sides = [self._side(record, name) for name in (self.where.answer, self.rejected) if name]
        problem = next((side for side in sides if not isinstance(side, Conversation)), None)
        if problem is not None:
            return problem
        first, second = (side.turns for side in sides if isinstance(side, Conversation))
        found: Any = paired(first, second)
        if not self.where.prompt and not isinstance(unwritten(record[self.where.answer or ""]), list):
            whole = split_prompt(first[-1].content, second[-1].content)
            found = paired(*whole) if whole else ("no_prompt", "has no prompt: both answers begin otherwise")
        return found if answered or not isinstance(found, Preference) else Conversation(turns=found.turns[:-1])

    def _side(self, record: dict[str, Any], column: str) -> Conversation | tuple[str, str]:
        """Return a conversation that ends with one of the answers, or why there is none."""
        asked: tuple[Any, ...] = self._asked(record, self.system_turns(record)) if self.where.prompt else ()
        if asked and isinstance(asked[0], str):
            return asked[0], asked[1]
        turns = turns_of(value) if isinstance(value := unwritten(record.get(column)), list) and not asked else None
        if isinstance(turns, tuple):
            system = () if turns[0].role == "system" else self.system_turns(record)
            return Conversation(turns=(*system, *turns))
        return answered_by(asked, column, value)


def _sides(records: Records, wanted: Columns) -> tuple[str, str] | None:
    """Return the columns of the preferred answer and the rejected one; None where there are none.

    Raises:
        DataError: one is named without the other.
        SettingError: a named column does not exist.
    """
    if wanted.label:
        names = [named(records, name.strip(), "label") for name in wanted.label.split(",") if name.strip()]
        if len(names) != 2 or not all(names):
            raise DataError(f"label={wanted.label} names {len(names)} column(s), and pairs have two answers: label=PREFERRED,REJECTED.")
        return str(names[0]), str(names[1])
    trained = wanted.schema.label if isinstance(wanted, RunColumns) else ()
    by_name = {vocabulary.plain(name): name for name in records.columns}
    for pair in (trained, tuple(by_name.get(side, "") for side in SIDES)):
        if len(pair) == 2 and all(name in records.columns for name in pair):
            return pair[0], pair[1]
    return None


def _prompt(records: Records, wanted: Columns, sides: tuple[str, ...]) -> tuple[str, ...]:
    """Return the columns of the prompt; none where both answers begin with it.

    Raises:
        DataError: several may hold it.
        SettingError: a named column does not exist.
    """
    if wanted.text:
        return tuple(named(records, name.strip(), "text") or "" for name in wanted.text.split(",") if name.strip())
    trained = wanted.schema.text if isinstance(wanted, RunColumns) else ()
    if trained and all(name in records.columns for name in trained):
        return trained
    found = [name for name in called(records, PROMPTS) if name not in sides]
    if len(found) > 1:
        spelled = " or ".join(f"text={shell_word(name)}" for name in found)
        raise DataError(f"{records.path}: {len(found)} columns may hold the prompt. Name one: {spelled}.")
    more = [name for name in records.columns if vocabulary.plain(name) in MORE and name not in (*found, *sides)]
    return (*found, *more) if found else ()
