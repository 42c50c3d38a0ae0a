"""What summaries are compared with: the first sentences of a document, and a learned extraction that can be a run's model itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from pretune.evaluation import extraction, overlap
from pretune.evaluation.extraction import Extractor, Pairs
from pretune.evaluation.sums import Sums, ratio
from pretune.modalities import Modality
from pretune.sources.conversation import Conversation, prompt_of
from pretune.tasks._own_baseline import OwnBaseline
from pretune.tasks._rendering import Answer
from pretune.types import Finding, Row

_SHOWN = 5
"""Examples that a finding names."""


def document_of(row: Row) -> str:
    """Return the document of a row, rendered or not, whole."""
    target = row.target
    if isinstance(target, Answer):
        return target.prompt
    if isinstance(target, Conversation) and target.turns:
        return prompt_of(target.turns[:-1] if target.answered else target.turns)
    return "\n\n".join(row.text or ())


def references_of(row: Row) -> tuple[str, ...]:
    """Return the summaries that people wrote for a rendered row."""
    return row.target.references if isinstance(row.target, Answer) else ()


def pairs_of(rows: Sequence[Row]) -> Pairs:
    """Return the documents of rows with their summaries."""
    return Pairs(texts=[document_of(row) for row in rows], references=[references_of(row) for row in rows])


@dataclass(frozen=True, kw_only=True)
class SummaryExtraction(OwnBaseline):
    """A linear model that chooses sentences of the document."""

    name: ClassVar[str] = "extraction"
    extractor: Extractor

    @property
    def what(self) -> str:
        """What it is, for people."""
        return self.extractor.what

    @classmethod
    def fit(cls, rows: Sequence[Row], space: Any, modality: Modality, seed: int) -> Self | None:
        """Return the extraction that is learned of training examples; None where there are too few, or documents have one sentence."""
        found = extraction.fit(pairs_of(rows), modality, seed)
        return None if found is None else cls(extractor=found)

    def predict(self, rows: Sequence[Row]) -> list[str]:
        """Return the summary of each example."""
        return self.extractor.summaries([document_of(row) for row in rows])

    def settings(self) -> dict[str, Any]:
        """Return what `arrays` does not hold."""
        return self.extractor.settings()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return its numbers, by name."""
        return self.extractor.arrays()

    @classmethod
    def read(cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], space: Any, modality: Modality) -> Self:
        """Return the extraction that was saved; errors as of `Extractor.read`."""
        return cls(extractor=Extractor.read(settings, arrays, modality))


def rouge_sums(rows: Sequence[Row], written: Sequence[str]) -> list[Sums]:
    """Return the ROUGE of each text, by which intervals resample examples."""
    scores = overlap.rouge(written, [references_of(row) for row in rows])
    sums = np.concatenate([np.ones((len(scores), 1)), scores], 1)
    return [Sums(sums=sums, statistics={name: ratio(at, 0) for at, name in enumerate(overlap.ROUGES, 1)})]


def findings_of(rows: Sequence[Row]) -> list[Finding]:
    """Return which held-out documents are trained on."""
    out = []
    key = {row.id: " ".join(document_of(row).casefold().split()) for row in rows}
    learned = {key[row.id]: row.id for row in rows if row.split == "train"}
    for split in ("test", "val"):
        known = [row.id for row in rows if row.split == split and key[row.id] in learned]
        if known:
            shown = ", ".join(f"{item} (as {learned[key[item]]})" for item in known[:_SHOWN]) + (" …" if len(known) > _SHOWN else "")
            count = sum(row.split == split for row in rows)
            message = f"{len(known):,} of {count:,} {split} documents are in train too, so that figures on them are too good: {shown}."
            out.append(Finding(kind="leak", severity="warning", message=message, items=tuple(known[:300])))
    return out
