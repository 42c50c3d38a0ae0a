"""What one phase of training is to do, and how far it has come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pretune.training.optim import Optim
from pretune.training.schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class Precision:
    """How a step computes."""

    bfloat16: bool = False
    """Autocast to bfloat16."""
    channels_last: bool = False
    micro_batch: int | None = None
    """Examples computed at once; gradients are accumulated to the whole batch."""
    reason: str = "float32 by default"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that is constant within a phase."""

    number: int
    """Position of the phase in the run, from 0."""
    phase: str
    epochs: int
    lr: float
    weight_decay: float = 0.0
    optim: Optim = field(default_factory=Optim)
    schedule: Schedule = field(default_factory=Schedule)
    clip: float | None = 1.0
    """Largest norm of the gradient."""
    ema: float | None = None
    patience: int | None = None
    """Evaluations without improvement before the phase stops; needs a part that selects."""
    budget: float | None = None
    """Seconds of the phase; the number of steps is planned, and planned again, to fill them."""
    steps: int | None = None
    """Steps that about fill the budget, before any is measured; None for those of all epochs."""
    log_every: int = 1
    """Steps between Stepped events, but for one at the end of each epoch; each tells the mean loss since the one before."""
    evaluate_every: int = 1
    """Epochs between evaluations."""
    save_seconds: float = 30.0
    """Seconds between checkpoints."""
    extensible: bool = False
    """Whether the state before a warm-up-stable-decay schedule begins to fall is kept, so that the phase can be extended."""
    spikes: bool = False
    """Whether a step whose loss stands out from those before it is warned of."""
    seed: int = 0
    precision: Precision = field(default_factory=Precision)
    threads: int | None = None
    """CPU threads that compute a step; None for the process's own."""


_EARLIER = {"aside": "overhead", "drops": "plateaus"}
"""Names of `Progress` in older checkpoints -> today's."""


@dataclass(kw_only=True)
class Progress:
    """How far a phase has come: everything but tensors and random streams that a resume needs."""

    steps: int
    """Steps planned in all, as of now."""
    step: int = 0
    epoch: int = 0
    batch: int = 0
    """Batches of the epoch that are done."""
    seconds: float = 0.0
    waited: float = 0.0
    overhead: float = 0.0
    """Seconds that went into measuring held-out splits and saving."""
    spent: float = 0.0
    """Seconds of the phase in all, attempts that failed included: what a time budget pays."""
    best: float | None = None
    stale: int = 0
    """Evaluations since the best."""
    plateaus: int = 0
    """Plateaus met."""
    micro_batch: int | None = None
    """Examples computed at once; memory may have halved it."""
    failures: int = 0
    """Times the phase was begun again at half the learning rate."""
    smooth: float | None = None
    """Running mean of the loss, to notice divergence."""
    lowest: float | None = None
    """Lowest running mean."""
    marked: bool = False
    """Whether the state before the rate falls has been kept."""
    spread: float | None = None
    """Running mean of how far the loss is from its running mean, to notice spikes."""

    def to_json(self) -> dict[str, Any]:
        """Return the progress, JSON-ready."""
        return asdict(self)

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Progress:
        """Return the progress that a checkpoint holds, also one that was saved under earlier names."""
        return cls(**{_EARLIER.get(name, name): value for name, value in saved.items()})
