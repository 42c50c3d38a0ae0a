"""What a run predicts with and reports in the end: the network, or the classical baseline in its place."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from safetensors.torch import save

from pretune.evaluation import baseline as saving
from pretune.evaluation import metrics
from pretune.evaluation.baseline import Baseline
from pretune.evaluation.terms import strongest
from pretune.evaluation.verdict import compared
from pretune.labels import Outputs
from pretune.runner import baselines, costs, score, selection, start
from pretune.runner.baselines import Fitted
from pretune.runner.prepare import Prepared
from pretune.runner.selection import Selecting, Selection
from pretune.runner.state import FineTuningState
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
    texts: dict[int, str] = field(default_factory=dict)
    """What the run's model wrote, by position, where that is not the network."""
    other: dict[str, Any] = field(default_factory=dict)
    """What metrics.json says of the baseline, and of a network that is not the run's model."""


def settle(state: FineTuningState, raw: Raw, measured: Positions, selecting: Selecting | None) -> Final:
    """Measure the baselines, choose the run's model, and save the baseline where it is that model or the network is no better.

    Args:
        state: with the trained network.
        raw: its outputs by split.
        measured: the positions that they are of.
        selecting: outputs by which models may be compared.
    """
    data, clock, name = state.data, time.perf_counter(), state.data.task.primary
    fitted = state.baseline or baselines.fit(data, state.recipe.training.seed)
    floors = start.baseline(state, raw[data.score], measured[data.score]) | baselines.measured(data, fitted, measured[data.score])
    network = Final(selection=Selection(), raw=raw, space=data.space, figures=_figures(data, raw, measured, data.space), floors=floors)
    state.run.timing["floors_s"] = time.perf_counter() - clock
    if fitted is None or not baselines.can_be_the_model(data):
        return network
    chosen = selection.select(state.recipe.predictor, state, fitted, selecting)
    better = compared(name, network.figures[data.score], floors["classical"]["value"]) == "better"
    network = replace(network, selection=chosen)
    if chosen.model == "network" and chosen.comparison is not None and not chosen.asked:
        state.run.reporter.say(f"predictor: the network; the classical baseline has {chosen.figures}")
    if chosen.model == "network" and better:
        return network
    if chosen.model == "baseline":
        fitted = selection.refitted(data, fitted, state.recipe.training.seed, state.run.deadline.remaining)
    model = fitted.model(data)
    if not data.task.tunes:
        model = replace(model, thresholds=data.task.thresholds(data.space))
    _save(state, model)
    network = replace(network, is_saved=True, seconds=_seconds(state, measured), other={"baseline": _described(data, fitted, model)})
    state.run.timing["floors_s"] = time.perf_counter() - clock
    return network if chosen.model == "network" else _replaced(network, data, model, measured)


def _replaced(network: Final, data: Prepared, model: Baseline, measured: Positions) -> Final:
    """Return the baseline in the network's place."""
    space = data.task.thresholded(data.space, model.thresholds)
    raw: Raw = {split: model.outputs(baselines.items(model.description, data, positions)) for split, positions in measured.items()}
    kept = {split: metrics.scalars(figures) for split, figures in network.figures.items()}
    kept[data.score]["interval"] = network.figures[data.score]["interval"]
    figures = _figures(data, raw, measured, space)
    return replace(network, raw=raw, space=space, figures=figures, other={**network.other, "network": kept})


def _figures(data: Prepared, raw: Raw, measured: Positions, space: Space) -> dict[str, dict[str, Any]]:
    labels = {split: data.labels_at(positions) for split, positions in measured.items()}
    figures = {split: score.measure(out, labels[split], data.task, space) for split, out in raw.items()}
    scored, rows = data.score, [data.rows[i] for i in measured[data.score]]
    figures[scored]["interval"] = score.interval(raw[scored], labels[scored], rows, data.task, space)
    return figures


def _seconds(state: FineTuningState, measured: Positions) -> dict[str, float]:
    return costs.of_strategies(state, state.run.timing["evaluation_s"], sum(len(positions) for positions in measured.values()))


def _save(state: FineTuningState, model: Baseline) -> None:
    """Write the baseline into the run folder, weights first."""
    (state.run.folder.path / saving.FOLDER).mkdir(exist_ok=True)
    write_atomic(state.run.folder.path / saving.WEIGHTS, save(model.tensors()))
    state.run.folder.write_json(saving.SETTINGS, model.settings())


def _described(data: Prepared, fitted: Fitted, model: Baseline) -> dict[str, Any]:
    """Return what metrics.json says of a saved baseline."""
    train = data.splits["train"][:_TEXTS]
    texts = baselines.items(model.description, data, train) if model.description.floor.nameable else []
    return {
        "what": model.what,
        "columns": len(model.model.weight),
        "strength": fitted.classical.fitted.strength,
        "examples": len(fitted.classical.rows),
        "terms": strongest(model, list(data.space.classes), texts),
    }
