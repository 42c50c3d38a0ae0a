"""What is said in an audio file: transcripts as targets, and which column of a table holds them."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pretune.errors import DataError
from pretune.printable import shell_word
from pretune.sources.column import Column, as_text
from pretune.sources.readers.records import Records, Value
from pretune.sources.roles import Roles
from pretune.sources.table import Columns
from pretune.sources.target_type import ParsedLabels, TargetType
from pretune.sources.vocabulary import GROUPLIKE, plain
from pretune.types import Structured, Target

NAMES = frozenset(
    (
        *("transcript", "transcripts", "transcription", "transcriptions", "text", "texts", "sentence", "sentences"),
        *("utterance", "normalized_text", "normalized_transcription", "raw_transcription", "raw_text"),
    )
)
"""Names of columns that mean a transcript where files are audio."""
_SAMPLE = 5000
_MOSTLY, _HARDLY = 0.5, 0.2
"""Share of different values above which sentences are transcripts, and up to which they are classes; between the two nobody can tell."""
_FEW = 10
"""Values below which their repetition tells nothing."""


@dataclass(frozen=True, slots=True)
class Transcript(Structured):
    """The words that are said, as the data have them."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, kw_only=True)
class Transcripts(TargetType):
    """A cell, or a file, holds what is said in an audio file."""

    digits: bool | None = None
    """Whether numbers are written in digits somewhere; None where no transcript was read."""

    def parse(self, values: list[Value], column: str) -> ParsedLabels:
        """Take each text as it is; what holds no letter and no digit is dropped."""
        digits = any(char.isdigit() for value in values for char in as_text(value))
        out = ParsedLabels(type=replace(self, digits=digits), values=[Transcript(" ".join(as_text(value).split())) for value in values])
        for index, value in enumerate(values):
            text = as_text(value)
            if not text:
                out.drop(index, "blank_transcript", "has an empty transcript")
            elif not any(map(str.isalnum, text)):
                out.drop(index, "blank_transcript", f"has the transcript {text!r}, which holds no word")
        return out

    @property
    def exclusive(self) -> bool:
        """One transcript is right: a file with two that differ is contradictory."""
        return True

    def kind_of(self, target: Target) -> str | None:
        """Return the words: where few transcripts repeat, a file's sample rate may tell which it is."""
        return plain_words(str(target))

    def likeliest(self, files: Sequence[Sequence[Target]]) -> list[Target]:
        """Return the only transcript of each file all of whose words other files have too; None where none or several are such."""
        words = [[set(plain_words(str(target)).split()) for target in targets] for targets in files]
        counts = Counter(word for each in words for word in set().union(*each))
        usual = [
            [target for target, own in zip(targets, each, strict=True) if all(counts[word] > 1 for word in own)]
            for targets, each in zip(files, words, strict=True)
        ]
        return [found[0] if len(found) == 1 else None for found in usual]

    def differ(self, first: Target, second: Target) -> bool:
        """Return whether two transcripts differ in more than case, punctuation and spaces."""
        return plain_words(str(first)) != plain_words(str(second))


TRANSCRIPTS = Transcripts(task="speech_recognition")


def plain_words(text: str) -> str:
    """Return a transcript in lower case, without punctuation, its words separated by single spaces: 'HI, Lo!  12' -> 'hi lo 12'.

    Letters, their marks and digits of every script stay (Unicode NFKC), apostrophes and hyphens inside words too.
    """
    text = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'")
    kept = "".join(char if _is_spoken(char) else " " for char in text)
    return " ".join(word for word in (word.strip("'-") for word in kept.split()) if word)


def _is_spoken(char: str) -> bool:
    return unicodedata.category(char)[0] in "LMN" or char in "'-"


# --- which column ---------------------------------------------------------------------------------


def choose(records: Records, roles: Roles, wanted: Columns, target: TargetType | None) -> TargetType | None:
    """Decide whether a table of audio files is one of transcripts, and put their column into `roles.label`.

    Args:
        records: the table.
        roles: its other columns.
        wanted: the columns that the person named.
        target: the type of target that is wanted; None decides by the columns' names and values.

    Returns:
        the type of the targets; None where the common rules read them.

    Raises:
        DataError: several columns may hold the transcripts, or one may be read as transcripts or as classes.
    """
    if "label" in roles.trained or not isinstance(target, Transcripts | None):
        return target
    if wanted.label:
        return target or (_read_as(records, _column(records, roles.label[0])) if len(roles.label) == 1 else None)
    taken = {roles.path, roles.split, roles.flag, roles.group}
    columns = [_column(records, name) for name in records.columns if name not in taken]
    found = [column for column in columns if column.plain in NAMES and column.strings]
    found = found or [column for column in columns if _is_spoken_text(column)]
    if target is None and not found:
        return _read_as(records, _column(records, roles.label[0])) if len(roles.label) == 1 else None
    if target is None and (others := _other_labels(records, roles, found)):
        shown = found[0].name
        roles.messages.append(
            f"{shown!r} of {records.name} holds transcripts: task={TRANSCRIPTS.task} learns those instead of {others[0]!r}."
        )
        return None
    if len(found) > 1:
        shown = " or ".join(f"label={shell_word(column.name)} ({column.strings[0][:30]} …)" for column in found[:3])
        raise DataError(f"{records.path}: several columns may hold the transcripts. Name the one to learn: {shown}.")
    if found:
        roles.label, roles.rivals = (found[0].name,), ()
    return TRANSCRIPTS if target is None else target


def _column(records: Records, name: str) -> Column:
    values = records.column(name)
    return Column(name, values[:: max(1, len(values) // _SAMPLE)])


def _other_labels(records: Records, roles: Roles, found: list[Column]) -> list[str]:
    """Return the columns that are the label already; those that say who speaks, or hold the transcripts themselves, are none."""
    labels = roles.label or roles.rivals
    mine = {column.name for column in found}
    return [name for name in labels if name not in mine and name in records.columns and plain(name) not in GROUPLIKE]


def _is_spoken_text(column: Column) -> bool:
    """Return whether most values are sentences, nearly all of them different."""
    return column.reads_as_text and column.distinct > _MOSTLY * len(column.strings) and not column.media


def _read_as(records: Records, column: Column) -> TargetType | None:
    """Return what the label column of audio files holds: transcripts by its name or its sentences, else classes.

    Raises:
        DataError: its sentences repeat too often for transcripts and too seldom for classes.
    """
    if column.plain in NAMES:
        return TRANSCRIPTS
    sentences = sum(bool(re.search(r"\s", text)) for text in column.strings) >= _MOSTLY * max(1, len(column.strings))
    if not sentences or len(column.strings) < _FEW:
        return None
    share = column.distinct / len(column.strings)
    if share > _MOSTLY:
        return TRANSCRIPTS
    if share <= _HARDLY:
        return None
    raise DataError(
        f"{records.path}: column {column.name!r} holds {column.distinct} different sentences in {len(column.strings)} rows, which may be "
        f"transcripts or classes. Say which: task={TRANSCRIPTS.task} or task=classification."
    )
