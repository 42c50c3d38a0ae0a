"""Texts that belong together: pairs of a query and its passage, triplets with a negative, texts of one class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from pretune.errors import DataError
from pretune.sources.column import as_text
from pretune.sources.readers.records import Value
from pretune.sources.target_type import ParsedLabels, TargetType
from pretune.types import Row, Structured, Target

Role = Literal["query", "passage", "negative", "text"]
"""query: searches; passage: belongs to the query of its pair; negative: does not, though it may look so; text: of a class."""


@dataclass(frozen=True, slots=True)
class Related(Structured):
    """What a text belongs to. Two texts that are equal contradict each other by their class only."""

    role: Role = field(default="text", compare=False)
    pair: str = field(default="", compare=False)
    """Id of the record that holds the text, '' of a text that has a class."""
    grade: float | None = field(default=None, compare=False)
    """How much a passage or negative belongs to its query, where the data grade pairs."""
    label: str = ""
    """Its class, '' in a pair."""

    def __str__(self) -> str:
        return self.label or self.pair


@dataclass(frozen=True, kw_only=True)
class RelatedTexts(TargetType):
    """Which texts belong together: those of a record, or those of a class."""

    def parse(self, values: list[Value], column: str) -> ParsedLabels:
        """Return the class of each text; texts of one class belong together."""
        labels = [as_text(value).strip() for value in values]
        targets: list[Target] = [Related(label=label) if label else None for label in labels]
        out = ParsedLabels(type=self, values=targets)
        for at, label in enumerate(labels):
            if not label:
                out.drop(at, "blank_label", f"has no class in {column!r}")
        if len({label for label in labels if label}) < 2:
            raise DataError(f"{column!r} has only one class: texts that belong together need others that do not.")
        out.messages.append(f"texts with an equal {column!r} belong together.")
        return out

    def strata(self, rows: Sequence[Row]) -> list[tuple[str, ...]]:
        """Return the class of each text; pairs have none."""
        return [(row.target.label if isinstance(row.target, Related) else "",) for row in rows]


RELATED = RelatedTexts(task="retrieval")
