"""Preference tuning (DPO): a language model learns which of two answers people prefer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pretune.config import Within
from pretune.evaluation.sums import Sums, ratio
from pretune.labels import Labels, Outputs, Ragged
from pretune.modalities.text import Text
from pretune.sources.preferences import PREFERENCES, Preference
from pretune.sources.table import Table
from pretune.sources.target_type import TargetType
from pretune.tasks import _preference
from pretune.tasks._base import Examples, Figures, LossSettings, Space
from pretune.tasks._language import NONE
from pretune.tasks._language_task import LanguageTask, Written, asked_of
from pretune.tasks._marked import Line, Passage
from pretune.tasks._preference import PreferenceLearner
from pretune.tasks._rendering import Answer
from pretune.types import Finding, LedgerEntry, Row

if TYPE_CHECKING:
    from pretune.backbones import Backbone
    from pretune.models import Model, SupervisedLearner
    from pretune.models.learner import Loss

_LENGTH = 0.7
"""Share of training pairs in which the preferred answer is the longer one, or the shorter one, from which that is reported."""


@dataclass(frozen=True, kw_only=True)
class PreferenceSpace(Written):
    """What a run that learns preferences knows besides its weights: nothing."""

    def __str__(self) -> str:
        return "which of two answers is preferred"


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerPair(Answer):
    """A rendered pair: the row's text holds the preferred answer."""

    rejected: tuple[str, ...] = ()
    """The same text with the rejected answer in its place."""

    @property
    def other(self) -> str:
        """The rejected answer."""
        return self.rejected[self.scored[-1]]


