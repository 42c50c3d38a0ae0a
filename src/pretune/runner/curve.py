"""The learning curve on held-out examples: measured between epochs for the report alone, at a small share of the training time.

It chooses nothing. Where the validation set is also the score, a checkpoint, an epoch or a setting that was chosen by it would make
the score optimistic; `patience=` sets training examples aside for that.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np

from pretune.runner import score
from pretune.runner.state import FineTuningState
from pretune.training.context import CurvePoint
from pretune.training.plan import Progress

SHARE = 0.1
"""Share of a phase's training time that its curve takes, about."""
FREE = 0.3
"""Seconds that a curve may take however short the training is."""
ENOUGH = 200
"""Examples of a point: rather than fewer, every second or third epoch is measured."""
POINTS = 5
"""Points of a curve that there should be: rather than fewer, fewer examples are measured."""
LEAST = 8
"""Examples of a point at least."""
_TIMED = 32
"""Examples by which the cost of all is measured."""


@dataclass(frozen=True, kw_only=True)
class CurvePlan:
    """How much of a split is measured, and how often."""

    examples: int
    every: int
    """Epochs between two points; the last epoch has one too."""


def planned(*, epochs: int, examples: int, affordable: float) -> CurvePlan:
    """Return a curve that costs about what it may.

    Args:
        epochs: of the phase.
        examples: of the split.
        affordable: examples that may be measured in the whole phase.
    """
    enough = min(examples, ENOUGH)
    points = min(epochs, max(POINTS, int(affordable / enough)))
    every = math.ceil(epochs / points)
    size = int(affordable / math.ceil(epochs / every))
    return CurvePlan(examples=min(examples, max(LEAST, size)), every=every)


def split_of(state: FineTuningState) -> str | None:
    """Return the split that the curve is drawn of: the validation set, else what is scored; None where one that selects has a curve."""
    splits = state.data.splits
    return None if "select" in splits else next((name for name in ("val", state.data.score) if name in splits), None)


@dataclass(kw_only=True)
class LearningCurve:
    """Measures one split in one phase."""

    state: FineTuningState
    number: int
    """Of the phase."""
    split: str

    def __call__(self, progress: Progress, last: bool) -> CurvePoint | None:
        """Return the figures after an epoch; None where the plan has no point here.

        Args:
            progress: of the phase.
            last: whether the phase ends here. A phase with a time limit has no time for it then: the score itself is the last point.
        """
        state = self.state
        if last and state.run.deadline.total is not None:
            return None
        plan = self._plan(progress)
        if progress.epoch % plan.every and not last:
            return None
        data, seed = state.data, state.recipe.training.seed
        positions = data.splits[self.split]
        if plan.examples < len(positions):
            positions = score.sampled({self.split: positions}, self.split, plan.examples, seed, data.kept_whole)[self.split]
        return CurvePoint(metrics=self._measure(positions), examples=len(positions))

    def _plan(self, progress: Progress) -> CurvePlan:
        """Return the phase's plan, made after its first epoch; a resumed run has the one that was made."""
        state, key = self.state, f"{self.number}/curve"
        decisions, clock = state.run.training.decisions, state.run.deadline.clock
        seconds = 0.0
        few = state.data.splits[self.split][:_TIMED]
        if decisions.made(key) is None:  # every process takes part
            began = clock.seconds
            self._measure(few)
            seconds = (clock.seconds - began) / len(few)

        def decide() -> dict[str, int]:
            steps = max(1, progress.step)
            epochs = max(1, round(progress.steps / steps * max(1, progress.epoch)))
            allowed = max(FREE, SHARE * progress.seconds / steps * progress.steps)
            found = planned(epochs=epochs, examples=len(state.data.splits[self.split]), affordable=allowed / max(1e-9, seconds))
            return asdict(found)

        return decisions.built(CurvePlan, key, decide)

    def _measure(self, positions: np.ndarray) -> dict[str, float]:
        state, data = self.state, self.state.data
        raw = score.outputs(state.learner, state.view(positions), state.run.device, state.precision, score.at_once(data.task))
        figures = score.measure(raw, data.labels_at(positions), data.task, data.space)
        return {name: value for name, value in figures.items() if isinstance(value, float)}
