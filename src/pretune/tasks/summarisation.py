"""A short text that says what a long one says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pretune.config import Within
from pretune.evaluation import extraction, overlap
from pretune.evaluation.sums import Sums
from pretune.modalities.text import Text
from pretune.sources.conversation import SUMMARISATION, Conversation, Summaries, Turn
from pretune.sources.table import Table
from pretune.sources.target_type import TargetType
from pretune.tasks import _summaries
from pretune.tasks._base import Examples, Figures, Space, Task
from pretune.tasks._language_task import LanguageTask, Written
from pretune.tasks._marked import Line, Passage
from pretune.tasks._own_baseline import OwnBaseline
from pretune.tasks._rendering import PLAIN_TEMPLATE, render
from pretune.tasks._summaries import SummaryExtraction, document_of, references_of
from pretune.types import Finding, Row

INSTRUCTION = "Write a short summary of the text."
_LONG = 1_200
"""Characters of a document that the report shows."""
_MEASURED = 2_000
"""Summaries at most whose length is measured."""
_MORE, _LEAST = 1.25, 8
"""Times the length of long summaries, and more tokens, that are written at most."""
_COPIES = 0.9
"""Share of texts that are sentences of their documents, word for word, from which that is reported."""


@dataclass(frozen=True, kw_only=True)
class SummarySpace(Written):
    """What a run that summarises knows besides its weights: nothing."""

    def __str__(self) -> str:
        return "a summary of each document"


@dataclass(frozen=True, kw_only=True)
class Summarisation(LanguageTask):
    """Summaries, written by a language model or extracted: the run's model is what is better on examples that choose."""

    primary: ClassVar[str] = "rouge1"
    reads: ClassVar[TargetType] = SUMMARISATION
    space: ClassVar[type[Space]] = SummarySpace
    selects: ClassVar[bool] = True
    measures_start: ClassVar[bool] = False
    keeps: ClassVar[str] = "start"
    own_baseline: ClassVar[type[OwnBaseline] | None] = SummaryExtraction

    max_new_tokens: Annotated[int | None, Within(1)] = None
    """Tokens of a summary at most; auto takes the length of the longest summaries in training."""
    instruction: str | None = None
    """What stands before each document; auto asks for a summary where the weights bring a chat template, else nothing does."""

    @property
    def monitored(self) -> str:
        """Nats per character of the references: summaries are written after training only."""
        return "character_loss"

    def suited(self, target: TargetType) -> Task:
        """Return the task with the length of the training summaries."""
        longest = target.longest if isinstance(target, Summaries) else None
        return self if self.max_new_tokens is not None or longest is None else replace(self, max_new_tokens=longest)

    # --- targets -----------------------------------------------------------------------------

    def fit(self, rows: Sequence[Row], classes: tuple[str, ...]) -> SummarySpace:
        """Return the space, which no example changes."""
        return SummarySpace()

    def render(self, table: Table, modality: Any, *, held_out: float = 0.0, answered: bool = True) -> Text:
        """Put documents and summaries into the words of a chat template; of documents that are too long the beginning is kept."""
        overlap.require_rouge()
        chats = modality.chat_template not in ("", PLAIN_TEMPLATE)  # a run's own template is the plain one: it was given no instruction
        instruction = self.instruction if self.instruction is not None else INSTRUCTION if chats else ""
        table.rows = [_asked(row, instruction) for row in table.rows]
        text = render(table, modality, held_out=held_out, answered=answered, keeps=self.keeps)
        if answered and isinstance(table.target_type, Summaries):
            learned = [row for row in table.rows if row.split in (None, "train")][:_MEASURED]
            lengths = [len(text.ids(one)) for row in learned for one in references_of(row)[:1]]
            longest = int(_MORE * np.quantile(lengths, 0.99)) + _LEAST if lengths else None
            table.target_type = replace(table.target_type, longest=longest)
        return text

    def findings(self, rows: Sequence[Row], space: Written) -> list[Finding]:
        """Return which held-out documents are trained on."""
        return _summaries.findings_of(rows)

    # --- writing -----------------------------------------------------------------------------

    def samples(self, rows: Sequence[Row]) -> int:
        """Return all examples."""
        return len(rows)

    def text_metrics(self, rows: Sequence[Row], written: Sequence[str], train: Sequence[Row]) -> Figures:
        """Return ROUGE-1, 2 and L (F-measures, 0 to 1), chrF, and how long summaries are beside the references."""
        if not rows:
            return {}
        references = [references_of(row) for row in rows]
        figures = overlap.figures(list(written), references)
        tokenize = overlap.Words().tokenize
        lengths = [len(tokenize(text)) for text in written], [len(tokenize(own[0])) for own in references]
        figures["length_ratio"] = float(np.sum(lengths[0]) / max(1, np.sum(lengths[1])))
        figures["copied"] = float(np.mean([_is_copied(text, row) for text, row in zip(written, rows, strict=True)]))
        return {name: value for name, value in figures.items() if name != "exact_match"}

    def text_sums(self, rows: Sequence[Row], written: Sequence[str]) -> list[Sums]:
        """Return the ROUGE of each text: examples are resampled."""
        return _summaries.rouge_sums(rows, written)

    def text_scores(self, rows: Sequence[Row], written: Sequence[str]) -> NDArray[np.float64]:
        """Return ROUGE-1 of each text."""
        return overlap.rouge(written, [references_of(row) for row in rows])[:, 0]

    def faults(self, rows: Sequence[Row], written: Sequence[str]) -> list[str]:
        """Report where a good part of the summaries loop or are empty, or nearly all are sentences of their documents."""
        out = super().faults(rows, written)
        out = [one for one in out if "copied out of the prompt" not in one]
        copied = sum(_is_copied(text, row) for text, row in zip(written, rows, strict=True))
        if written and copied > _COPIES * len(written):
            out.append(
                f"{copied} of {len(written)} summaries are sentences of their documents word for word: the network extracts, it does not "
                "rewrite. Train longer (epochs=, time=), or take the extraction (predictor=baseline), which is faster."
            )
        return out

    # --- evaluation --------------------------------------------------------------------------

    def floors(self, train: Examples, held_out: Examples, space: Written, model: Any) -> dict[str, Figures]:
        """Return the lead: the first sentences, as many as are best on training examples."""
        if not all(references_of(row) for row in held_out.rows):
            return {}
        lead = extraction.lead(_summaries.pairs_of(train.rows))
        written = lead.summaries([document_of(row) for row in held_out.rows])
        return {"lead": {"what": lead.what, **self.text_metrics(held_out.rows, written, train.rows)}}

    # --- what people read --------------------------------------------------------------------

    def describe(self, decoded: list[NDArray[Any]], space: Written, rows: Sequence[Row] = (), modality: Any = None) -> list[dict[str, Any]]:
        """Return the beginning of each document, and the nats of its summary."""
        found = super().describe(decoded, space, rows, modality)
        return [
            {"prediction": "", "document": document_of(row)[:_LONG], "character_loss": one["character_loss"]}
            for row, one in zip(rows, found, strict=True)
        ]

    def answer(self, row: Row, text: str) -> dict[str, Any]:
        """Return a document's beginning and its summary, with its ROUGE-1 where there is a reference."""
        out: dict[str, Any] = {"document": document_of(row)[:_LONG], "prediction": text}
        if references_of(row):
            out["rouge1"] = round(float(self.text_scores([row], [text])[0]), 4)
        return out

    def compare(self, row: Mapping[str, str], text: str) -> Sequence[Line]:
        """Return document, reference and summary, a line each; words of the summary that the reference has too are marked."""
        if not row["prediction"]:
            return ()
        document = row.get("document", "")
        document += " …" if len(document) == _LONG else ""
        lines = [Line(name="document", passages=(Passage(text=document),))] if document else []
        lines.append(Line(name="reference", passages=(Passage(text=row["target"]),)))
        known = set(overlap.Words().tokenize(row["target"]))
        passages = tuple(Passage(text=piece, mark="right" if shared else "") for piece, shared in overlap.marked(row["prediction"], known))
        return [*lines, Line(name="summary", passages=passages)]

    def badness(self, row: Mapping[str, str]) -> float:
        """Return how far ROUGE-1 is from 1."""
        found = row.get("rouge1") or overlap.rouge([row["prediction"]], [[row["target"]]])[0, 0]
        return max(0.0, 1.0 - float(found))


def _asked(row: Row, instruction: str) -> Row:
    """Return a row whose conversation begins with the instruction."""
    turns = row.target.turns if isinstance(row.target, Conversation) else (Turn("user", "\n\n".join(row.text or ())),)
    others = row.target.others if isinstance(row.target, Conversation) else ()
    if not instruction:
        return replace(row, target=Conversation(turns=turns, others=others))
    return replace(row, target=Conversation(turns=(Turn("system", instruction), *turns), others=others))


def _is_copied(text: str, row: Row) -> bool:
    return bool(text.strip()) and text.strip() in document_of(row)
