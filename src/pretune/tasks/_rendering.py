"""Conversations and plain texts as the network reads them: in the words of a chat template, or cut into blocks."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pretune.errors import DataError
from pretune.modalities.text import Text
from pretune.modalities.transforms import tokenizing
from pretune.sources.conversation import Conversation, Turn, prompt_of
from pretune.sources.table import Table
from pretune.types import LedgerEntry, Row, Split, Structured

PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ message['content'] }}{{ eos_token }}{% else %}{{ message['content'] }}{% endif %}"
    "{% if not loop.last or (add_generation_prompt and message['role'] != 'assistant') %}{{ '\\n\\n' }}{% endif %}"
    "{% endfor %}"
)
"""What is used where the weights bring no template: turns with an empty line between them, and the end of a text after an answer."""
_BEGINS = ("<|begin_of_text|>", "<s>", "<bos>", "[BOS]")
_MARK = "\ue000{}\ue001"
"""Stands for the content of a turn while the template's own words are found; private characters that no text has."""
_LEAST = 64
"""Tokens of a plain text below which it is too short for one block and a held-out one."""
_BLOCKS = 8
"""Blocks that a plain text is cut into at least, shorter ones where it is short."""
Cut = Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer(Structured):
    """What is to be predicted of a text in segments."""

    scored: tuple[int, ...]
    """Numbers of the segments that are predicted."""
    prompt: str = ""
    answer: str | None = None
    """The last answer; None of plain text, and where there is none."""
    others: tuple[str, ...] = ()
    """Other answers that are as good."""

    @property
    def references(self) -> tuple[str, ...]:
        """All answers that a prediction may be compared with."""
        return () if self.answer is None else (self.answer, *self.others)


