"""The pretrained network before anything is learned, measured on the examples of the score: what training is compared with."""

from __future__ import annotations

from typing import Any

from pretune.evaluation.wording import show, words
from pretune.runner import budget, score
from pretune.runner.state import FineTuningState

_START = "start"
"""The decision that holds the figures."""


def measure(state: FineTuningState) -> None:
    """Measure it on the examples that the final figures are of, where the task wants it; a resumed run has the figures it began with."""
    data, run = state.data, state.run
    if not state.measures_start or state.start is not None:
        return

    def figures() -> dict[str, float]:
        run.reporter.progress("measuring the pretrained network", 0, 0)
        positions = budget.measured(state)[data.score]
        raw = score.outputs(state.learner, state.view(positions), run.device, state.precision, score.at_once(data.task))
        found = score.measure(raw, data.labels_at(positions), data.task, data.space)
        return {name: value for name, value in found.items() if isinstance(value, float)}

    state.start = run.training.decisions.make(_START, figures)
    name = data.task.primary
    run.reporter.say(f"before training: {data.score} {words(name)} {show(name, state.start[name])}")


def baseline(state: FineTuningState) -> dict[str, dict[str, Any]]:
    """Return the network before training as a baseline, where it was measured."""
    what, start = "the pretrained network before training", state.start
    return {} if start is None else {"start": {"what": what, "value": start[state.data.task.primary], **start}}
