"""Tasks of a language model, which predicts the next token: of prompts with answers only the answers' are learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from pretune.config import Within
from pretune.errors import SettingError
from pretune.evaluation import ngram, overlap
from pretune.evaluation.sums import Sums, ratio
from pretune.labels import Labels, Outputs, Ragged
from pretune.modalities.text import Text
from pretune.models import Model, SupervisedLearner
from pretune.models.heads import Head
from pretune.models.heads.vocabulary import Vocabulary
from pretune.models.learner import Loss
from pretune.sources.table import Table
from pretune.tasks import _language
from pretune.tasks._base import Examples, Figures, LossSettings, Space
from pretune.tasks._faults import faults_of
from pretune.tasks._language import NONE, LanguageModelLearner
from pretune.tasks._marked import Line, Passage
from pretune.tasks._rendering import Answer, Renderer, render
from pretune.tasks._suggestion import Suggestion
from pretune.tasks._writing import WritingTask
from pretune.types import Layout, Row

_LONG = 600
"""Characters of a prompt that are kept for the report: its end."""
_TOKENS = 128
"""Tokens of an answer at most, by default."""
_SHOWN = 4
"""Plain texts that are written on, to look at."""


@dataclass(frozen=True, kw_only=True)
class Written(Space):
    """What a run that writes knows besides its weights: nothing."""

    def __str__(self) -> str:
        return "the next token"


@dataclass(frozen=True, kw_only=True)
class LanguageTask(WritingTask):
    """Prediction of the next token; a member of the family says what its targets are (`reads`)."""

    primary: ClassVar[str] = "character_loss"
    space: ClassVar[type[Space]] = Written
    layout: ClassVar[Layout] = "sequence"
    modalities: ClassVar[frozenset[str]] = frozenset({"text"})
    unread: ClassVar[tuple[str, ...]] = ("label_smoothing", "class_weights")
    suggests: ClassVar[Suggestion] = Suggestion(
        strategy="lora",
        why="a language model learns quickly through few parameters",
    )
    prefers: ClassVar[tuple[str, ...]] = ("smollm2",)
    batch: ClassVar[int | None] = 2
    measures_start: ClassVar[bool] = True
    keeps: ClassVar[str] = "end"
    """Which end of a prompt that is too long is kept: 'start' or 'end'."""
    writes_together: ClassVar[int] = 64  # of which those of like length are computed at once
    predict_settings: ClassVar[tuple[str, ...]] = (
        *("beams", "length_penalty", "min_new_tokens", "max_new_tokens", "temperature", "top_k", "top_p"),
    )

    beams: Annotated[int, Within(1, 64)] = 1
    """Beam search keeps this many of the likeliest beginnings; 1 always takes the likeliest token, or samples it."""
    length_penalty: Annotated[float, Within(-5, 5)] = 1.0
    """Beam search ranks answers by log-probability / length^length_penalty: higher values favour longer answers."""
    min_new_tokens: Annotated[int, Within(0)] = 0
    """Tokens of an answer at least."""
    max_new_tokens: Annotated[int | None, Within(1)] = _TOKENS
    """Tokens of an answer at most."""
    temperature: Annotated[float, Within(0)] = 0.0
    """Sampling temperature of answers; 0 always takes the most likely token."""
    top_k: Annotated[int | None, Within(1)] = None
    """Sample among this many most likely tokens."""
    top_p: Annotated[float, Within(0, 1, above=True)] = 1.0
    """Nucleus sampling: sample among the most likely tokens that together have this probability (Holtzman et al. 2020)."""

    def __post_init__(self) -> None:
        if self.temperature > 0 and (self.beams > 1 or self.min_new_tokens > 0):
            raise SettingError(
                "task.temperature samples one token after the other, without task.beams and task.min_new_tokens: leave it out."
            )
        if self.max_new_tokens is not None and self.min_new_tokens > self.max_new_tokens:
            raise SettingError(f"task.min_new_tokens={self.min_new_tokens} is above task.max_new_tokens={self.max_new_tokens}.")

    # --- targets -----------------------------------------------------------------------------

    def render(self, table: Table, modality: Any, *, held_out: float = 0.0, answered: bool = True) -> Text:
        """Put conversations into the words of a chat template, and cut plain texts into blocks."""
        return render(table, modality, held_out=held_out, answered=answered, keeps=self.keeps)

    def fit(self, rows: Sequence[Row], classes: tuple[str, ...]) -> Written:
        """Return the space, which no example changes."""
        return Written()

    def encode(self, rows: Sequence[Row], space: Written, modality: Any) -> Labels:
        """Return the token after each position (T_i,), NONE where it is not predicted, and the characters (N,) that are."""
        following, characters = [], []
        for row in rows:
            ids, count = asked_of(row, modality)
            following.append(torch.from_numpy(ids))
            characters.append(count)
        return Labels({"next": Ragged.of(following), "characters": torch.tensor(characters)})

    def truth(self, labels: Labels, space: Written) -> Any:
        """Return the tokens and characters that are predicted."""
        return _language.truth_of(labels)

    # --- the network -------------------------------------------------------------------------

    def head(self, asked: Head | None) -> Head:
        """Return the head that is the network's own table of word pieces.

        Raises:
            SettingError: another head is named.
        """
        if asked is not None and not isinstance(asked, Vocabulary):
            raise SettingError("head would not be used: a task that writes on predicts with the network's own table. Leave it out.")
        return Vocabulary()

    def outputs(self, space: Written) -> int:
        """Return the numbers of each position: nats, and whether the token was the likeliest."""
        return 2

    def loss(self, space: Written, labels: Labels, settings: LossSettings) -> Loss:
        """Return the mean of the nats that are asked for; the learner computes it without holding all logits."""

        def mean(outputs: torch.Tensor, targets: Labels) -> torch.Tensor:
            following = targets["next"]
            assert isinstance(following, Ragged)
            return outputs[..., 0][following.padded(NONE, outputs.shape[1]) != NONE].mean()

        return mean

    def learner(self, model: Model, loss: Loss) -> SupervisedLearner:
        """Return what the training loop trains."""
        return LanguageModelLearner(model, loss)

    def asked(self, views: Sequence[NDArray[Any]], rows: Sequence[Row] = (), space: Any = None, modality: Any = None) -> Labels:
        """Return the token after each position of each text."""
        following = [torch.from_numpy(np.append(np.asarray(ids, np.int64)[1:], NONE)) for ids in views]
        return Labels({"next": Ragged.of(following), "characters": torch.zeros(len(views), dtype=torch.long)})

    def decode(self, outputs: Outputs, space: Written) -> Any:
        """Return (T_i, 2) of each text: the nats of the token after each position, and whether it was the likeliest."""
        return _language.split(outputs)

    def write(self, model: Model, rows: Sequence[Row], modality: Text, *, seed: int = 0) -> list[str]:
        """Return an answer to each rendered prompt; of a plain text, what follows its first half."""
        most = self.max_new_tokens or _TOKENS
        most = min(most, (modality.positions or 2 * most) // 2)
        room = (modality.positions or modality.max_tokens + most) - most
        prompts = [_prompt(row, modality, room, self.keeps) for row in rows]
        ends = frozenset(one for one in (modality.separator, *modality.special) if one is not None)
        blank = () if all(_is_plain(row) for row in rows) else _blank(modality)
        written = _language.write(model, prompts, most=most, ends=ends, sampled=self, seed=seed, blank=blank)
        return [modality.text_of(ids).strip() for ids in written]

    def answer(self, row: Row, text: str) -> dict[str, Any]:
        """Return the end of a prompt, and what was written after it."""
        prompt = row.target.prompt[-_LONG:] if isinstance(row.target, Answer) else "\n\n".join(row.text or ())
        return {"prompt": prompt, "prediction": text}

    def samples(self, rows: Sequence[Row]) -> int:
        """Return all examples that have answers to compare with; of plain text a few to look at."""
        return len(rows) if any(_answer(row).references for row in rows) else _SHOWN

    def text_metrics(self, rows: Sequence[Row], written: Sequence[str], train: Sequence[Row]) -> Figures:
        """Return how near the written answers come to those that people gave."""
        if not any(_answer(row).references for row in rows):
            return {}
        return overlap.figures(list(written), [_answer(row).references for row in rows])

    def faults(self, rows: Sequence[Row], written: Sequence[str]) -> list[str]:
        """Report where a good part of the texts loop, copy their prompt, or are empty, and which metrics are not computed."""
        found = {
            "repeat the same words: the model loops. Train longer, or sample: task.temperature=0.7": map(overlap.loops, written),
            "are copied out of the prompt: the model has not learned to answer. Train longer (epochs=, time=)": (
                bool(text) and text in _answer(row).prompt for row, text in zip(rows, written, strict=True)
            ),
            "are empty: the model ends them at once. Train longer, or check the answers": (not text for text in written),
        }
        absent = overlap.absent() if any(_answer(row).references for row in rows) else ""
        return [*faults_of(found, len(written)), *([absent] if absent else [])]

    # --- evaluation --------------------------------------------------------------------------

    def metrics(self, decoded: Any, truth: Any, space: Written) -> Figures:
        """Return nats per character and per token, perplexity, and the share of tokens that were the likeliest."""
        return dict(_language.figures(_language.counted(decoded, truth)))

    def sums(self, decoded: Any, truth: Any, space: Written) -> list[Sums]:
        """Return nats, tokens and characters of each text: whole texts are resampled."""
        statistics = {"character_loss": ratio(0, 2), "token_loss": ratio(0, 1), "token_accuracy": ratio(3, 1)}
        kinds: dict[str, Any] = {"character_loss": "error", "token_loss": "error", "token_accuracy": "share"}
        return [Sums(sums=_language.counted(decoded, truth), statistics=statistics, kinds=kinds)]

    def floors(self, train: Examples, held_out: Examples, space: Written, model: Any) -> dict[str, Figures]:
        """Return what counting characters gives: how frequent each is, and which follows the two before it."""
        seen, predicted = (_characters([_predicted(row) for row in examples.rows]) for examples in (train, held_out))
        if not len(predicted):
            return {}
        size = int(max(seen.max(initial=0), predicted.max())) + 1
        counts = np.bincount(seen, minlength=size) + 1
        unigram = float(-np.log(counts[predicted] / counts.sum()).mean())
        return {
            "unigram": {"what": "how frequent each character is", "character_loss": unigram},
            "trigram": {"what": "which character follows which two", "character_loss": ngram.trigram(seen, predicted, size)},
        }

    # --- what people read --------------------------------------------------------------------

    def describe(self, decoded: Any, space: Written, rows: Sequence[Row] = (), modality: Any = None) -> list[dict[str, Any]]:
        """Return the nats of each text, and its characters."""
        out = []
        for row, one in zip(rows, decoded, strict=True):
            characters = max(1, len(_predicted(row)))
            prompt = _answer(row).prompt[-_LONG:]
            out.append(
                {"prediction": "", "prompt": prompt, "character_loss": float(one[:, 0].sum()) / characters, "characters": characters}
            )
        return out

    def shown(self, target: Any) -> str:
        """Return the answer that a row has."""
        return (target.answer or "") if isinstance(target, Answer) else ""

    def compare(self, row: Mapping[str, str], text: str) -> Sequence[Line]:
        """Return prompt, reference and prediction, a line each, where the example has an answer or one was written."""
        if not row["prediction"] and not row["target"]:
            return ()
        named = {"prompt": row.get("prompt", ""), "reference": row["target"], "prediction": row["prediction"] or "(nothing)"}
        return [Line(name=name, passages=(Passage(text=words),)) for name, words in named.items() if words]

    def badness(self, row: Mapping[str, str]) -> float:
        """Return 0 for an answer that is the target, else the nats per character of the target."""
        return 0.0 if overlap.exact(row["prediction"], [row["target"]]) else float(row.get("character_loss") or 1.0)


def _answer(row: Row) -> Answer:
    assert isinstance(row.target, Answer)
    return row.target


def _before_a_word(text: tuple[str, ...], modality: Text) -> list[int]:
    """Return the ids of a prompt as training has them, where an answer follows: white space at its end is often split otherwise then."""
    ids, owners = modality.segments((*text, "A"))
    return ids[owners < len(text)].tolist()


def _is_plain(row: Row) -> bool:
    """Return whether a row is a plain text, which is written on."""
    return bool(_answer(row).scored) and _answer(row).answer is None


def _blank(modality: Text) -> list[int]:
    """Return tokens of nothing but white space: an answer that begins with one often goes on with more of them."""
    found = [list(modality.ids(space)) for space in (" ", "  ", "\t", "\n", "\n\n", "\n\n\n", "\r\n")]
    return sorted({int(ids[0]) for ids in found if len(ids) == 1})


def _prompt(row: Row, modality: Text, room: int, keeps: str) -> list[int]:
    """Return the ids before the last answer, `room` at most; of a plain text its first half."""
    predicted, text = _answer(row), row.text or ()
    if predicted.answer is not None:
        text = text[: predicted.scored[-1]]
    if _is_plain(row):
        ids = modality.segments(text)[0].tolist()
        return ids[: max(1, len(ids) // 2)][-room:]
    ids = _before_a_word(text, modality)
    if keeps == "start" and len(ids) > room:
        shorter = Renderer(text=replace(modality, max_tokens=room), keeps=keeps).fitted(text, range(len(text)))
        ids = ids if shorter is None else _before_a_word(shorter, modality)
    return ids[-room:]


def asked_of(row: Row, modality: Text) -> tuple[NDArray[np.int64], int]:
    """Return the token after each position (T,), NONE where it is not predicted, and how many characters are."""
    ids, owners = modality.segments(row.text or ())
    ids, owners = ids[: modality.max_tokens].astype(np.int64), owners[: modality.max_tokens]
    scored = np.isin(owners, _answer(row).scored)
    ends = np.flatnonzero((owners[1:] != owners[:-1]) & scored[:-1]) + 1
    scored[[place for place in ends if ids[place] in modality.special]] = True  # the end of an answer is learned with it
    following = np.where(scored[1:], ids[1:], NONE)
    characters = len(_predicted(row))
    if scored[:1].any():  # nothing is before the first token, so it cannot be predicted
        characters -= len(modality.text_of(ids[:1].tolist()))
    return np.append(following, NONE), characters


def _predicted(row: Row) -> str:
    """Return what is predicted of a row's text."""
    text = row.text or ()
    return "".join(text[place] for place in _answer(row).scored)


def _characters(texts: Sequence[str]) -> NDArray[np.int64]:
    """Return the code points of texts, one after the other."""
    return np.frombuffer("".join(texts).encode("utf-32-le", "replace"), np.uint32).astype(np.int64)
