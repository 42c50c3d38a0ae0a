"""What other strategies would cost on this machine, from what this run measured: about."""

from __future__ import annotations

import math

from pretune import registry
from pretune.runner.budget import BATCH, STEP
from pretune.runner.state import FineTuningState
from pretune.strategies import Strategy, suggested


def of_strategies(state: FineTuningState, evaluation: float, examples: int) -> dict[str, float]:
    """Return the seconds that other strategies would take, by name; empty where a forward pass was not measured.

    Args:
        state: of the run, with the trained network.
        evaluation: seconds that its outputs took.
        examples: of which.
    """
    data, frozen = state.data, state.frozen
    if frozen is not None and frozen.seconds is None:
        return {}
    below = 0.0 if frozen is None or frozen.seconds is None else frozen.seconds / (len(data.rows) * frozen.views)
    each = below + evaluation / max(1, examples)
    return {name: each * _passes(state, registry.load("strategies", name)()) for name in ("partial", "full")}


def _passes(state: FineTuningState, strategy: Strategy) -> float:
    """Return how many forward passes of one example a strategy's default takes: a probe, training, and the final figures."""
    data = state.data
    train, stages = len(data.splits["train"]), len(state.model.body)
    epochs = suggested(strategy, registry.name_of(data.modality)).epochs_over(math.ceil(train / BATCH))
    opened = max(stages if phase.open is None else min(stages, phase.open) for phase in strategy.phases(max(stages, 2)))
    return 2 * len(data.rows) + STEP * train * epochs * opened / max(1, stages)
