"""The words that are said in an audio file: speech recognition by CTC."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from pretune import registry
from pretune.backbones import Backbone
from pretune.errors import DataError, SettingError
from pretune.labels import Labels, Outputs, Ragged
from pretune.modalities import Modality
from pretune.models import Model, SupervisedLearner
from pretune.models.heads import Head, HeadModule
from pretune.models.heads.convolution import Convolution
from pretune.models.heads.pretrained_ctc import PretrainedCTC, PretrainedCTCModule
from pretune.models.learner import Loss
from pretune.tasks._base import LossSettings
from pretune.tasks._characters import sources_of, take
from pretune.tasks._ctc import CTCLearner, CTCLoss, greedy, needed
from pretune.tasks._spoken import SpeechSpace, Spoken, Units, spoken, suited, symbols_of
from pretune.tasks._spoken_findings import spoken_findings
from pretune.tasks._transcripts import TranscriptTask, code_points, split
from pretune.types import Batch, Finding, Row


@dataclass(frozen=True, kw_only=True)
class SpeechRecognition(TranscriptTask):
    """Speech recognition: CTC over words or characters, on the sequence of a network."""

    unread: ClassVar[tuple[str, ...]] = ("label_smoothing", "class_weights")
    units: Units | None = None
    """What is recognised one after the other: words or characters; auto takes words where there are few and each occurs often."""

    # --- targets -----------------------------------------------------------------------------

    def fit(self, rows: Sequence[Row], classes: tuple[str, ...]) -> SpeechSpace:
        """Return the words or characters of the training transcripts."""
        texts = [self.reference(row) for row in rows]
        units = self.units or suited(texts)
        symbols = symbols_of(texts, units)
        if not symbols:
            raise DataError("the training transcripts hold no words.")
        return SpeechSpace(units=units, symbols=symbols)

    def encode(self, rows: Sequence[Row], space: SpeechSpace, modality: Modality) -> Labels:
        """Return the units (U_i,) of each transcript, `target`, and the transcript itself as code points, `text`."""
        texts = [self.reference(row) for row in rows]
        units = [torch.from_numpy(space.encode(text)) for text in texts]
        return Labels({"target": Ragged.of(units), "text": code_points(texts)})

    def findings(self, rows: Sequence[Row], space: SpeechSpace) -> list[Finding]:
        """Return how transcripts were normalised, and which held-out ones hold what training does not, or are known from it."""
        return spoken_findings(rows, space, {row.id: self.reference(row) for row in rows}, registry.name_of(self))

    def needed(self, labels: Labels, space: SpeechSpace) -> NDArray[np.int64]:
        """Return how many outputs each clip needs for its transcript, (N,)."""
        return np.array([needed(units.numpy()) for units in split(labels["target"])], dtype=np.int64)

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

    def head_for(self, asked: Head | None, backbone: Backbone, space: SpeechSpace) -> tuple[Head, str]:
        """Return the CTC head that the network was pretrained with, where it has one, else a new one."""
        known = backbone.recogniser
        if known is None and isinstance(asked, PretrainedCTC):
            raise SettingError("head=pretrained_ctc: these weights have no CTC head. Leave head out.")
        if known is None:
            return self.head(asked), ""
        why = known.fault
        if not why and asked is not None and not isinstance(asked, PretrainedCTC):
            why = f"head={registry.name_of(asked)} was named; leave head out to use it"
        elif not why and space.units == "words":
            why = f"it writes characters, and this run words; task={registry.name_of(self)} task.units=characters uses it"
        if not why:
            return PretrainedCTC(), ""
        if isinstance(asked, PretrainedCTC):
            raise SettingError(f"head=pretrained_ctc cannot be used: {why}.")
        return self.head(asked), f"the CTC head of the weights, with its vocabulary, is not used: {why}."

    def measures(self, head: HeadModule) -> bool:
        """Return whether the head was pretrained with the network."""
        return head.pretrained

    def start(self, model: Model, backbone: Backbone, batches: Iterator[Batch], space: SpeechSpace) -> str | None:
        """Begin as the pretrained CTC head, each character as its own there, whatever its case."""
        head, known = model.head, backbone.recogniser
        if not isinstance(head, PretrainedCTCModule) or known is None or known.layer is None:
            return None
        sources = sources_of(space.symbols, known.symbols)
        take(head.layers, known.layer, [known.blank, *sources])
        new = [symbol for symbol, source in zip(space.symbols, sources, strict=True) if source is None]
        shown = f"; new: {', '.join(map(repr, new[:12]))}{' …' if len(new) > 12 else ''}" if new else ""
        return f"the CTC head of the weights is used: {len(sources) - len(new)} of {len(sources)} characters are in its vocabulary{shown}."

    def suggested(self, strategy: str, backbone: Backbone) -> dict[str, Any]:
        """Return fewer epochs for a head on cached features, and steps enough where there are few clips."""
        return {"epochs": 15, "least_steps": 300} if strategy == "linear_probe" else {"least_steps": 300}

    def learner(self, model: Model, loss: Loss) -> SupervisedLearner:
        """Return a learner whose loss takes the outputs of real positions."""
        return CTCLearner(model, loss)

    def decode(self, outputs: Outputs, space: SpeechSpace) -> list[Spoken]:
        """Return the words of each clip."""
        return [spoken(greedy(one.double().log_softmax(1).numpy()), space) for one in split(outputs)]
