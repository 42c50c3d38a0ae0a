"""A task's own baseline in a run: fitted on the training examples, measured, and the run's model where it is better than the network.

The examples of the score choose nothing: both models predict for examples of the split that selects.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save

from pretune.evaluation import baseline as saving
from pretune.evaluation import metrics
from pretune.evaluation.comparison import of_scores
from pretune.evaluation.verdict import compared
from pretune.runner import writing
from pretune.runner.fallback import Final, Positions
from pretune.runner.prepare import Prepared
from pretune.runner.selection import Selection, split_in_words
from pretune.runner.state import FineTuningState
from pretune.runner.writing import WrittenAnswers
from pretune.tasks import OwnBaseline, WritingTask
from pretune.training.run_dir import write_atomic

_SELECTING = 128
"""Examples at most that the network writes for to be compared."""
_NOISE = 1.0
"""Standard errors by which the network must be the better one: of two models within one, the simpler is taken (the rule of one standard
error of Breiman et al., "Classification and Regression Trees", 1984)."""
_OF_TIME = 0.4
"""Share of the remaining time that it may take."""


def selecting(state: FineTuningState) -> WrittenAnswers:
    """Return what the network writes for examples that may choose; nothing where the person chose, or there is no such model or split."""
    data = state.data
    if state.own is None or state.recipe.predictor is not None or data.selects is None:
        return WrittenAnswers()
    return writing.write(state, data.splits[data.selects], most=_SELECTING, share=_OF_TIME, check_faults=False)


def settle(state: FineTuningState, network: Final, measured: Positions, chosen: WrittenAnswers) -> Final:
    """Measure the own baseline beside the network, choose, and save it where it is the run's model or the network is no better.

    Args:
        state: with the trained network.
        network: its figures; those of written texts among them.
        measured: positions that figures are of, by split.
        chosen: what the network wrote for examples that may choose.
    """
    data, own, task = state.data, state.own, state.data.task
    if own is None or not isinstance(task, WritingTask):
        return network
    held_out = {split: positions for split, positions in measured.items() if split != "train"}
    texts = {split: own.model.predict(_rows(data, positions)) for split, positions in held_out.items()}
    figures = {split: _figures(data, task, held_out[split], texts[split]) for split in held_out}
    name, score = task.primary, data.score
    floor = {"what": own.model.what, "value": figures[score][name], **metrics.scalars(figures[score])}
    network = replace(network, floors=network.floors | {own.model.name: floor})
    selection = _selected(state, task, own.model, chosen)
    network = replace(network, selection=selection)
    if selection.model == "network" and compared(name, network.figures[score], floor["value"]) == "better":
        return network
    _save(state, own.model)
    network = replace(network, is_saved=True, other=network.other | {"baseline": {"what": own.model.what, "examples": own.examples}})
    if selection.model == "network":
        return network
    kept = {split: metrics.scalars(values) for split, values in network.figures.items()}
    kept[score]["interval"] = network.figures[score].get("interval", {})
    by_place = {int(at): text for split, positions in held_out.items() for at, text in zip(positions, texts[split], strict=True)}
    return replace(network, figures=figures, texts=by_place, other=network.other | {"network": kept})


def _selected(state: FineTuningState, task: WritingTask, own: OwnBaseline, chosen: WrittenAnswers) -> Selection:
    """Return which model is the run's: the network, where it is better by more than chance, else the baseline."""
    wanted, reporter = state.recipe.predictor, state.run.reporter
    if wanted is not None or not chosen.texts:
        return Selection(model=wanted or "network", asked=wanted is not None)
    data, places = state.data, np.array(list(chosen.texts))
    rows = _rows(data, places)
    scores = [task.text_scores(rows, texts) for texts in (list(chosen.texts.values()), own.predict(rows))]
    comparison = of_scores(task.primary, scores[0], scores[1], data.units[places])
    network = comparison.gain < -_NOISE * comparison.error
    found = Selection(model="network" if network else "baseline", by=split_in_words(data), comparison=comparison)
    taken, other = ("the network", f"the {own.name}") if network else (f"the {own.name}", "the network")
    equal = "" if network or comparison.gain > 0 else "; within one standard error, the simpler model is taken"
    reporter.say(f"predictor: {taken} rather than {other}; the baseline has {found.figures}{equal}")
    return found


def _rows(data: Prepared, positions: NDArray[np.int64]) -> list[Any]:
    return [data.rows[at] for at in positions]


def _figures(data: Prepared, task: WritingTask, positions: NDArray[np.int64], texts: list[str]) -> dict[str, Any]:
    """Return the figures of texts, with intervals."""
    rows, train = _rows(data, positions), _rows(data, data.splits["train"])
    return writing.measure(task, rows, texts, train)


def _save(state: FineTuningState, own: OwnBaseline) -> None:
    """Write it into the run folder, numbers first."""
    folder = state.run.folder
    (folder.path / saving.FOLDER).mkdir(exist_ok=True)
    tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in own.arrays().items()}
    write_atomic(folder.path / saving.WEIGHTS, save(tensors))
    folder.write_json(saving.SETTINGS, {"own": own.settings()})
