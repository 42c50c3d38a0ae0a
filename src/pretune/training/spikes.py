"""Losses that stand out from those before them."""

from __future__ import annotations

import math

from pretune.training.plan import Progress

SPIKE = 8.0
"""How many times its usual distance from the running mean a loss must be above it to be a spike."""
SPIKES_FROM = 50
"""Losses after which that usual distance is known."""


def spike(now: Progress, loss: float, steps: int, every: int) -> str:
    """Return a sentence where a loss is a spike, else '', and remember how far it was from the running mean.

    Args:
        now: the phase's progress, whose `spread` is kept here.
        loss: the mean of the last steps, of all processes: all must have the same events.
        steps: those that it is the mean of.
        every: steps between two reported losses.
    """
    if now.smooth is None or not math.isfinite(loss):
        return ""
    distance, spread = (loss - now.smooth) * math.sqrt(steps / every), now.spread  # a mean of fewer strays farther
    now.spread = abs(distance) if spread is None else 0.95 * spread + 0.05 * min(abs(distance), 4 * spread)
    if spread is None or now.step < SPIKES_FROM * every or distance < max(SPIKE * spread, 0.05 * abs(now.smooth)):
        return ""
    return f"loss spike at step {now.step}: {loss:.3g}, running mean {now.smooth:.3g}; lower lr if this keeps happening"
