"""A short text that says what a long one says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from pretune.errors import SettingError
from pretune.evaluation import extraction, overlap
from pretune.evaluation.sums import Sums
from pretune.modalities.text import Text
from pretune.models.heads import Head
from pretune.models.heads.decoder import Decoder
from pretune.sources.conversation import SUMMARISATION, Conversation, Summaries, Turn
from pretune.sources.table import Table
from pretune.sources.target_type import TargetType
from pretune.tasks import _summaries
from pretune.tasks._base import Examples, Figures, Space
from pretune.tasks._either_network import EitherNetwork
from pretune.tasks._faults import faults_of
from pretune.tasks._language_task import LanguageTask
from pretune.tasks._marked import Line, Passage
from pretune.tasks._own_baseline import OwnBaseline
from pretune.tasks._rendering import PLAIN_TEMPLATE, Answer, render
from pretune.tasks._seq2seq import SequenceToSequence
from pretune.tasks._summaries import SummaryExtraction, document_of, references_of
from pretune.types import Finding, Row

if TYPE_CHECKING:
    from pretune.backbones import Backbone

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
class SummarySpace(Space):
    """What a run that summarises knows besides its weights: nothing."""

    def __str__(self) -> str:
        return "a summary of each document"


@dataclass(frozen=True, kw_only=True)
class SummaryByLanguageModel(LanguageTask):
    """Summaries that a language model writes after documents."""

    reads: ClassVar[TargetType] = SUMMARISATION
    keeps: ClassVar[str] = "start"

    def head(self, asked: Head | None) -> Head:
        """Return the head that is the network's own table of word pieces.

        Raises:
            SettingError: another head is named.
        """
        if isinstance(asked, Decoder):
            raise SettingError(
                "head=decoder would not be used: this network is a language model, which has no encoder. Leave it out; or add "
                "task=summarisation task.network=encoder_decoder for an encoder and a decoder of our own."
            )
        return super().head(asked)


@dataclass(frozen=True, kw_only=True)
class SummaryByDecoder(SequenceToSequence):
    """Summaries that a decoder writes beside an encoder, which reads the document."""

    reads: ClassVar[TargetType] = SUMMARISATION
    backbone: ClassVar[str | None] = "scratch:transformer,units=piece,vocabulary=8000,width=256,layers=3,heads=4,dropout=0.1,max_tokens=512"
    batch: ClassVar[int | None] = 16
    writes_together: ClassVar[int] = 16

    def references(self, row: Row) -> tuple[str, ...]:
        """Return the summaries that people wrote."""
        return references_of(row)


@dataclass(frozen=True, kw_only=True)
class Summarisation(EitherNetwork):
    """Summaries, written by a network or extracted: the run's model is what is better on examples that choose."""

    primary: ClassVar[str] = "rouge1"
    reads: ClassVar[TargetType] = SUMMARISATION
    space: ClassVar[type[Space]] = SummarySpace
    selects: ClassVar[bool] = True
    writes: ClassVar[int] = 1000
    own_baseline: ClassVar[type[OwnBaseline] | None] = SummaryExtraction
    by_language_model: ClassVar[type[LanguageTask]] = SummaryByLanguageModel
    by_decoder: ClassVar[type[SequenceToSequence]] = SummaryByDecoder

    instruction: str | None = None
    """What stands before each document; auto asks for a summary where a language model brings a chat template, and is the prefix that an
    encoder-decoder was trained with where its config says so ("summarize: "); else nothing does."""

    def on(self, backbone: Backbone) -> Self:
        """Return the task as this network learns it: with the prefix that it was pretrained to read; errors as of `EitherNetwork.on`."""
        task = super().on(backbone)
        return replace(task, instruction=_prefix(backbone)) if task.has_decoder and task.instruction is None else task

    def suited(self, target: TargetType) -> Self:
        """Return the task with the length of the training summaries."""
        longest = target.longest if isinstance(target, Summaries) else None
        return self if self.max_new_tokens is not None or longest is None else replace(self, max_new_tokens=longest)

    # --- targets -----------------------------------------------------------------------------

    def fit(self, rows: Sequence[Row], classes: tuple[str, ...]) -> SummarySpace:
        """Return the space, which no example changes."""
        return SummarySpace()

    def render(self, table: Table, modality: Any, *, held_out: float = 0.0, answered: bool = True) -> Text:
        """Put documents and summaries into the form that the network reads; of documents that are too long the beginning is kept."""
        overlap.require_rouge()
        if self.has_decoder:
            text = self._with_prefix(table, modality, held_out, answered)
        else:
            chats = modality.chat_template not in ("", PLAIN_TEMPLATE)  # a run's own template is the plain one: it was given no instruction
            instruction = self.instruction if self.instruction is not None else INSTRUCTION if chats else ""
            table.rows = [_asked(row, instruction) for row in table.rows]
            text = render(table, modality, held_out=held_out, answered=answered, keeps=SummaryByLanguageModel.keeps)
        if answered and isinstance(table.target_type, Summaries):
            learned = [row for row in table.rows if row.split in (None, "train")][:_MEASURED]
            lengths = [len(text.ids(one)) for row in learned for one in references_of(row)[:1]]
            longest = int(_MORE * np.quantile(lengths, 0.99)) + _LEAST if lengths else None
            table.target_type = replace(table.target_type, longest=longest)
        return text

    def _with_prefix(self, table: Table, modality: Any, held_out: float, answered: bool) -> Text:
        """Put what stands before each document there, and make a tokenizer where the weights bring none."""
        prefix = self.instruction or ""
        prefix += "" if not prefix or prefix[-1].isspace() else " "
        table.rows = [_prefixed(row, prefix) for row in table.rows]
        if prefix:
            table.messages.append(f"{prefix!r} stands before each document; task.instruction= changes that.")
        return self.writer.render(table, modality, held_out=held_out, answered=answered)

    def findings(self, rows: Sequence[Row], space: Space) -> list[Finding]:
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
        found = {
            "repeat the same words: the model loops. Train longer (epochs=, time=)": map(overlap.loops, written),
            "are empty: the model ends them at once. Train longer, or check the summaries": (not text for text in written),
        }
        out = [*faults_of(found, len(written)), *([absent] if (absent := overlap.absent()) else [])]
        copied = sum(_is_copied(text, row) for text, row in zip(written, rows, strict=True))
        if written and copied > _COPIES * len(written):
            out.append(
                f"{copied} of {len(written)} summaries are sentences of their documents word for word: the network extracts, it does not "
                "rewrite. Train longer (epochs=, time=), or take the extraction (predictor=baseline), which is faster."
            )
        return out

    # --- evaluation --------------------------------------------------------------------------

    def floors(self, train: Examples, held_out: Examples, space: Space, model: Any) -> dict[str, Figures]:
        """Return the lead: the first sentences, as many as are best on training examples."""
        if not all(references_of(row) for row in held_out.rows):
            return {}
        lead = extraction.lead(_summaries.pairs_of(train.rows))
        written = lead.summaries([document_of(row) for row in held_out.rows])
        return {"lead": {"what": lead.what, **self.text_metrics(held_out.rows, written, train.rows)}}

    # --- what people read --------------------------------------------------------------------

    def describe(self, decoded: list[NDArray[Any]], space: Space, rows: Sequence[Row] = (), modality: Any = None) -> list[dict[str, Any]]:
        """Return the beginning of each document, and the loss of its reference."""
        found = super().describe(decoded, space, rows, modality)
        return [
            {"prediction": "", "document": document_of(row)[:_LONG], self.monitored: one[self.monitored]}
            for row, one in zip(rows, found, strict=True)
        ]

    def shown(self, target: Any) -> str:
        """Return the summary that a row has."""
        return (target.answer or "") if isinstance(target, Answer) else ""

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


def _prefixed(row: Row, prefix: str) -> Row:
    """Return a row whose text is what an encoder reads: the document after what stands before it."""
    document, asked = document_of(row), row.target if isinstance(row.target, Conversation) else Conversation()
    answer = asked.turns[-1].content if asked.answered else None
    return replace(row, text=(prefix + document,), target=Answer(scored=(), prompt=document, answer=answer, others=asked.others))


def _prefix(backbone: Backbone) -> str:
    """Return what a pretrained network was trained to read before a document, as its config says (T5: "summarize: "); else ''."""
    found: Any = backbone.builder.settings
    for key in ("config", "task_specific_params", "summarization", "prefix"):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, str) else ""


def _is_copied(text: str, row: Row) -> bool:
    return bool(text.strip()) and text.strip() in document_of(row)
