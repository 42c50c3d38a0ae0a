"""What a run predicts with and reports in the end: the network, or the classical baseline in its place."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from pretune.evaluation import baseline as saving
from pretune.evaluation import metrics
from pretune.evaluation.baseline import Baseline
from pretune.evaluation.terms import strongest
from pretune.evaluation.verdict import compared
from pretune.labels import Outputs
from pretune.runner import baselines, costs, score, selection
from pretune.runner.baselines import Fitted
from pretune.runner.outcome import Outcome
from pretune.runner.prepare import Prepared
from pretune.runner.selection import Selecting, Selection
from pretune.tasks import Space
from pretune.training.run_dir import write_atomic

Raw = dict[str, Outputs]
"""Outputs by split."""
Positions = dict[str, np.ndarray]
_TEXTS = 5_000
"""Training texts that are searched for how the strongest terms are written."""


@dataclass(frozen=True, kw_only=True)
class Final:
    """The model of a run, its outputs and its figures."""

    selection: Selection
    raw: Raw
    space: Space
    """With the thresholds of this model."""
    figures: dict[str, dict[str, Any]]
    """By split; the score's has intervals."""
    floors: dict[str, dict[str, Any]]
    is_saved: bool = False
    """Whether the baseline is in the run folder."""
    seconds: dict[str, float] = field(default_factory=dict)
    """What other strategies would take, about; known where the network is no better than the baseline."""
    other: dict[str, Any] = field(default_factory=dict)
    """What metrics.json says of the baseline, and of a network that is not the run's model."""


def settle(done: Outcome, raw: Raw, parts: Positions, selecting: Selecting | None) -> Final:
    """Measure the baselines, choose the run's model, and save the baseline where it is that model or the network is no better.

    Args:
        done: the trained network.
        raw: its outputs by split.
        parts: of which positions.
        selecting: outputs by which models may be compared.
    """
    data, clock, name = done.data, time.perf_counter(), done.data.task.primary
    fitted = done.baseline or baselines.fit(data, done.recipe.training.seed)
    floors = baselines.measured(data, fitted, parts[data.score])
    network = Final(selection=Selection(), raw=raw, space=data.space, figures=_figures(data, raw, parts, data.space), floors=floors)
    done.timing["floors_s"] = time.perf_counter() - clock
    if fitted is None or not baselines.can_be_the_model(data):
        return network
    chosen = selection.select(done.recipe.predictor, done.work, fitted, selecting)
    better = compared(name, network.figures[data.score], floors["classical"]["value"]) == "better"
    network = replace(network, selection=chosen)
    if chosen.model == "network" and chosen.comparison is not None and not chosen.asked:
        done.reporter.say(f"predictor: the network; the classical baseline has {chosen.figures}")
    if chosen.model == "network" and better:
        return network
    if chosen.model == "baseline":
        fitted = selection.refitted(data, fitted, done.recipe.training.seed, done.work.deadline.remaining)
    model = fitted.model(data)
    if not data.task.tunes:
        model = replace(model, thresholds=data.task.thresholds(data.space))
    _save(done, model)
    network = replace(network, is_saved=True, seconds=_seconds(done, parts), other={"baseline": _told(data, fitted, model)})
    done.timing["floors_s"] = time.perf_counter() - clock
    return network if chosen.model == "network" else _replaced(network, data, model, parts)


def _replaced(network: Final, data: Prepared, model: Baseline, parts: Positions) -> Final:
    """Return the baseline in the network's place."""
    space = data.task.thresholded(data.space, model.thresholds)
    raw: Raw = {part: model.outputs(baselines.items(model.description, data, positions)) for part, positions in parts.items()}
    kept = {part: metrics.scalars(figures) for part, figures in network.figures.items()}
    kept[data.score]["interval"] = network.figures[data.score]["interval"]
    figures = _figures(data, raw, parts, space)
    return replace(network, raw=raw, space=space, figures=figures, other={**network.other, "network": kept})


def _figures(data: Prepared, raw: Raw, parts: Positions, space: Space) -> dict[str, dict[str, Any]]:
    labels = {part: data.encoded.take(torch.from_numpy(positions)) for part, positions in parts.items()}
    figures = {part: score.measure(out, labels[part], data.task, space) for part, out in raw.items()}
    part = data.score
    figures[part]["interval"] = score.interval(raw[part], labels[part], data, part, parts[part], space)
    return figures


def _seconds(done: Outcome, parts: Positions) -> dict[str, float]:
    return costs.of_strategies(done.work, done.timing["evaluation_s"], sum(len(positions) for positions in parts.values()))


def _save(done: Outcome, model: Baseline) -> None:
    """Write the baseline into the run folder, weights first."""
    (done.folder.path / saving.FOLDER).mkdir(exist_ok=True)
    write_atomic(done.folder.path / saving.WEIGHTS, save(model.tensors()))
    done.folder.write_json(saving.SETTINGS, model.settings())


def _told(data: Prepared, fitted: Fitted, model: Baseline) -> dict[str, Any]:
    """Return what metrics.json says of a saved baseline."""
    train = data.parts["train"][:_TEXTS]
    texts = baselines.items(model.description, data, train) if model.description.floor.nameable else []
    return {
        "what": model.what,
        "columns": len(model.model.weight),
        "strength": fitted.classical.fitted.strength,
        "examples": len(fitted.classical.rows),
        "terms": strongest(model, list(data.space.classes), texts),
    }