@dataclass(frozen=True, kw_only=True)
class DPO(LanguageTask):
    """Direct preference optimisation: preferred answers become likelier, rejected ones less likely, beside the network before training.

    R. Rafailov et al., "Direct Preference Optimization: Your Language Model is Secretly a Reward Model", 2023.
    """

    primary: ClassVar[str] = "preference_accuracy"
    reads: ClassVar[TargetType] = PREFERENCES
    space: ClassVar[type[Space]] = PreferenceSpace

    beta: Annotated[float, Within(0, above=True)] = 0.1
    """How strongly the network is held to what it was before training: higher values change it less."""

    # --- targets -----------------------------------------------------------------------------

    def render(self, table: Table, modality: Any, *, held_out: float = 0.0, answered: bool = True) -> Text:
        """Put both answers of each pair into the words of a chat template; a prompt that is too long is cut for both alike."""
        pairs = {row.id: row.target for row in table.rows if answered and isinstance(row.target, Preference)}
        table.rows = [_with_longer(row, pairs.get(row.id)) for row in table.rows]
        text = super().render(table, modality, held_out=held_out, answered=answered)
        rows: list[Row] = []
        for row in table.rows:
            found = _rendered(row, pairs[row.id]) if row.id in pairs else row
            if isinstance(found.target, AnswerPair) and len(text.segments(found.target.rejected)[0]) > text.max_tokens:
                detail = f"{row.id} has a rejected answer that does not fit the window of {text.max_tokens} tokens; set max_tokens="
                table.ledger.append(LedgerEntry(item=row.id, action="dropped", reason="too_long", detail=detail))
                continue
            rows.append(found)
        table.rows = rows
        return text

    def fit(self, rows: Sequence[Row], classes: tuple[str, ...]) -> PreferenceSpace:
        """Return the space, which no example changes."""
        return PreferenceSpace()

    def encode(self, rows: Sequence[Row], space: Written, modality: Any) -> Labels:
        """Return the token after each position of both texts, NONE where it is not predicted, and the ids of the rejected one."""
        out: dict[str, list[Tensor]] = {"next": [], "rejected": [], "rejected_next": []}
        for row in rows:
            pair = _pair(row)
            ids, _ = modality.segments(pair.rejected)
            out["next"].append(torch.from_numpy(asked_of(row, modality)[0]))
            out["rejected"].append(torch.from_numpy(ids[: modality.max_tokens].astype(np.int64)))
            out["rejected_next"].append(torch.from_numpy(asked_of(replace(row, text=pair.rejected), modality)[0]))
        return Labels({name: Ragged.of(tensors) for name, tensors in out.items()})

    def truth(self, labels: Labels, space: Written) -> NDArray[np.int64]:
        """Return how many tokens of the preferred and of the rejected answer are predicted, (N, 2)."""
        sides = (labels[name] for name in ("next", "rejected_next"))
        return np.array([[int((one != NONE).sum()) for one in side.split()] for side in sides if isinstance(side, Ragged)]).T.reshape(-1, 2)

    def findings(self, rows: Sequence[Row], space: Written) -> list[Finding]:
        """Return which preferences contradict each other, and whether length tells which answer is preferred."""
        return [*_contradictions(rows), *_length_finding([row for row in rows if row.split == "train"])]

    # --- the network -------------------------------------------------------------------------

    def loss(self, space: Written, labels: Labels, settings: LossSettings) -> Loss:
        """Return the loss of log-likelihoods (N, 4); the learner computes them."""

        def of_likelihoods(outputs: Tensor, targets: Labels) -> Tensor:
            return -torch.nn.functional.logsigmoid(_preference.reward_margins(outputs, self.beta)).mean()

        return of_likelihoods

    def suggested(self, strategy: str, backbone: Backbone) -> dict[str, Any]:
        """Return small steps and few epochs: what is likely changes quickly."""
        return {"epochs": 2, "lr": 1e-4 if strategy == "lora" else 1e-3 if strategy == "scratch" else 1e-6}

    def learner(self, model: Model, loss: Loss) -> SupervisedLearner:
        """Return what the training loop trains."""
        return PreferenceLearner(model, loss, self.beta)

    def asked(self, views: Sequence[NDArray[Any]], rows: Sequence[Row] = (), space: Any = None, modality: Any = None) -> Labels:
        """Return both answers of each pair."""
        return self.encode(rows, space, modality)

    def decode(self, outputs: Outputs, space: Written) -> NDArray[np.float64]:
        """Return log-likelihoods of both answers (N, 2), and of a run in training those under the reference too (N, 4)."""
        assert isinstance(outputs, Tensor)
        return outputs.double().numpy()

    # --- evaluation --------------------------------------------------------------------------

    def metrics(self, decoded: NDArray[Any], truth: NDArray[Any], space: Written) -> Figures:
        """Return how often the preferred answer is the likelier one and by how many nats, and the rewards where the reference is known."""
        (sums,) = self.sums(decoded, truth, space)
        totals = sums.sums.sum(0)[None]
        return {name: float(statistic(totals)[0]) for name, statistic in sums.statistics.items()} if len(decoded) else {}

    def sums(self, decoded: NDArray[Any], truth: NDArray[Any], space: Written) -> list[Sums]:
        """Return sums over each pair that all metrics are functions of."""
        likelihoods = torch.from_numpy(np.asarray(decoded, np.float64))
        margins = likelihoods[:, 0] - likelihoods[:, 1]
        columns = {"preference_accuracy": _preference.ranked(margins), "margin": margins}
        if likelihoods.shape[1] == 4:
            rewards = _preference.reward_margins(likelihoods, self.beta)
            columns |= {"reward_accuracy": _preference.ranked(rewards), "reward_margin": rewards}
            columns["dpo_loss"] = -torch.nn.functional.logsigmoid(rewards)
        tokens = torch.from_numpy(truth).double()
        rows = torch.stack([torch.ones_like(margins), *columns.values(), -likelihoods[:, 0], tokens[:, 0]], 1).numpy()
        statistics = {name: ratio(place, 0) for place, name in enumerate(columns, 1)} | {"chosen_loss": ratio(-2, -1)}
        kinds: dict[str, Any] = {"margin": "other", "reward_margin": "other", "dpo_loss": "error", "chosen_loss": "error"}
        return [Sums(sums=rows, statistics=statistics, kinds=kinds)]

    def floors(self, train: Examples, held_out: Examples, space: Written, model: Any) -> dict[str, Figures]:
        """Return how often the longer answer is the preferred one, or the shorter: whichever is preferred more often in training."""
        side = 1 if float(np.mean(_longer(train.rows))) >= 0.5 else -1
        accuracy = float(np.mean([one if side > 0 else 1 - one for one in _longer(held_out.rows)])) if len(held_out) else 0.5
        return {"length": {"what": f"preferring the {'longer' if side > 0 else 'shorter'} answer", self.primary: accuracy}}

    # --- what people read --------------------------------------------------------------------

    def describe(self, decoded: NDArray[Any], space: Written, rows: Sequence[Row] = (), modality: Any = None) -> list[dict[str, Any]]:
        """Return the pair, and by how many nats the preferred answer is the likelier one."""
        return [
            {
                "prediction": "",
                "prompt": self.answer(row, "")["prompt"],
                "rejected": _pair(row).other,
                "margin": float(one[0] - one[1]),
                **({"reward_margin": float(_preference.reward_margins(torch.from_numpy(one[None]), self.beta))} if len(one) == 4 else {}),
            }
            for row, one in zip(rows, decoded, strict=True)
        ]

    def compare(self, row: Mapping[str, str], text: str) -> Sequence[Line]:
        """Return prompt, preferred answer, rejected answer, and what the model writes, a line each."""
        margin = float(row.get("margin") or 0.0)
        likelier = f"likelier by {abs(margin):.1f} nats"
        lines = [
            ("prompt", Passage(text=row.get("prompt", ""))),
            ("preferred", Passage(text=row["target"], mark="right" if margin > 0 else "", label=likelier if margin > 0 else "")),
            ("rejected", Passage(text=row.get("rejected", ""), mark="" if margin > 0 else "wrong", label="" if margin > 0 else likelier)),
            ("written", Passage(text=row["prediction"])),
        ]
        return [Line(name=name, passages=(passage,)) for name, passage in lines if passage.text]

    def badness(self, row: Mapping[str, str]) -> float:
        """Return by how many nats the rejected answer is the likelier one, 0 where it is not."""
        return max(0.0, -float(row.get("margin") or 0.0))


