"""What the loop says while it runs; the terminal, events.jsonl and every other watcher read these."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something happened at a step of a phase."""

    phase: str
    step: int
    """Optimizer steps done in this phase."""

    def to_json(self) -> dict[str, Any]:
        """Return the event as one JSON-ready object, `event` naming its kind."""
        return {"event": type(self).__name__.lower(), **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class Started(Event):
    """A phase begins (or goes on after a resume)."""

    steps: int
    """Steps planned in all."""
    trainable: int
    """Trainable parameters."""


@dataclass(frozen=True, kw_only=True)
class Stepped(Event):
    """The optimizer steps since the last event of this kind: of one epoch, and each step is in one event."""

    epoch: int
    loss: float
    """Mean over the steps."""
    lr: float
    """Of the last step."""
    size: int
    """Examples of the steps' batches, over all ranks."""
    steps: int
    """Steps planned in all, as of now."""
    seconds: float
    """Training seconds of the phase so far."""
    waited: float
    """Seconds of those spent waiting for data."""
    logs: dict[str, float] = field(default_factory=dict)
    """What the learner logged at the last step."""


@dataclass(frozen=True, kw_only=True)
class Evaluated(Event):
    """Metrics of a held-out split."""

    epoch: int
    split: str
    metrics: dict[str, float]
    best: bool
    """Whether this is the best so far, on the split that selects."""
    examples: int | None = None
    """Examples that were measured, of a learning curve that chooses nothing."""


@dataclass(frozen=True, kw_only=True)
class Saving(Event):
    """A checkpoint is about to be written: who records events writes down those before it first, or a killed run loses them."""


@dataclass(frozen=True, kw_only=True)
class Saved(Event):
    """A checkpoint is on disk, complete."""

    path: str


@dataclass(frozen=True, kw_only=True)
class Warned(Event):
    """Something went wrong and was handled; the sentence says what and how."""

    message: str
    restart: bool = False
    """Whether the phase begins again from its first step."""


@dataclass(frozen=True, kw_only=True)
class Finished(Event):
    """The phase is over."""

    reason: str
    """completed | early_stopped | time | solved (no step was taken)"""
    seconds: float
