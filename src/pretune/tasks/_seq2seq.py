"""Tasks that write a text from an input, by an encoder that reads the input once and a decoder that writes token by token.

A task of this kind says what its targets are (`reads`), where texts come from (`references`), and how good written ones are
(`text_metrics`). The network is any encoder of sequences with the head `decoder`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from pretune.backbones import Backbone
from pretune.config import Within
from pretune.errors import BadItem, DataError, SettingError
from pretune.evaluation import overlap
from pretune.evaluation.sums import Sums, ratio
from pretune.labels import Labels, Outputs, Ragged
from pretune.modalities.text import Text
from pretune.models import Model, SupervisedLearner, search
from pretune.models.heads import Head
from pretune.models.heads.decoder import Decoder
from pretune.models.learner import Loss
from pretune.sources.table import Table
from pretune.sources.target_texts import TargetText
from pretune.storage.streaming import read_row
from pretune.tasks import _teaching
from pretune.tasks._base import Examples, Figures, LossSettings, Space
from pretune.tasks._faults import faults_of
from pretune.tasks._marked import Line, Passage
from pretune.tasks._suggestion import Suggestion
from pretune.tasks._teaching import TOKENS, TokenLoss, WritingLearner, head_of
from pretune.tasks._writing import WritingTask
from pretune.types import Layout, Row

_TIMES, _MORE = 3, 10
"""Tokens that are written at most where nobody says: so many times those of the input, and some more."""
_TRAINED_ON = 200_000
"""Texts that a tokenizer is made from at most: more change little and take minutes."""


@dataclass(frozen=True, kw_only=True)
class TextSpace(Space):
    """What a run that writes texts knows besides its weights: nothing."""

    def __str__(self) -> str:
        return "texts"


@dataclass(frozen=True, kw_only=True)
class SequenceToSequence(WritingTask):
    """A text from an input; required are `reads` and, where targets are no `TargetText`, `references`."""

    primary: ClassVar[str] = "token_loss"
    space: ClassVar[type[Space]] = TextSpace
    layout: ClassVar[Layout] = "sequence"
    modalities: ClassVar[frozenset[str]] = frozenset({"text"})
    unread: ClassVar[tuple[str, ...]] = ("class_weights",)
    suggests: ClassVar[Suggestion] = Suggestion(
        strategy="full", why="a decoder learns with its encoder", settings={"probe_first": False, "lr_decay": 1.0}
    )
    batch: ClassVar[int | None] = 128
    predict_settings: ClassVar[tuple[str, ...]] = (
        *("beams", "length_penalty", "min_new_tokens", "max_new_tokens", "temperature", "top_k", "top_p"),
    )
    writes: ClassVar[int] = 1000
    writes_together: ClassVar[int] = 64

    beams: Annotated[int, Within(1, 64)] = 4
    """Beam search keeps this many of the likeliest beginnings; 1 always takes the likeliest token, or samples it."""
    length_penalty: Annotated[float, Within(-5, 5)] = 1.0
    """Beam search ranks texts by log-probability / length^length_penalty: higher values favour longer texts."""
    min_new_tokens: Annotated[int, Within(0)] = 0
    """Tokens that are written at least."""
    max_new_tokens: Annotated[int | None, Within(1)] = None
    """Tokens that are written at most; auto is three times those of the input and ten more."""
    temperature: Annotated[float, Within(0)] = 0.0
    """Sampling temperature, with beams=1; 0 takes the likeliest."""
    top_k: Annotated[int | None, Within(1)] = None
    """Sample among this many most likely tokens."""
    top_p: Annotated[float, Within(0, 1, above=True)] = 1.0
    """Nucleus sampling: sample among the most likely tokens that together have this probability (Holtzman et al. 2020)."""

    def __post_init__(self) -> None:
        if self.temperature > 0 and self.beams > 1:
            raise SettingError("task.temperature samples one token after the other, without beams: add task.beams=1, or leave it out.")
        if self.temperature == 0 and (self.top_k is not None or self.top_p < 1):
            raise SettingError("task.top_k and task.top_p are for sampling: add task.temperature=1 task.beams=1, or leave them out.")
        if self.max_new_tokens is not None and self.min_new_tokens > self.max_new_tokens:
            raise SettingError(f"task.min_new_tokens={self.min_new_tokens} is above task.max_new_tokens={self.max_new_tokens}.")

    # --- what differs between such tasks ------------------------------------------------------

    def references(self, row: Row) -> tuple[str, ...]:
        """Return the texts that people wrote for an example, the one to learn first; () where there is none."""
        return row.target.references if isinstance(row.target, TargetText) else ()

    def ids(self, text: str, modality: Any) -> NDArray[np.int64]:
        """Return the tokens of a target, without what begins and ends it."""
        return modality.ids(text).astype(np.int64)

    def spelled(self, ids: Sequence[int], modality: Any) -> str:
        """Return the text of written tokens."""
        return modality.text_of(ids).strip()

    def end(self, modality: Any) -> int:
        """Return the token that ends a target."""
        return modality.separator

    def room(self, modality: Any) -> int:
        """Return the tokens of a target at most, its end among them."""
        return modality.max_tokens

    def most(self, views: Sequence[NDArray[Any]], modality: Any) -> list[int]:
        """Return the tokens that are written at most for each input."""
        if self.max_new_tokens is not None:
            return [self.max_new_tokens] * len(views)
        return [_TIMES * len(view) + _MORE for view in views]

    # --- targets -----------------------------------------------------------------------------

    def render(self, table: Table, modality: Any, *, held_out: float = 0.0, answered: bool = True) -> Any:
        """Make a tokenizer of inputs and targets together where the weights bring none, and report targets that are cut."""
        if not isinstance(modality, Text):
            return modality
        if not modality.tokenizer:
            modality = self._with_tokenizer(table, modality)
        if answered:
            self._report_cut(table, modality)
        return modality

    def _with_tokenizer(self, table: Table, modality: Text) -> Text:
        rows = [row for row in table.rows if row.split in (None, "train")][:_TRAINED_ON]
        words = [text for row in rows for text in (*(row.text or ()), *self.references(row)[:1])]
        if not words:
            raise DataError(f"{table.root} has no training examples to make a tokenizer of.")
        modality = replace(modality, verbatim=True).learned_from(words)
        table.messages.append(f"tokenizer trained on inputs and targets of {len(rows):,} examples: {modality.size:,} {modality.units}s.")
        return modality

    def _report_cut(self, table: Table, modality: Text) -> None:
        room = self.room(modality) - 1
        texts = [self.references(row)[0] for row in table.rows if self.references(row)]
        lengths = [len(text) for text in texts if len(text) > room]  # a token is one character at least, of most tokenizers
        if not lengths:
            return
        long = [size for text in texts if len(text) > room and (size := len(self.ids(text, modality))) > room]
        if long:
            table.messages.append(
                f"{len(long):,} of {len(texts):,} targets are longer than {room} tokens and are truncated (the longest has {max(long):,}); "
                "max_tokens=… keeps more."
            )

    def fit(self, rows: Sequence[Row], classes: tuple[str, ...]) -> TextSpace:
        """Return the space, which no example changes."""
        return TextSpace()

    def encode(self, rows: Sequence[Row], space: Space, modality: Any) -> Labels:
        """Return the tokens of each target (T_i,), its end among them; one that is too long has no end."""
        room, end = self.room(modality), self.end(modality)
        tokens = [np.append(self.ids((self.references(row) or ("",))[0], modality), end)[:room] for row in rows]
        return Labels({TOKENS: Ragged.of([torch.from_numpy(one.astype(np.int64)) for one in tokens])})

    def truth(self, labels: Labels, space: Space) -> list[NDArray[np.int64]]:
        """Return the tokens of each target."""
        return [one.numpy() for one in _teaching.tokens_of(labels).split()]

    # --- the network -------------------------------------------------------------------------

    def head(self, asked: Head | None) -> Head:
        """Return the decoder.

        Raises:
            SettingError: another head is named.
        """
        if asked is not None and not isinstance(asked, Decoder):
            raise SettingError("head would not be used: a task that writes has head=decoder, with head.layers and head.dropout.")
        return asked or Decoder()

    def suggested(self, strategy: str, backbone: Backbone) -> dict[str, Any]:
        """Return the defaults of training an encoder with its decoder."""
        if strategy == "scratch":
            return {"optim": "muon", "lr": 1e-2, "epochs": 20, "weight_decay": 0.01, "least_steps": 1000}
        if backbone.late_decoder is not None:
            return {"lr": 1e-4, "epochs": 3, "weight_decay": 0.01}
        return {"lr": 5e-4, "epochs": 10, "weight_decay": 0.01, "least_steps": 500}

    def outputs(self, space: Space) -> int:
        """Return the numbers of each token: nats, and whether it was the likeliest."""
        return 2

    def loss(self, space: Space, labels: Labels, settings: LossSettings) -> Loss:
        """Return the cross-entropy of tokens, with label smoothing where it is set."""
        return TokenLoss(smoothing=settings.label_smoothing)

    def learner(self, model: Model, loss: Loss) -> SupervisedLearner:
        """Return what the training loop trains."""
        return WritingLearner(model, loss)

    def asked(self, views: Sequence[Any], rows: Sequence[Row] = (), space: Space | None = None, modality: Any = None) -> Labels:
        """Return the targets, by which figures with teacher forcing are computed."""
        return self.encode(rows, space or TextSpace(), modality)

    def decode(self, outputs: Outputs, space: Space) -> list[NDArray[Any]]:
        """Return (T_i, 2) of each target: the nats of each token, and whether it was the likeliest."""
        return _teaching.split(outputs)

    # --- writing -----------------------------------------------------------------------------

    def write(self, model: Model, rows: Sequence[Row], modality: Any, *, seed: int = 0) -> list[str]:
        """Return what the model writes for each example; one that cannot be read gets ''."""
        model.eval()
        views: list[NDArray[Any] | None] = [_view(row, modality) for row in rows]
        found = [place for place, view in enumerate(views) if view is not None]
        written = [""] * len(rows)
        if not found:
            return written
        readable = [view for view in views if view is not None]
        device = next(model.parameters()).device
        with torch.inference_mode():
            encoded = model.before_head(modality.collate(readable).to(device))
        generator = torch.Generator().manual_seed(seed)
        texts = search.write(head_of(model), encoded, self.most(readable, modality), self, generator)
        for place, ids in zip(found, texts, strict=True):
            written[place] = self.spelled(ids, modality)
        return written

    def answer(self, row: Row, text: str) -> dict[str, Any]:
        """Return what `predict` says of an example and the text that was written for it."""
        source = {"source": "\n\n".join(row.text)} if row.text else {}
        return {**source, "prediction": text}

    def faults(self, rows: Sequence[Row], written: Sequence[str]) -> list[str]:
        """Report where a good part of the texts loop, copy their input, or are empty, and which metrics are not computed."""
        found = {
            "repeat the same words: the model loops. Train longer (epochs=, time=)": map(overlap.loops, written),
            "are copies of their input: the model has not learned to change it. Train longer (epochs=, time=)": (
                bool(text) and overlap.exact(text, row.text or ()) > 0 for row, text in zip(rows, written, strict=True)
            ),
            "are empty: the model ends them at once. Train longer, or check the targets": (not text for text in written),
        }
        return [*faults_of(found, len(written)), *([absent] if (absent := self.absent()) else [])]

    def absent(self) -> str:
        """Return a sentence on the metrics of texts that are not computed here, and how to get them; '' where all are."""
        return overlap.absent()

    def text_metrics(self, rows: Sequence[Row], written: Sequence[str], train: Sequence[Row]) -> Figures:
        """Return how near the written texts come to those that people wrote."""
        return overlap.figures(list(written), [self.references(row) for row in rows])

    # --- evaluation --------------------------------------------------------------------------

    def metrics(self, decoded: list[NDArray[Any]], truth: Any, space: Space) -> Figures:
        """Return nats per token with teacher forcing, perplexity, and the share of tokens that were the likeliest."""
        return dict(_teaching.figures(_teaching.counted(decoded)))

    def sums(self, decoded: list[NDArray[Any]], truth: Any, space: Space) -> list[Sums]:
        """Return nats, tokens and hits of each text: whole texts are resampled."""
        statistics = {"token_loss": ratio(0, 1), "token_accuracy": ratio(2, 1)}
        kinds: dict[str, Any] = {"token_loss": "error", "token_accuracy": "share"}
        return [Sums(sums=_teaching.counted(decoded), statistics=statistics, kinds=kinds)]

    def floors(self, train: Examples, held_out: Examples, space: Space, model: Any) -> dict[str, Figures]:
        """Return what counting tokens gives."""
        nats = _teaching.unigram(train.truth, held_out.truth)
        return {"unigram": {"what": "how frequent each token is", "token_loss": nats, "perplexity": float(np.exp(nats))}}

    # --- what people read --------------------------------------------------------------------

    def describe(self, decoded: list[NDArray[Any]], space: Space, rows: Sequence[Row] = (), modality: Any = None) -> list[dict[str, Any]]:
        """Return the source of each text, and its nats per token."""
        sources = ["\n\n".join(row.text or ()) for row in rows] or [""] * len(decoded)
        return [
            {"prediction": "", "source": source, "token_loss": float(one[:, 0].mean())}
            for source, one in zip(sources, decoded, strict=True)
        ]

    def shown(self, target: Any) -> str:
        """Return the text that a row has."""
        return str(target or "")

    def compare(self, row: Mapping[str, str], text: str) -> Sequence[Line]:
        """Return source, reference and prediction, a line each."""
        named = {"source": row.get("source", ""), "reference": row["target"], "prediction": row["prediction"] or "(nothing)"}
        return [Line(name=name, passages=(Passage(text=words),)) for name, words in named.items() if words]

    def badness(self, row: Mapping[str, str]) -> float:
        """Return 0 for a text that is the target, else the nats per token of the target."""
        return 0.0 if overlap.exact(row["prediction"], [row["target"]]) else float(row.get("token_loss") or 1.0)


def _view(row: Row, modality: Any) -> NDArray[Any] | None:
    """Return what the network reads of an example; None where it cannot be read."""
    try:
        return np.asarray(modality.view(modality.decode(read_row(row)).array, None, None))
    except (BadItem, OSError):
        return None
