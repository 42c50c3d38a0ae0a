"""The pretrained network before anything is learned, measured on the examples of the score: what training is compared with."""

from __future__ import annotations

from typing import Any

import numpy as np

from pretune.evaluation import intervals
from pretune.evaluation.sums import Sums
from pretune.evaluation.wording import show, words
from pretune.labels import Outputs
from pretune.runner import budget, score
from pretune.runner.state import FineTuningState

_START = "start"
"""The decision that holds the figures."""
_SUMS = "start/sums"
"""The decision that holds each example's sums, which a difference needs."""
_MOST = 5_000
"""Examples whose sums are kept at most."""


def measure(state: FineTuningState) -> None:
    """Measure it on the examples that the final figures are of, where the task wants it; a resumed run has the figures it began with."""
    data, run = state.data, state.run
    if not state.measures_start or state.start is not None:
        return
    made = run.training.decisions.made(_START)
    figures, sums = _measured(state) if made is None else (made, [])  # by all processes together
    state.start = run.training.decisions.make(_START, lambda: figures)
    run.training.decisions.make(_SUMS, lambda: sums)
    name = data.task.primary
    run.reporter.say(f"before training: {data.score} {words(name)} {show(name, state.start[name])}")


def _measured(state: FineTuningState) -> tuple[dict[str, float], list[list[float]]]:
    """Return the figures, and the sums over each example where they are few enough to keep."""
    data, run = state.data, state.run
    run.reporter.progress("measuring the pretrained network", 0, 0)
    positions = budget.measured(state)[data.score]
    raw = score.outputs(state.learner, state.view(positions), run.device, state.precision, score.at_once(data.task))
    found = score.measure(raw, data.labels_at(positions), data.task, data.space)
    sums = _sums(state, raw, positions) if len(positions) <= _MOST else None
    return {name: value for name, value in found.items() if isinstance(value, float)}, [] if sums is None else sums.sums.tolist()


def baseline(state: FineTuningState, raw: Outputs, positions: np.ndarray) -> dict[str, dict[str, Any]]:
    """Return the network before training as a baseline, where it was measured, and report what training changed.

    Args:
        state: with the trained network.
        raw: its outputs for the examples of the score.
        positions: of these examples.
    """
    what, start, name = "the pretrained network before training", state.start, state.data.task.primary
    if start is None:
        return {}
    out = {"what": what, "value": start[name], **start}
    change = _change(state, raw, positions)
    if change is not None:
        difference, low, high = change
        out |= {"difference": difference, "difference_interval": [low, high]}
        state.run.reporter.say(
            f"training changed the {state.data.score} {words(name)} by {difference:+.4f} "
            f"(95 % interval {low:+.4f} to {high:+.4f}, paired over {len(positions):,} examples)"
        )
    return {"start": out}


def _change(state: FineTuningState, raw: Outputs, positions: np.ndarray) -> tuple[float, float, float] | None:
    """Return how much the leading metric changed, with its interval; None where that cannot be known."""
    before, after = state.run.training.decisions.made(_SUMS), _sums(state, raw, positions)
    if not before or after is None or len(before) != len(after.sums):
        return None
    groups = [state.data.rows[i].group for i in positions]
    known = np.array(groups) if all(group is not None for group in groups) else None
    earlier = Sums(sums=np.array(before), statistics=after.statistics)
    return intervals.of_difference(earlier, after, state.data.task.primary, known)


def _sums(state: FineTuningState, raw: Outputs, positions: np.ndarray) -> Sums | None:
    """Return the sums over each example that the leading metric is a function of; None where the task has none."""
    data, task = state.data, state.data.task
    truth = task.truth(data.labels_at(positions), data.space)
    found = task.sums(task.decode(raw, data.space), truth, data.space)
    return next((one for one in found if task.primary in one.statistics and len(one.sums) == len(positions)), None)
