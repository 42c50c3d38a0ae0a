"""Tables of prompts and answers, and of conversations: JSON lines, CSV, Parquet with columns that are named so."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from pretune.errors import DataError
from pretune.formats.files import ending
from pretune.printable import shell_word
from pretune.sources import shards, vocabulary
from pretune.sources.column import as_text
from pretune.sources.columns import listed, named
from pretune.sources.contents import named_columns, tables_in
from pretune.sources.conversation import TEXT_GENERATION, Conversation, Turn, prompt_of, trimmed, turns_of
from pretune.sources.layouts._base import DataPlace, OwnLayout
from pretune.sources.readers.dispatch import read_records
from pretune.sources.readers.records import ARROW, Records, is_manifest
from pretune.sources.schema import Schema
from pretune.sources.split_names import split_of, splits_of_words
from pretune.sources.table import Columns, RunColumns, Table
from pretune.sources.target_type import TargetType
from pretune.types import LedgerEntry, Row, Split

MESSAGES = ("messages", "conversations", "conversation", "dialog", "dialogue", "chat")
"""Columns that may hold lists of messages."""
PROMPTS = (("prompt", "instruction", "question", "query", "user", "human"), ("input", "source", "document", "article", "text", "passage"))
ANSWERS = (
    ("completion", "response", "output", "answer", "reply", "assistant", "chosen"),
    ("target", "summary", "highlights", "headline", "title", "tldr"),
)
"""Columns of prompts and of answers; those of the second list count where none of the first is there."""
PLAIN = ("text", "content", "document", "body", "story")
"""Names of a column of plain text."""
SYSTEM = ("system", "system_prompt", "system_message")
"""Columns whose text is a system turn."""
MORE = ("input", "context", "inputs", *SYSTEM)
"""Columns that add to a prompt: what an instruction is about."""
_PEEK = 1 << 16
"""Bytes of a file that are looked at to Return whether it may be one."""
_DIFFERENT = 0.5
"""Share of the answers that must differ from all others to be texts rather than classes."""


@dataclass(frozen=True, kw_only=True)
class TextColumns:
    """Which columns hold what."""

    prompt: tuple[str, ...] = ()
    answer: str | None = None
    messages: str | None = None
    more: tuple[str, ...] = ()
    """Columns with other answers that are as good."""
    plain: bool = False
    """Whether the one column is plain text, all of which is learned from."""

    @property
    def content(self) -> tuple[str, ...]:
        """The columns of what is asked."""
        return (self.messages,) if self.messages else self.prompt


@dataclass(frozen=True, kw_only=True)
class Prompts(OwnLayout):
    """One table, or those of a folder, whose rows are prompts with answers or conversations."""

    targets: ClassVar[tuple[TargetType, ...]] = (TEXT_GENERATION,)
    """The types of target it is for, the first where nobody names a task."""
    parts: list[tuple[Split | None, Records]]
    root: Path
    where: TextColumns
    messages: tuple[str, ...] = ()

    @classmethod
    def recognise(cls, place: DataPlace) -> Self | None:
        """Return the tables where the task is named, or where their columns are called as nothing else is."""
        wanted = place.target is not None and any(place.target.task == kind.task for kind in cls.targets)
        if place.modality not in (None, "text") or (place.target is not None and not wanted):
            return None
        parts = tables_at(place) if wanted or may_be_prompts(place) else None
        if not parts:
            return None
        lead = next((records for part, records in parts if part == "train"), parts[0][1])
        where = _columns(lead, place.columns, sure=wanted)
        if where is None or (not wanted and not _is_sure(lead, where)):
            return None
        root = place.path if place.path.is_dir() else place.path.parent
        return cls(columns=place.columns, modality="text", parts=parts, root=root, where=where)

    def read(self, target: TargetType | None) -> Table:
        """Return a row for each record; what has no answer goes to the ledger."""
        table = self._table(target)
        for part, records in self.parts:
            self._add(table, part, records, answered=True)
        if self.where.plain:
            table.messages.insert(0, f"{self.parts[0][1].name}: {self.where.prompt[0]!r} is plain text, and all of it is learned from.")
            return table
        shown = repr(self.where.messages) if self.where.messages else " and ".join(map(repr, self.where.prompt))
        answer = "their assistant turns are learned" if self.where.messages else f"the answer is {self.where.answer!r}"
        what = "conversations are" if self.where.messages else "the prompt is"
        table.messages.insert(0, f"{self.parts[0][1].name}: {what} {shown}, {answer}.")
        return table

    def read_unlabelled(self) -> Table:
        """Return the prompts; of conversations all turns before a last answer."""
        table = self._table(None)
        for part, records in self.parts:
            self._add(table, part, records, answered=False)
        return table

    def _table(self, target: TargetType | None) -> Table:
        names = ", ".join(records.name for _, records in self.parts)
        used = {"text": ",".join(self.where.content), **({"label": self.where.answer} if self.where.answer else {})}
        label = (self.where.answer,) if self.where.answer else ()
        table = Table(
            rows=[],
            modality="text",
            target_type=target or self.targets[0],
            root=self.root,
            layout=f"{self._what()} in {names}",
            columns=used,
            schema=Schema(text=self.where.content, label=label, text_count=1),
        )
        table.messages = [sentence for _, records in self.parts for sentence in records.messages]
        table.ledger = [entry for _, records in self.parts for entry in records.ledger]
        return table

    def _what(self) -> str:
        """Return what the rows are."""
        return "plain text" if self.where.plain else "conversations" if self.where.messages else "prompts with answers"

    def _add(self, table: Table, part: Split | None, records: Records, *, answered: bool) -> None:
        split = self._split_column(records)
        splits = splits_of_words([as_text(value) for value in records.column(split)]) if split else {}
        for at in range(len(records.values)):
            item, record = records.id(at), dict(zip(records.columns, records.values[at], strict=True))
            table.inputs.append(item)
            found = self._conversation(record, answered=answered)
            where = records.where(at)
            if isinstance(found, tuple):
                reason, words = found
                table.ledger.append(LedgerEntry(item=item, action="dropped", reason=reason, detail=f"{where} {words}"))
                continue
            if answered and found.turns:
                turns, words = trimmed(found.turns)
                found = replace(found, turns=turns)
                if words:
                    table.ledger.append(LedgerEntry(item=item, action="repaired", reason="cut_turns", detail=f"{where} {words}"))
            own = splits.get(as_text(record[split])) if split else None
            asked = found.turns[:-1] if found.answered else found.turns
            text = prompt_of(asked) if asked else as_text(record[self.where.prompt[0]])
            table.rows.append(Row(id=item, text=(text,), target=found, split=own or part))

    def _split_column(self, records: Records) -> str | None:
        """Return the column that says train, val or test; None where there is none, or new splits are wanted."""
        if self.columns.split == "new":
            return None
        if self.columns.split:
            return named(records, self.columns.split, "split")
        for name in records.columns:
            words = (
                [text for value in records.column(name) if (text := as_text(value))] if vocabulary.plain(name) in vocabulary.SPLIT else []
            )
            if words and all(split_of(word) for word in words):
                return name
        return None

    def _conversation(self, record: dict[str, Any], *, answered: bool) -> Conversation | tuple[str, str]:
        """Return what a record says, or why nothing can be learned from it."""
        system = self.system_turns(record)
        if self.where.messages:
            turns = turns_of(unwritten(record[self.where.messages]))
            if isinstance(turns, str):
                return "bad_messages", turns
            turns = turns if turns[0].role == "system" else (*system, *turns)
            return Conversation(turns=turns if answered or turns[-1].role != "assistant" else turns[:-1])
        asked = self._asked(record, system)
        if answered and self.where.plain:
            return Conversation() if as_text(record[self.where.prompt[0]]).strip() else ("empty_text", "has an empty text")
        if not answered or isinstance(asked[0], str):
            return asked if isinstance(asked[0], str) else Conversation(turns=asked)
        return answered_by(asked, self.where.answer or "", unwritten(record.get(self.where.answer or "")))

    def system_turns(self, record: dict[str, Any]) -> tuple[Turn, ...]:
        """Return the system turn of a record that has a column of its own for it."""
        return tuple(Turn("system", text) for name in record if vocabulary.plain(name) in SYSTEM and (text := as_text(record[name])))

    def _asked(self, record: dict[str, Any], system: tuple[Turn, ...]) -> Any:
        """Return the turns before the answer, or why there are none: a reason and words."""
        first = unwritten(record.get(self.where.prompt[0]))
        if _is_messages(first):
            turns = turns_of(first)
            return ("bad_messages", turns) if isinstance(turns, str) else turns
        named = [name for name in self.where.prompt if vocabulary.plain(name) not in SYSTEM]
        prompt = "\n\n".join(text for name in named if (text := as_text(record.get(name))))
        before = system if len(named) < len(self.where.prompt) else ()
        return (*before, Turn("user", prompt)) if prompt else ("empty_text", "has an empty prompt")


def answered_by(asked: tuple[Turn, ...], column: str, value: Any) -> Conversation | tuple[str, str]:
    """Return a conversation with the answer of a column, or why it has none."""
    if _is_messages(value):
        turns = turns_of(value)
        if isinstance(turns, str):
            return "bad_messages", turns
        return Conversation(turns=(*asked, *turns) if turns[0].role == "assistant" else turns)  # else it holds the prompt too
    if value is None or value == []:
        return "no_answer", f"has no {column!r}"
    strings = [text for one in (value if isinstance(value, list | tuple) else [value]) if (text := as_text(one))]
    if not strings:
        return "empty_answer", f"has an empty {column!r}"
    return Conversation(turns=(*asked, Turn("assistant", strings[0])), others=tuple(strings[1:]))


# --- finding -------------------------------------------------------------------------------------


def may_be_prompts(place: DataPlace) -> bool:
    """Return by the first bytes of a table whether its columns may be called so."""
    if place.path.is_dir():
        found = [place.tree.path(file) for file in tables_in(place.tree)][:1]
    else:
        found = [place.path] if is_manifest(place.path.name) else []
    if not found or ending(found[0].name) in ARROW:
        return False
    try:
        with found[0].open("rb") as file:
            head = file.read(_PEEK).decode("utf-8", "ignore").casefold()
    except OSError:
        return False
    words = set(re.findall(r"[a-z_]+", head))
    pairs = bool(words & set(PROMPTS[0])) and bool(words & set(ANSWERS[0]))
    return pairs or {"chosen", "rejected"} <= words or (bool(words & set(MESSAGES)) and bool(words & {"role", "from"}))


def tables_at(place: DataPlace) -> list[tuple[Split | None, Records]] | None:
    """Return the table or the tables of splits at a place; None where there are none, or it is not clear which is meant."""
    if not place.path.is_dir():
        return [(None, read_records(place.path, named_columns(place.columns)))] if is_manifest(place.path.name) else None
    found = tables_in(place.tree)
    return shards.read_shards(place.tree, found, named_columns(place.columns)) if found else None


def _columns(records: Records, wanted: Columns, *, sure: bool) -> TextColumns | None:
    """Return which columns hold prompts and answers; None where there are none and nobody said there must be.

    Raises:
        DataError: several may, or the task is named and none does.
        SettingError: a named column does not exist.
    """
    _refuse_preferences(records, wanted)
    messages = [name for name in records.columns if vocabulary.plain(name) in MESSAGES and _holds_messages(records, name)]
    trained = wanted.schema if isinstance(wanted, RunColumns) else Schema()
    text = tuple(named(records, name.strip(), "text") or "" for name in (wanted.text or "").split(",") if name.strip())
    if not text and trained.text:
        text = trained.find(records, trained.text, "text")
    if len(text) == 1 and _holds_messages(records, text[0]):
        return TextColumns(messages=text[0])
    label = named(records, wanted.label, "label") or next((name for name in trained.label if name in records.columns), None)
    if text and (label or isinstance(wanted, RunColumns)):
        return TextColumns(prompt=text, answer=label, plain=not label and not trained.label and len(text) == 1)
    prompts, answers = (text,) if text else called(records, PROMPTS), [label] if label else called(records, ANSWERS)
    pairs = bool(prompts) and bool(answers)
    if not sure and not pairs and not messages:
        return None
    if messages and pairs:
        raise DataError(
            f"{records.path} has conversations ({messages[0]!r}) and prompts with answers ({_shown(prompts)}, {_shown(answers)}). "
            f"Name what to read: text={shell_word(messages[0])}, or text={_word(prompts[0])} label={shell_word(answers[0])}."
        )
    if len(messages) == 1:
        return TextColumns(messages=messages[0])
    if len(prompts) > 1 or len(answers) > 1 or messages:
        several = [*messages] or (list(prompts) if len(prompts) > 1 else list(answers))
        role = "text" if messages or len(prompts) > 1 else "label"
        spelled = " or ".join(f"{role}={_word(name)}" for name in several)
        raise DataError(
            f"{records.path}: {len(several)} columns may hold the {'prompt' if role == 'text' else 'answer'}. Name one: {spelled}."
        )
    if not pairs:
        if plain := _plain_text(records, text, trained, messages, answers):
            return TextColumns(prompt=(plain,), plain=True)
        raise DataError(
            f"{records.path} has no columns that are called prompt and answer (columns: {listed(records.columns)}). "
            "Name them: text=COLUMN label=COLUMN, or text=COLUMN alone for plain text."
        )
    prompt = prompts[0] if isinstance(prompts[0], tuple) else (prompts[0],)
    more = [name for name in records.columns if vocabulary.plain(name) in MORE and name not in (*prompt, answers[0]) and not wanted.text]
    return TextColumns(prompt=(*prompt, *more), answer=answers[0])


def _plain_text(records: Records, text: Sequence[str], trained: Schema, messages: Sequence[str], answers: Sequence[str]) -> str | None:
    """Return the column of plain text: the one that is named, that a run was trained on, that is called so, or the only one."""
    if messages or answers or trained.label or len(text) > 1:
        return None
    if text:
        return text[0]
    found = [name for name in records.columns if vocabulary.plain(name) in PLAIN] or list(records.columns)
    return found[0] if len(found) == 1 else None


def called(records: Records, names: tuple[tuple[str, ...], ...]) -> list[str]:
    """Return the columns that are called as the first of these lists says; where there is none, as the next does."""
    for group in names:
        found = [name for name in records.columns if vocabulary.plain(name) in group]
        if found:
            return found
    return []


def _holds_messages(records: Records, name: str) -> bool:
    value = next((value for value in records.column(name) if value not in (None, "", [])), None)
    return _is_messages(unwritten(value))


def _is_messages(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _refuse_preferences(records: Records, wanted: Columns) -> None:
    """Refuse pairs of a preferred answer and another: half of each would go unread.

    Raises:
        DataError: the columns are there, and nobody named the answer that is learned.
    """
    by_name = {vocabulary.plain(name): name for name in records.columns}
    if {"chosen", "rejected"} <= by_name.keys() and not (wanted.label or wanted.text or isinstance(wanted, RunColumns)):
        chosen, rejected = by_name["chosen"], by_name["rejected"]
        whole = not called(records, PROMPTS) and _holds_messages(records, chosen)
        raise DataError(
            f"{records.path} holds pairs of a preferred and a rejected answer ({chosen!r}, {rejected!r}). To learn from both, say "
            f"task=dpo. To learn the preferred answers alone, name them: {'text' if whole else 'label'}={shell_word(chosen)}"
        )


def unwritten(value: Any) -> Any:
    """Return the list that a cell of a CSV has as JSON; all else as it is."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _is_sure(records: Records, where: TextColumns) -> bool:
    """Return whether the columns mean texts to be written, where nobody named a task: their names are telling, answers differ."""
    if where.messages:
        return True
    assert where.answer is not None
    telling = vocabulary.plain(where.prompt[0]) in PROMPTS[0] and vocabulary.plain(where.answer) in ANSWERS[0]
    if _holds_messages(records, where.answer):
        return True
    strings = [as_text(value) for value in records.column(where.answer)]
    return telling and len(set(strings)) > _DIFFERENT * len(strings) and sum(" " in text for text in strings) >= _DIFFERENT * len(strings)


def _word(name: Sequence[str] | str) -> str:
    return shell_word(name if isinstance(name, str) else ",".join(name))


def _shown(names: Sequence[Any]) -> str:
    return ", ".join(repr(name) for name in names)
