"""Learning rate as a pure function of how far the phase has come, so that plans can change under way."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Annotated, Literal

from pretune.config import Within
from pretune.types import NotUsed

Shape = Literal["one_cycle", "cosine", "linear", "step", "plateau", "constant", "wsd"]


_READ: dict[Shape, tuple[str, ...]] = {
    "one_cycle": ("warmup", "floor"),
    "cosine": ("warmup", "floor"),
    "linear": ("warmup", "floor"),
    "step": ("warmup", "floor", "milestones", "gamma"),
    "plateau": ("warmup", "floor", "gamma", "patience"),
    "constant": ("warmup",),
    "wsd": ("warmup", "floor", "decay"),
}
"""What each shape reads besides its name."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The learning rate's course; `factor(progress)` multiplies the peak rate."""

    name: Shape = "one_cycle"
    """one_cycle, cosine, linear, step, plateau, constant, or wsd (warm-up, stable, decay)."""
    warmup: Annotated[float, Within(0, 0.9)] = 0.1
    """Fraction of the phase over which the learning rate rises linearly (one_cycle: along a cosine)."""
    floor: Annotated[float, Within(0, 1)] = 0.0
    """Final learning rate, as a fraction of the peak."""
    milestones: Annotated[int, Within(1)] = 3
    """step: number of equal spans of the phase."""
    gamma: Annotated[float, Within(0, 1, above=True)] = 0.1
    """step, plateau: factor of each drop."""
    patience: Annotated[int, Within(1)] = 3
    """plateau: evaluations without improvement before a drop."""
    decay: Annotated[float, Within(0, 1)] = 0.2
    """wsd: fraction of the phase, at its end, over which the learning rate decays."""

    def unread(self) -> dict[str, NotUsed]:
        """Return the settings that this shape does not have."""
        out = {}
        for key in (f.name for f in fields(self) if f.name not in ("name", *_READ[self.name])):
            shapes = [f"schedule={shape}" for shape, keys in _READ.items() if key in keys]
            out[key] = NotUsed(f"schedule={self.name}", f"choose {' or '.join(shapes)}")
        if self.name == "step" and self.milestones == 1:
            out["gamma"] = NotUsed("schedule.milestones=1, which is one span and never drops", "raise schedule.milestones")
        return out

    def factor(self, progress: float, plateaus: int = 0) -> float:
        """Return the multiplier of the peak rate.

        Args:
            progress: share of the phase that is done, in [0, 1].
            plateaus: how often a plateau has been met (plateau only).
        """
        if progress < self.warmup:
            rise = progress / self.warmup
            return 0.04 + 0.96 * (0.5 - 0.5 * math.cos(math.pi * rise)) if self.name == "one_cycle" else rise
        x = min(1.0, (progress - self.warmup) / max(1e-9, 1 - self.warmup))
        if self.name in ("one_cycle", "cosine"):
            return self.floor + (1 - self.floor) * (0.5 + 0.5 * math.cos(math.pi * x))
        if self.name == "linear":
            return self.floor + (1 - self.floor) * (1 - x)
        if self.name == "step":
            return max(self.floor, self.gamma ** min(int(x * self.milestones), self.milestones - 1))
        if self.name == "plateau":
            return max(self.floor, self.gamma**plateaus)
        if self.name == "wsd" and progress > 1 - self.decay:
            return self.floor + (1 - self.floor) * (1 - min(1.0, (progress - 1 + self.decay) / max(1e-9, self.decay)))
        return 1.0
