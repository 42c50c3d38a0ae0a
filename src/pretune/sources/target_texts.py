"""Texts as targets: what a person wrote for an example, which a model learns to write too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pretune.sources.column import as_text
from pretune.sources.readers.records import Value
from pretune.sources.target_type import ParsedLabels, TargetType
from pretune.types import Row, Structured, Target


@dataclass(frozen=True, slots=True)
class TargetText(Structured):
    """A text, and others that are as good."""

    text: str
    others: tuple[str, ...] = ()

    @property
    def references(self) -> tuple[str, ...]:
        """All texts that a prediction may be compared with."""
        return (self.text, *self.others)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, kw_only=True)
class TargetTexts(TargetType):
    """A cell, or a line of a file, holds the text to write; a list holds several that are as good."""

    def parse(self, values: list[Value], column: str) -> ParsedLabels:
        """Take each text without the white space around it; blank ones are dropped."""
        out = ParsedLabels(type=self, values=[])
        for index, value in enumerate(values):
            texts = [text for one in (value if isinstance(value, list) else [value]) if (text := as_text(one).strip())]
            out.values.append(TargetText(texts[0], tuple(texts[1:])) if texts else None)
            if not texts:
                out.drop(index, "blank_target", f"has no text in {column!r}")
        return out

    def strata(self, rows: Sequence[Row]) -> list[tuple[str, ...]]:
        """Count all rows alike when data are split."""
        return [("",)] * len(rows)

    def differ(self, first: Target, second: Target) -> bool:
        """Return False: one text can be put into other words in many ways."""
        return False
