"""What a loop needs besides a learner and batches: how validation sets are measured, and what outlives a phase."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pretune.training.checkpoint import Checkpoints, Decisions
from pretune.training.device import Device
from pretune.training.distribution import Distribution
from pretune.training.pace import Clock
from pretune.training.plan import Progress


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """What a learning curve shows after an epoch."""

    metrics: dict[str, float]
    examples: int
    """Examples that were measured."""


Curve = Callable[[Progress, bool], CurvePoint | None]
"""(progress, whether the phase ends here) -> the point, None for none; the model is in eval mode."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How splits are measured between epochs."""

    splits: Mapping[str, Callable[[], dict[str, float]]]
    """Split -> function that returns its metrics, the model being in eval mode."""
    curves: Mapping[str, Curve] = field(default_factory=dict)
    """Split -> its learning curve, which chooses nothing."""
    selects: str | None = None
    """The split whose `primary` metric stops early and keeps the best; None keeps the last."""
    starts: bool = False
    """Whether the weights at the start are measured too, so that the best ones are never worse than those."""
    primary: str = "accuracy"
    higher_is_better: bool = True


@dataclass(frozen=True, kw_only=True)
class TrainingContext:
    """What outlives a phase."""

    device: Device
    checkpoints: Checkpoints
    decisions: Decisions
    distribution: Distribution | None = None
    """How processes share the learner; None for data parallel where there are several."""
    clock: Clock | None = None
    """The run's, which whoever suspends it stops; None counts the loop's own time: it stands still between two events."""
    stop: Callable[[], bool] = lambda: False
    """Whether the person asked to stop: the next event then comes after the current step."""
