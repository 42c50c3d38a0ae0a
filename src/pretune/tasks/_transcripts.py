"""Tasks whose target is what is said in an audio file: how transcripts are read, scored and shown, whoever writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pretune.evaluation import transcripts
from pretune.evaluation.sums import Sums
from pretune.labels import Labels, Outputs, Ragged
from pretune.modalities import Modality
from pretune.modalities.audio import Audio
from pretune.sources.target_type import TargetType
from pretune.sources.transcripts import TRANSCRIPTS, Transcript, plain_words
from pretune.tasks._base import Examples, Figures, Space, Task
from pretune.tasks._marked import Line, Mark, Passage
from pretune.tasks._spoken import SpeechSpace, Spoken, in_order
from pretune.types import Layout, Row


@dataclass(frozen=True, kw_only=True)
class TranscriptTask(Task):
    """A task that writes what is said; required are those of `Task`, with `decode` to `Spoken`, and labels that have a `text`."""

    primary: ClassVar[str] = "wer"
    reads: ClassVar[TargetType] = TRANSCRIPTS
    space: ClassVar[type[Space]] = SpeechSpace
    layout: ClassVar[Layout] = "sequence"
    modalities: ClassVar[frozenset[str]] = frozenset({"audio"})
    whole: ClassVar[bool] = True
    text: Literal["plain", "written"] = "plain"
    """plain: transcripts in lower case, without punctuation; written: as the data have them."""

    # --- targets -----------------------------------------------------------------------------

    def normalised(self, text: str) -> str:
        """Return a transcript as it is learned and scored."""
        return plain_words(text) if self.text == "plain" else " ".join(text.split())

    def reference(self, row: Row) -> str:
        """Return the transcript of an example as it is learned and scored."""
        assert isinstance(row.target, Transcript)
        return self.normalised(row.target.text)

    def truth(self, labels: Labels, space: SpeechSpace) -> list[str]:
        """Return the transcripts."""
        return ["".join(map(chr, points.tolist())) for points in split(labels["text"])]

    def merged(
        self, decoded: Sequence[Spoken], spans: Sequence[Sequence[tuple[int, int]]], space: SpeechSpace, modality: Modality
    ) -> list[Spoken]:
        """Return what was recognised in clips, with times from their beginning."""
        assert isinstance(modality, Audio)
        found, rate = iter(decoded), modality.sample_rate
        return [in_order([(begin / rate, end / rate, next(found)) for begin, end in pieces], space.rate) for pieces in spans]

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
        """Return the transcript of each clip, its words with the seconds at which they begin and end, and its pieces."""
        return [_described(one, space) for one in decoded]

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
        return (Line(name="reference", passages=tuple(messages)), Line(name="prediction", passages=tuple(found)))

    def captions(self, labels: Labels, space: SpeechSpace) -> list[str]:
        """Return the transcripts."""
        return self.truth(labels, space)


def code_points(texts: Sequence[str]) -> Ragged:
    """Return transcripts as labels hold them beside what is learned."""
    return Ragged.of([torch.tensor([*map(ord, text)], dtype=torch.int64) for text in texts])


def split(outputs: Outputs) -> tuple[Tensor, ...]:
    assert isinstance(outputs, Ragged)
    return outputs.split()


def _counts(decoded: Sequence[Spoken], truth: Sequence[str]) -> NDArray[np.float64]:
    return transcripts.counts(truth, [one.text for one in decoded])


def _described(one: Spoken, space: SpeechSpace) -> dict[str, Any]:
    pieces = [{"start": round(piece.start, 3), "end": round(piece.end, 3), "text": piece.text} for piece in one.segments]
    row = {"prediction": one.text, "confidence": _confidence(one), "words": _words(one, space)}
    return {**row, "segments": pieces} if pieces else row


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