def _pair(row: Row) -> AnswerPair:
    assert isinstance(row.target, AnswerPair), f"{row.id} has no pair of answers"
    return row.target


def _with_longer(row: Row, pair: Preference | None) -> Row:
    """Return a row whose last turn is the longer answer of its pair, by which its prompt is cut."""
    if pair is None or len(pair.rejected) <= len(pair.turns[-1].content):
        return row
    return replace(row, target=replace(pair, turns=(*pair.turns[:-1], replace(pair.turns[-1], content=pair.rejected))))


def _rendered(row: Row, pair: Preference) -> Row:
    """Return a rendered row with the preferred answer in its text and the rejected one in its target."""
    answer, text = row.target, row.text or ()
    assert isinstance(answer, Answer)
    place = answer.scored[-1]
    chosen, rejected = ((*text[:place], one.strip(), *text[place + 1 :]) for one in (pair.turns[-1].content, pair.rejected))
    return replace(row, text=chosen, target=AnswerPair(scored=(place,), prompt=answer.prompt, answer=chosen[place], rejected=rejected))


def _longer(rows: Sequence[Row]) -> list[float]:
    """Return 1 for each pair whose preferred answer is the longer one, in characters, one half for equal lengths, else 0."""
    lengths = [(len(row.target.answer or ""), len(row.target.other)) for row in rows if isinstance(row.target, AnswerPair)]
    return [(np.sign(chosen - rejected) + 1) / 2 for chosen, rejected in lengths]


def _length_finding(rows: Sequence[Row]) -> list[Finding]:
    found = _longer(rows)
    share = float(np.mean(found)) if found else 0.5
    if max(share, 1 - share) < _LENGTH:
        return []
    which = "longer" if share > 0.5 else "shorter"
    message = (
        f"the preferred answer is the {which} one in {max(share, 1 - share):.0%} of the training pairs: a model may learn length alone. "
        "Compare the score with the baseline 'length'."
    )
    return [Finding(kind="length_confound", severity="note", message=message)]


def _contradictions(rows: Sequence[Row]) -> list[Finding]:
    """Return how many pairs are there with their answers the other way round too."""
    known = {(pair.prompt, pair.answer, pair.other): row.id for row in rows if isinstance(pair := row.target, AnswerPair)}
    turned = [item for (prompt, chosen, rejected), item in known.items() if (prompt, rejected, chosen) in known]
    if not turned:
        return []
    message = f"{len(turned):,} pairs contradict each other: the same two answers to the same prompt, preferred once each ({turned[0]} …)."
    return [Finding(kind="contradiction", severity="warning", message=message, items=tuple(turned))]
