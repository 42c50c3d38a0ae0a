"""How much of fine-tuning fits into the time there is: a phase's seconds, its first guess of steps, the examples that are measured."""

from __future__ import annotations

import numpy as np

from pretune.runner import score
from pretune.runner.state import FineTuningState
from pretune.tasks import Task, WritingTask

BATCH = 32
"""Examples of a step where no batch size is given."""
MAX_EPOCHS_IN_TIME = 100
"""Epochs at most where a time is given and no number of epochs."""
POINTS = 500
"""Points of a loss curve, about, where steps are quick."""
STEP = 3
"""How many times as long as a forward pass a training step takes, about."""
REPORT = 3.0
"""Seconds that weights, intervals, images of examples and the report take."""
OF_A_PROBE = 0.3
"""Share of the time for a probe before other phases."""
_MEASURING = 0.4
"""Share of the time at most that measuring takes; where it would take more, a sample is measured."""
_WRITING, _SCORED = 0.1, 0.2
"""Share of the time that is kept for the answers of a task that writes; and of one whose score is that of its answers."""
_MEASURED = "measured/examples"
"""The decision how many examples are measured."""
_CHOOSING = 0.1
"""Share of a phase's time that measuring the split that selects takes at most, each time."""
_CHOOSE = 64
"""Examples by which weights are chosen at least, where there are as many."""
_FEW = 16
"""Examples of a batch that is timed where each costs a pass through the network."""


def is_small(state: FineTuningState) -> bool:
    """Return whether a step is only a head of at most a million parameters on pooled features."""
    frozen = state.frozen
    return frozen is not None and frozen.layout == "pooled" and sum(p.numel() for p in state.model.head.parameters()) <= 1_000_000


def batch_size(state: FineTuningState, examples: int) -> int:
    """Return the recipe's, else the task's, else `BATCH`; of cached features a hundredth of the data, up to 1024."""
    cached = state.frozen is not None and examples >= 100
    usual = min(1024, max(BATCH, 1 << (examples // 100).bit_length() - 1)) if cached else BATCH
    return state.recipe.training.batch_size or state.data.task.batch or usual


def steps(state: FineTuningState, seconds: float, each: float, examples: int) -> int:
    """Return about how many steps fill a phase, before any is measured, at `each` seconds of an example's forward pass."""
    return max(1, int(seconds / max(1e-9, each * STEP * batch_size(state, examples))))


def of_phase(state: FineTuningState, number: int) -> tuple[float | None, float]:
    """Return a phase's seconds, its share of what is left for it and those after it, and those of an example's forward pass.

    Decided once: a resumed phase has what it was begun with. None and 0 where no time was given.
    """
    run, data, phases = state.run, state.data, state.phases
    if run.deadline.total is None:
        return None, 0.0
    decisions, phase = run.training.decisions, phases[number]
    total = sum(len(positions) for positions in _all_measured(state).values())
    times = 1 + score.SCORED if state.measures_start else 1  # the network before training on the examples of the score alone

    def decide() -> tuple[float, float]:
        size = min(score.at_once(data.task), 64 if state.frozen is not None else _FEW)
        view = state.view(data.splits[data.score])
        each = score.seconds_per_item(state.learner, view, run.device, state.precision, size, lambda: run.deadline.clock.seconds)
        remaining = max(0.0, run.deadline.remaining - REPORT - _writing(data.task) * (run.deadline.total or 0.0))
        left = remaining - min(_MEASURING * remaining, times * each * total)
        share = OF_A_PROBE if phase.epochs is not None else phase.share / sum(p.share for p in phases[number:])
        return left * share, each

    budget, each = decisions.make(f"{number}/time", decide)
    if number == len(phases) - 1 and state.frozen is None:
        fits = _MEASURING / (1 - _MEASURING) * budget / max(1e-9, times * each)
        decisions.make(_MEASURED, lambda: max(1, min(total, int(fits))))
    return budget, each


def _writing(task: Task) -> float:
    """Return the share of the time that is kept for writing."""
    if not isinstance(task, WritingTask):
        return 0.0
    return _SCORED if task.scores_texts else _WRITING


def choosing(state: FineTuningState, number: int, split: str) -> np.ndarray:
    """Return the examples of the split that selects which are measured between epochs: all, or as many as a phase's time allows."""
    positions, decided = state.data.splits[split], state.run.training.decisions.made(f"{number}/time")
    if decided is None:
        return positions
    seconds, each = decided
    count = max(_CHOOSE, int(_CHOOSING * seconds / max(1e-9, each)))
    if count >= len(positions):
        return positions
    few = score.few(positions, count, np.random.default_rng(state.recipe.training.seed), state.data.kept_whole)
    state.run.reporter.say(
        f"weights are chosen by {len(few):,} of {len(positions):,} examples of {split}, a random sample: "
        f"time={state.run.deadline.total:g}s allows no more"
    )
    return few


def _all_measured(state: FineTuningState) -> dict[str, np.ndarray]:
    return score.measured(state.data, seed=state.recipe.training.seed, costly=state.frozen is None)


def measured(state: FineTuningState) -> dict[str, np.ndarray]:
    """Return the positions that the final figures are of, by split: where the time does not allow all, a random sample."""
    found, count, run, data = _all_measured(state), state.run.training.decisions.made(_MEASURED), state.run, state.data
    if count is None or sum(len(positions) for positions in found.values()) <= count:
        return found
    few = score.sampled(found, data.score, count, state.recipe.training.seed, data.kept_whole)
    if len(few[data.score]) == len(found[data.score]):
        return few
    run.reporter.warn(
        f"{data.score} figures are those of {len(few[data.score]):,} of {len(found[data.score]):,} examples, a random sample: "
        f"time={run.deadline.total:g}s allows no more. pretune evaluate measures all of them"
    )
    return few
