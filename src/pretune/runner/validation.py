"""The validation set of a pretraining run: measured while it trains and at its end, within the time there is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from pretune.data.loader import Loader
from pretune.models import Learner
from pretune.runner.deadline import Deadline
from pretune.runner.interrupt import check
from pretune.training.device import Device
from pretune.training.plan import Precision
from pretune.training.step import autocast

GLANCE = 32
"""Held-out batches that are looked at while training; all of them at its end."""
SHARE = 0.05
"""Share of a phase's time that one look takes at most, and of the time between two looks that a look takes at most twice."""
FEW = 8
"""Examples by which the cost of all is measured."""
BACKWARD = 3
"""How many times as long as a forward pass a training step takes, about."""
LOGGED = 0.5
"""Seconds between two logged losses, about, where a time is given."""
RESERVED = 0.2
"""Share of the time at most that is kept for what comes after training."""


@dataclass(kw_only=True)
class Validation:
    """Measures a learner on held-out batches; the same random numbers every time."""

    learner: Learner
    precision: Precision
    loader: Loader
    device: Device
    seed: int
    deadline: Deadline
    examples: int = 0
    """Those of the last measurement, over all processes."""

    @torch.no_grad()
    def measure(self, most: int | None = None, *, keep: float | None = None) -> dict[str, float]:
        """Return the mean loss and logs of the first batches.

        Args:
            most: batches at most; None for all.
            keep: seconds that must be left when this returns: where they would not, later batches are left out, but for the first. Several
                processes measure all: they would have to agree on each batch.
        """
        keep = keep if self.device.world == 1 else None
        sums, counts = dict[str, float](), dict[str, int]()
        self.learner.eval()
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            batches = self.loader.iterate(0)
            began, count = self.deadline.clock.seconds, 0
            for number, batch in enumerate(batches):
                each = (self.deadline.clock.seconds - began) / max(1, number)
                if (most is not None and number >= most) or (keep is not None and number and self.deadline.remaining < keep + each):
                    break
                check()
                with autocast(self.precision, self.device.device):
                    out = self.learner(batch.to(self.device.device))
                count += batch.size
                for key, value in {"loss": float(out.loss), **out.logs}.items():
                    sums[key] = sums.get(key, 0.0) + value * batch.size
                    counts[key] = counts.get(key, 0) + batch.size
            batches.close()
        gathered = self.device.gather((counts, sums, count))  # a batch of few examples may not have all, and a rank may have no batch
        self.examples = sum(counted for *_, counted in gathered)
        whole = {key: sum(counts.get(key, 0) for counts, *_ in gathered) for _, sums, _ in gathered for key in sums}
        return {key: sum(sums.get(key, 0.0) for _, sums, _ in gathered) / count for key, count in whole.items()}

    def seconds_per_example(self) -> float:
        """Return about how long one held-out example takes, by the second of two passes over a few."""
        batches = self.loader.iterate(0)
        batch = next(batches)
        batches.close()
        few = batch.take(slice(0, FEW)).to(self.device.device)
        self.learner.eval()
        with torch.no_grad(), torch.random.fork_rng(), autocast(self.precision, self.device.device):
            self.learner(few)
            began = self.deadline.clock.seconds
            self.learner(few)
        return (self.deadline.clock.seconds - began) / few.size


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What the time of one phase is spent on."""

    budget: float
    """Seconds of the phase."""
    steps: int
    """Training steps that about fill them."""
    log_every: int
    evaluate_every: int
    glance: int
    """Held-out batches of one look."""


def planned(deadline: Deadline, each: float, *, batch: int, epoch: int, validation: int, phases: int, afterwards: float) -> Timing:
    """Return how the rest of the time is spent.

    Args:
        deadline: of the run.
        each: seconds that a forward pass takes for one example.
        batch: examples of a step.
        epoch: steps of an epoch.
        validation: held-out examples.
        phases: that are to share the time, this one included.
        afterwards: seconds that samples and the report take.
    """
    total = deadline.total or 0.0
    reserved = min(RESERVED * total, each * validation + afterwards)
    budget = max(0.0, deadline.remaining - reserved) / phases
    step, look = BACKWARD * each * batch, each * batch
    glance = _between(1, SHARE * budget / max(1e-9, look), GLANCE)
    return Timing(
        budget=budget,
        steps=max(1, int(budget / max(1e-9, step))),
        log_every=_between(1, LOGGED / max(1e-9, step), 20),
        evaluate_every=max(1, math.ceil(glance * look / (2 * SHARE) / max(1e-9, epoch * step))),
        glance=glance,
    )


def _between(low: int, value: float, high: int) -> int:
    return int(max(low, min(value, high)))
