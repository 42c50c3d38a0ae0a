"""The words that are said in an audio file: speech recognition by CTC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pretune.backbones import Backbone
from pretune.errors import DataError
from pretune.evaluation import transcripts
from pretune.evaluation.sums import Sums
from pretune.labels import Labels, Outputs, Ragged
from pretune.modalities import Modality
from pretune.models import Model, SupervisedLearner
from pretune.models.heads import Head
from pretune.models.heads.convolution import Convolution
from pretune.models.learner import Loss
from pretune.sources.target_type import TargetType
from pretune.sources.transcripts import TRANSCRIPTS, Transcript, plain_words
from pretune.tasks._base import Examples, Figures, LossSettings, Space, Task
from pretune.tasks._ctc import CTCLearner, CTCLoss, greedy, needed
from pretune.tasks._marked import Line, Mark, Passage
from pretune.tasks._spoken import SpeechSpace, Spoken, Units, spoken, suited, symbols_of
from pretune.tasks._spoken_findings import spoken_findings
from pretune.types import Finding, Layout, Row


@dataclass(frozen=True, kw_only=True)
class SpeechRecognition(Task):
    """Speech recognition: CTC over words or characters, on the sequence of a network."""

    primary: ClassVar[str] = "wer"
    reads: ClassVar[TargetType] = TRANSCRIPTS
    space: ClassVar[type[Space]] = SpeechSpace
    layout: ClassVar[Layout] = "sequence"
    modalities: ClassVar[frozenset[str]] = frozenset({"audio"})
    unread: ClassVar[tuple[str, ...]] = ("label_smoothing", "class_weights")
    whole: ClassVar[bool] = True
    units: Units | None = None
    """What is recognised one after the other: words or characters; auto takes words where there are few and each occurs often."""
    text: Literal["plain", "written"] = "plain"
    """plain: transcripts in lower case, without punctuation; written: as the data have them."""

    # --- targets -----------------------------------------------------------------------------

    def normalised(self, text: str) -> str:
        """Return a transcript as it is learned and scored."""
        return plain_words(text) if self.text == "plain" else " ".join(text.split())

    def fit(self, rows: Sequence[Row], classes: tuple[str, ...]) -> SpeechSpace:
        """Return the words or characters of the training transcripts."""
        texts = [self._reference(row) for row in rows]
        units = self.units or suited(texts)
        symbols = symbols_of(texts, units)
        if not symbols:
            raise DataError("the training transcripts hold no words.")
        return SpeechSpace(units=units, symbols=symbols)

    def _reference(self, row: Row) -> str:
        assert isinstance(row.target, Transcript)
        return self.normalised(row.target.text)

    def encode(self, rows: Sequence[Row], space: SpeechSpace, modality: Modality) -> Labels:
        """Return the units (U_i,) of each transcript, `target`, and the transcript itself as code points, `text`."""
        texts = [self._reference(row) for row in rows]
        units = [torch.from_numpy(space.encode(text)) for text in texts]
        points = [torch.tensor([*map(ord, text)], dtype=torch.int64) for text in texts]
        return Labels({"target": Ragged.of(units), "text": Ragged.of(points)})

    def findings(self, rows: Sequence[Row], space: SpeechSpace) -> list[Finding]:
        """Return how transcripts were normalised, and which held-out ones hold what training does not, or are known from it."""
        return spoken_findings(rows, space, {row.id: self._reference(row) for row in rows})

    def truth(self, labels: Labels, space: SpeechSpace) -> list[str]:
        """Return the transcripts."""
        return ["".join(map(chr, points.tolist())) for points in _split(labels["text"])]

    def needed(self, labels: Labels, space: SpeechSpace) -> NDArray[np.int64]:
        """Return how many outputs each clip needs for its transcript, (N,)."""
        return np.array([needed(units.numpy()) for units in _split(labels["target"])], dtype=np.int64)

    def timed(self, space: SpeechSpace, rate: float) -> SpeechSpace:
        """Return the space with the outputs that there are a second."""
        return replace(space, rate=rate)

    # --- the network -------------------------------------------------------------------------

    def outputs(self, space: SpeechSpace) -> int:
        """The blank, and one output for each symbol."""
        return 1 + len(space.symbols)

    def loss(self, space: SpeechSpace, labels: Labels, settings: LossSettings) -> Loss:
        """CTC, per unit."""
        return CTCLoss()

    def head(self, asked: Head | None) -> Head:
        """Return the head of the recipe, else a convolution that joins two positions: a linear one emits nothing but blanks."""
        return asked or Convolution()

    def suggested(self, strategy: str, backbone: Backbone) -> dict[str, Any]:
        """Return fewer epochs for a head on cached features, and steps enough where there are few clips."""
        return {"epochs": 15, "least_steps": 300} if strategy == "linear_probe" else {"least_steps": 300}

    def learner(self, model: Model, loss: Loss) -> SupervisedLearner:
        """Return a learner whose loss takes the outputs of real positions."""
        return CTCLearner(model, loss)

    def decode(self, outputs: Outputs, space: SpeechSpace) -> list[Spoken]:
        """Return the words of each clip."""
        return [spoken(greedy(one.double().log_softmax(1).numpy()), space) for one in _split(outputs)]

    # --- evaluation --------------------------------------------------------------------------

    def metrics(self, decoded: Sequence[Spoken], truth: Sequence[str], space: SpeechSpace) -> Figures:
        """Return word and character error rates, and the errors by kind."""
        return dict(transcripts.figures(_counts(decoded, truth)))

    def sums(self, decoded: Sequence[Spoken], truth: Sequence[str], space: SpeechSpace) -> list[Sums]:
        """Return the errors and words of each clip."""
        return transcripts.sums(_counts(decoded, truth))

    def floors(self, train: Examples, held_out: Examples, space: SpeechSpace, model: Any) -> dict[str, Figures]:
        """Return one transcript for all clips, and the transcript of the clip that sounds most alike."""
        guess = transcripts.constant(train.truth)
        shown = guess if len(guess) <= 60 else guess[:60] + "…"
        out = {"constant": self._floor(f"always the same transcript, {shown!r}", [guess] * len(held_out), held_out)}
        if train.nearest is not None:
            found = [train.truth[place] for place in train.nearest(held_out)]
            out["nearest"] = self._floor("the transcript of the training clip with the most similar log-mel bands", found, held_out)
        return out

    def _floor(self, what: str, texts: Sequence[str], held_out: Examples) -> Figures:
        return {"what": what, **transcripts.figures(transcripts.counts(held_out.truth, texts))}

    # --- what people read --------------------------------------------------------------------

    def describe(
        self, decoded: Sequence[Spoken], space: SpeechSpace, rows: Sequence[Row] = (), modality: Modality | None = None
    ) -> list[dict[str, Any]]:
        """Return the transcript of each clip, and its words with the seconds at which they begin and end."""
        return [{"prediction": one.text, "confidence": _confidence(one), "words": _words(one, space)} for one in decoded]

    def shown(self, target: Any) -> str:
        """Return a transcript as it is scored."""
        return self.normalised(str(target))

    def badness(self, row: Mapping[str, str]) -> float:
        """Return the word error rate of one clip."""
        if row["prediction"] == row["target"] or not row["target"]:
            return 0.0
        return max(transcripts.figures(transcripts.counts([row["target"]], [row["prediction"]]))["wer"], 1e-9)

    def compare(self, row: Mapping[str, str], text: str) -> Sequence[Line]:
        """Return the transcript and what was recognised, their words aligned and errors marked."""
        if not row["target"]:
            return ()
        messages: list[Passage] = []
        found: list[Passage] = []
        for piece in transcripts.pieces(row["target"], row["prediction"]):
            wrong = piece.edit != "equal"
            messages += _passages(piece.reference, "missing" if wrong else "")
            found += _passages(piece.hypothesis, "wrong" if wrong else "")
        return (Line(name="said", passages=tuple(messages)), Line(name="recognised", passages=tuple(found)))

    def captions(self, labels: Labels, space: SpeechSpace) -> list[str]:
        """Return the transcripts."""
        return self.truth(labels, space)


def _split(outputs: Outputs) -> tuple[Tensor, ...]:
    assert isinstance(outputs, Ragged)
    return outputs.split()


def _counts(decoded: Sequence[Spoken], truth: Sequence[str]) -> NDArray[np.float64]:
    return transcripts.counts(truth, [one.text for one in decoded])


def _confidence(one: Spoken) -> float:
    """Return the mean confidence of the words; 0 where there are none."""
    return float(np.mean([word.confidence for word in one.words])) if one.words else 0.0


def _words(one: Spoken, space: SpeechSpace) -> list[dict[str, Any]]:
    if not space.rate:
        return [{"word": word.text, "confidence": round(word.confidence, 4)} for word in one.words]
    seconds = [(round(word.start / space.rate, 3), round(word.end / space.rate, 3)) for word in one.words]
    return [
        {"word": word.text, "start": start, "end": end, "confidence": round(word.confidence, 4)}
        for word, (start, end) in zip(one.words, seconds, strict=True)
    ]


def _passages(words: Sequence[str], mark: Mark) -> list[Passage]:
    return [Passage(text=" ".join(words), mark=mark), Passage(text=" ")] if words else []
