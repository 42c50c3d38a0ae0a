"""The baselines of a run: fitted on its training examples, measured on those of its score."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pretune import registry
from pretune.evaluation import classical
from pretune.evaluation.baseline import Baseline, Description
from pretune.evaluation.classical import ClassicalModel
from pretune.modalities import Modality
from pretune.runner.prepare import Prepared
from pretune.tasks import Examples, OwnBaseline, Task
from pretune.types import NotUsed
from pretune.unread import refuse

FLOOR_ITEMS = 5_000
"""Training examples at most that the classical model is fitted on to be compared with: more would cost more than that tells."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """The classical model of the training examples with the features it reads."""

    description: Description
    classical: ClassicalModel
    seconds: float = 0.0
    """What fitting it took."""

    def outputs(self, data: Prepared, positions: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return probabilities (M, C), or numbers (M,) in the user's units, of some examples."""
        return self.classical.outputs(self.description.features(items(self.description, data, positions)))

    def model(self, data: Prepared) -> Baseline:
        """Return it as a model of its own, which gives what a head gives."""
        mean, deviation = data.task.scale(data.space)
        return Baseline.of(self.description, self.classical, mean=mean, deviation=deviation)


@dataclass(frozen=True, kw_only=True)
class FittedOwn:
    """A task's own baseline, and what fitting it took."""

    model: OwnBaseline
    examples: int
    """Training examples that it was given."""
    seconds: float


def fit(data: Prepared, seed: int, *, most: int = FLOOR_ITEMS, strength: float | None = None) -> Fitted | None:
    """Return the classical model of the training split; None where the modality has no features of that kind, or of one example.

    Args:
        data: whose training examples it learns from.
        seed: of the sample that is fitted where there are more than `most`.
        most: training examples at most.
        strength: inverse penalty; by cross-validation where None.
    """
    if not possible(data):
        return None
    assert data.task.baseline is not None
    train, began = data.splits["train"], time.perf_counter()
    rows = None
    if len(train) > most:
        rows = np.sort(np.random.default_rng(seed).choice(len(train), most, replace=False))
    chosen = train if rows is None else train[rows]
    described = Description.fitted(data.modality, [data.rows[i] for i in chosen], [data.ingested.store[i] for i in chosen])
    if described is None:
        return None
    description, features = described
    found = classical.fit(
        data.task.baseline,
        features,
        truth(data, train),
        len(data.space.classes),
        words=description.words,
        rows=rows,
        groups=data.units[train],
        strength=strength,
    )
    return Fitted(description=description, classical=found, seconds=time.perf_counter() - began)


def fit_own(data: Prepared, seed: int) -> FittedOwn | None:
    """Return the own baseline of the training split; None where the task has none, or there are too few examples."""
    kind, began = data.task.own_baseline, time.perf_counter()
    if kind is None:
        return None
    train = [data.rows[at] for at in data.splits["train"]]
    found = kind.fit(train, data.space, data.modality, seed)
    return None if found is None else FittedOwn(model=found, examples=len(train), seconds=time.perf_counter() - began)


def possible(data: Prepared) -> bool:
    """Return whether there is a classical model of these data: a task and a modality that have one, and two training examples."""
    return data.task.baseline is not None and bool(data.modality.baseline_words) and len(data.splits["train"]) > 1


def can_be_the_model(data: Prepared) -> bool:
    """Return whether the classical model can be the run's: its scores are what the task reads."""
    return possible(data) and is_choice(data.task, data.modality)


def is_choice(task: Task, modality: Modality) -> bool:
    """Return whether either of network and classical model can be a run's: there is one, whose scores are what the task reads."""
    linear = task.linear is not None and task.linear == task.baseline and bool(modality.baseline_words)
    return linear or task.own_baseline is not None


def require_choice(predictor: str | None, data: Prepared) -> None:
    """Refuse a chosen predictor where there is no choice.

    Raises:
        SettingError: says what has no classical baseline.
    """
    if predictor is None or ((possible(data) or data.task.own_baseline is not None) and is_choice(data.task, data.modality)):
        return
    what = f"task={registry.name_of(data.task)}" if data.modality.baseline_words else f"the modality {registry.name_of(data.modality)}"
    refuse(["predictor"], {"predictor": NotUsed(f"{what}, which has no classical baseline")})


def measured(data: Prepared, fitted: Fitted | None, positions: NDArray[np.int64]) -> dict[str, dict[str, Any]]:
    """Return the baselines of some held-out examples, each {"what": sentence, "value": primary metric, metric: value …}."""
    train, scored = _examples(data, data.splits["train"], nearest=positions), _examples(data, positions)
    model = None if fitted is None else (fitted.classical, fitted.outputs(data, positions))
    found = data.task.floors(train, scored, data.space, model)
    return {name: {"what": floor["what"], "value": floor.get(data.task.primary), **floor} for name, floor in found.items()}


def _examples(data: Prepared, positions: NDArray[np.int64], nearest: NDArray[np.int64] | None = None) -> Examples:
    """Return some examples; with `nearest`, those at these positions can be compared with them."""
    rows, known = [data.rows[i] for i in positions], truth(data, positions)
    described = bool(data.modality.baseline_words) and nearest is not None
    return Examples(rows=rows, truth=known, nearest=(lambda held_out: _nearest(data, positions, nearest)) if described else None)


def _nearest(data: Prepared, positions: NDArray[np.int64], others: NDArray[np.int64]) -> list[int]:
    """Return for each of some other examples the place of the most similar one: by standardised classical features."""
    store = data.ingested.store
    described = Description.fitted(data.modality, [data.rows[i] for i in positions], [store[i] for i in positions])
    assert described is not None
    description, fitted = described
    known, asked = (_dense(features) for features in (fitted, description.features(items(description, data, others))))
    mean, deviation = known.mean(0), np.maximum(known.std(0), 1e-9)
    known, asked = (known - mean) / deviation, (asked - mean) / deviation
    apart = (asked**2).sum(1)[:, None] - 2 * asked @ known.T + (known**2).sum(1)
    return apart.argmin(1).tolist()


def _dense(features: Any) -> NDArray[np.float64]:
    return np.asarray(features.toarray() if hasattr(features, "toarray") else features, dtype=float)


def truth(data: Prepared, positions: NDArray[np.int64]) -> Any:
    """Return labels as metrics take them: class indices, 0 and 1, numbers in the user's units, or what the task says."""
    return data.task.truth(data.encoded.take(torch.from_numpy(positions)), data.space)


def items(description: Description, data: Prepared, positions: NDArray[np.int64]) -> list[Any]:
    """Return what the features of some examples are made of."""
    return [description.item(data.rows[i], data.ingested.store[i]) for i in positions]