@dataclass(frozen=True, kw_only=True)
class Renderer:
    """Turns rows into texts in segments that fit a window."""

    text: Text
    keeps: str = "end"
    """Which end of a prompt that is too long is kept: 'start' or 'end'."""

    @functools.cached_property
    def template(self) -> Any:
        """The compiled template.

        Raises:
            DataError: it cannot be compiled.
        """
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
        functions: dict[str, Any] = environment.globals
        functions["raise_exception"] = _raise
        try:
            return environment.from_string(self.text.chat_template)
        except TemplateError as error:
            raise DataError(f"the chat template of these weights cannot be used: {error}.") from None

    def segments(self, turns: Sequence[Turn], *, answered: bool) -> tuple[tuple[str, ...], list[int]]:
        """Return a conversation in the template's words, and the segment that each turn is.

        Args:
            turns: what was said.
            answered: whether the last turn is an answer; False adds what comes before one.

        Raises:
            DataError: the template refuses the conversation, or changes what was said.
        """
        messages = [turn.content for turn in turns]
        marked = self._rendered([replace(turn, content=_MARK.format(place)) for place, turn in enumerate(turns)], answered)
        pieces, owners, rest = [], [], marked
        for place, content in enumerate(messages):
            before, mark, after = rest.partition(_MARK.format(place))
            if not mark:
                raise DataError(f"the chat template of these weights leaves out what the {turns[place].role} says.")
            pieces += [before, content]
            owners.append(len(pieces) - 1)
            rest = after
        whole = (*pieces, rest)
        exact = self._rendered(turns, answered)
        return (whole, owners) if "".join(whole) == exact else _found(exact, turns)

    def _rendered(self, turns: Sequence[Turn], answered: bool) -> str:
        special = tokenizing.special_word
        try:
            return self.template.render(
                messages=[{"role": turn.role, "content": turn.content} for turn in turns],
                add_generation_prompt=not answered,
                eos_token=special(self.text.tokenizer, *tokenizing.ENDS),
                bos_token=special(self.text.tokenizer, *_BEGINS),
            )
        except TemplateError as error:
            raise DataError(f"the chat template of these weights refuses a conversation: {error}.") from None

    # --- one row ---------------------------------------------------------------------------------

    def conversation(self, row: Row, *, answered: bool) -> tuple[Row | tuple[str, str], bool]:
        """Return a row as the network reads it, or why it cannot be, and whether its prompt was cut."""
        messages = row.target if isinstance(row.target, Conversation) else Conversation(turns=(Turn("user", "\n\n".join(row.text or ())),))
        turns = messages.turns if answered or not messages.answered else messages.turns[:-1]
        segments, owners = self.segments(turns, answered=answered)
        fitted = self.fitted(segments, [owners[place] for place, turn in enumerate(turns) if turn.role != "assistant"])
        if fitted is None:
            return ("too_long", f"is longer than the window of {self.text.max_tokens} tokens without its prompt; set max_tokens="), False
        scored = tuple(owners[place] for place, turn in enumerate(turns) if turn.role == "assistant" and turn.learned)
        asked = turns[:-1] if answered else turns
        answer = turns[-1].content if answered else None
        target = Answer(scored=scored, prompt=prompt_of(asked), answer=answer, others=messages.others if answered else ())
        return replace(row, text=fitted, target=target), fitted != segments

    def fitted(self, segments: tuple[str, ...], prompts: Sequence[int]) -> tuple[str, ...] | None:
        """Return the segments, the longest prompt cut where they exceed the window; None where that is not enough."""
        ids, owners = self.text.segments(segments)
        room = self.text.max_tokens
        if len(ids) <= room:
            return segments
        longest = max(prompts, key=lambda place: int((owners == place).sum()), default=None)
        if longest is None:
            return None
        for slack in (0, 4, 16):  # what was cut may fall into other tokens
            keep = int((owners == longest).sum()) - (len(ids) - room) - slack
            if keep < 1:
                return None
            spans = tokenizing.offsets(self.text.tokenizer, segments[longest])
            content = segments[longest]
            content = (
                content[: spans[min(keep, len(spans)) - 1, 1]] if self.keeps == "start" else content[spans[-min(keep, len(spans)), 0] :]
            )
            cut = (*segments[:longest], content, *segments[longest + 1 :])
            if len(self.text.segments(cut)[0]) <= room:
                return cut
        return None

    # --- plain text --------------------------------------------------------------------------------

    def blocks(self, row: Row, held_out: float | None, least: int = _BLOCKS) -> list[Row]:
        """Return the blocks of a plain text, each with the last token of the one before it, which is read and not predicted.

        Args:
            row: the text.
            held_out: share of its end that is held out as val; None where its split is known or whole texts are split.
            least: blocks that it is cut into at least.
        """
        text = (row.text or ("",))[0]
        spans = tokenizing.offsets(self.text.tokenizer, text)
        window = min(self.text.max_tokens - 2, max(_LEAST // 2, len(spans) // least))
        border = len(spans) if held_out is None else int(len(spans) * (1 - held_out))
        out = []
        for split, first, last in ((row.split if held_out is None else "train", 0, border), ("val", border, len(spans))):
            for start in range(first, last, window):
                stop = min(start + window, last)
                out.append(self._block(row, text, spans, (start, stop), split, len(out) + 1))
        return [block for block in out if block is not None]

    def _block(self, row: Row, text: str, spans: np.ndarray, place: tuple[int, int], split: Any, number: int) -> Row | None:
        start, stop = (_between_characters(spans, at) for at in place)
        if start >= stop:
            return None
        begin, end = (int(spans[at, 0]) if at < len(spans) else len(text) for at in (start, stop))
        begin = 0 if start == 0 else begin
        before = _between_characters(spans, start - 1) if start else 0
        separator = tokenizing.special_word(self.text.tokenizer, *tokenizing.ENDS)
        segments = (separator, text[begin:end], "") if start == 0 else ("", text[int(spans[before, 0]) : begin], "", text[begin:end], "")
        kept: Split | None = split
        target = Answer(scored=(1,) if start == 0 else (3,))
        return replace(row, id=f"{row.id}:{number}", text=segments, target=target, split=kept, group=None if kept else row.id)


def render(table: Table, text: Text, *, held_out: float, answered: bool, keeps: str = "end") -> Text:
    """Put the rows of a table into the words that the network reads, and return the preprocessing with what that took.

    Rows that do not fit go to the ledger; what was cut is counted.

    Raises:
        DataError: a text is too short for blocks, or the chat template does not go with the conversations.
    """
    text, messages = _with_template(text, table)
    table.messages += messages
    renderer = Renderer(text=text, keeps=keeps)
    rows, cut = [], 0
    plain = [row for row in table.rows if isinstance(row.target, Conversation) and not row.target.turns]
    parted = any(row.split for row in plain)
    few = not parted and len(plain) * held_out < 1
    for row in table.rows:
        if isinstance(row.target, Conversation) and not row.target.turns:
            rows += renderer.blocks(row, held_out if few else None, max(1, _BLOCKS // len(plain)))
            continue
        found, was_cut = renderer.conversation(row, answered=answered)
        cut += was_cut
        if isinstance(found, Row):
            rows.append(found)
        else:
            table.ledger.append(LedgerEntry(item=row.id, action="dropped", reason=found[0], detail=f"{row.id} {found[1]}"))
    if plain:
        _require_length(table, text, rows)
        table.messages.append(_messages_of_blocks(rows, few, text))
    if cut:
        side = "end" if keeps == "start" else "beginning"
        table.messages.append(
            f"{cut:,} of {len(table.rows):,} examples are longer than the window of {text.max_tokens} tokens: the {side} of their prompt "
            "was cut. Set max_tokens= for a longer window."
        )
    if table.rows and not rows:
        raise DataError(
            f"{table.root}: none of the {len(table.rows)} examples fits the window of {text.max_tokens} tokens. Set max_tokens=."
        )
    table.rows = rows
    return text


def _with_template(text: Text, table: Table) -> tuple[Text, list[str]]:
    """Return the preprocessing with a tokenizer and, where conversations are read, a template; and what is said of it."""
    messages = []
    talks = any(not isinstance(row.target, Conversation) or row.target.turns for row in table.rows)
    if talks and not text.chat_template:
        text = replace(text, chat_template=PLAIN_TEMPLATE)
        messages.append("the weights bring no chat template: prompt and answer stand with an empty line between them.")
    if not text.tokenizer:
        learned = [row for row in table.rows if row.split in (None, "train")]
        words = ["\n\n".join(_contents(row)) for row in learned]
        text = replace(text, verbatim=True).learned_from(words)
        messages.append(f"tokenizer trained on the training split: {text.size:,} {text.units}s.")
    return text, messages


def _contents(row: Row) -> list[str]:
    """Return what is said in a row: its turns, or its text."""
    turns = row.target.turns if isinstance(row.target, Conversation) else ()
    return [turn.content for turn in turns] or list(row.text or ())


def _require_length(table: Table, text: Text, rows: list[Row]) -> None:
    tokens = sum(len(text.segments(row.text or ())[0]) for row in rows[: 2 * _BLOCKS])
    if tokens < _LEAST:
        characters = sum(len(row.text[0]) for row in table.rows if row.text)
        raise DataError(
            f"{table.root}: the text is too short for one block: {characters:,} characters are {tokens} tokens, and {_LEAST} are needed at "
            f"least (about {_LEAST * max(1, characters) // max(1, tokens):,} characters). Give more text."
        )


def _messages_of_blocks(rows: list[Row], few: bool, text: Text) -> str:
    held_out = sum(row.split == "val" for row in rows)
    how = f"; the last {held_out:,} of them are held out (val=)" if few else ""
    return f"the text is cut into {len(rows):,} blocks of up to {text.max_tokens} tokens{how}."


def _between_characters(spans: np.ndarray, at: int) -> int:
    """Return the nearest token at or before `at` that begins a character: a tokenizer of bytes may cut one into several tokens."""
    while 0 < at < len(spans) and spans[at, 0] < spans[at - 1, 1]:
        at -= 1
    return at


def _found(exact: str, turns: Sequence[Turn]) -> tuple[tuple[str, ...], list[int]]:
    """Return the segments of a text that a template has changed at the edges of turns, by looking for what was said."""
    pieces, owners, at = [], [], 0
    for turn in turns:
        content = turn.content.strip()
        place = exact.find(content, at)
        if place < 0 or not content:
            raise DataError(f"the chat template of these weights changes what the {turn.role} says: {content[:60]!r}.")
        pieces += [exact[at:place], content]
        owners.append(len(pieces) - 1)
        at = place + len(content)
    return (*pieces, exact[at:]), owners


def _raise(message: str) -> None:
    raise TemplateError(message)
