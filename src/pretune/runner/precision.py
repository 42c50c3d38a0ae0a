"""Which precision a run computes in: as asked, or timed where the processor has bfloat16; decided once in a run."""

from __future__ import annotations

import math
from dataclasses import asdict
from functools import partial
from typing import Any

from pretune.data.loader import Loader
from pretune.models import Learner
from pretune.recipe import Training
from pretune.storage.cache import Cache
from pretune.storage.remembered import remembered
from pretune.training.acceleration import choose
from pretune.training.plan import Precision
from pretune.training.timing import facts_of

_OF_TIME = 0.02
"""Share of a time limit that one choice may cost."""


def most_seconds(limit: float | None) -> float:
    """Return what one choice may cost of a time limit."""
    return math.inf if limit is None else _OF_TIME * limit


def step_choice(learner: Learner, loader: Loader, training: Training, cache: Cache) -> dict[str, Any]:
    """Return how training steps compute, as asked or as measured on a first batch."""
    device = next(learner.parameters()).device
    batches = loader.iterate(0)
    batch = next(batches).to(device)
    batches.close()
    job = loader.steps(0) * batch.size
    choose_ = partial(choose, learner, batch, micro_batch=training.micro_batch, job=job, most_seconds=most_seconds(training.time))
    if training.precision is not None:
        return asdict(choose_(bfloat16=training.precision == "bfloat16"))
    facts = facts_of("steps", learner, batch.inputs, device) | {"batch": batch.size, "micro_batch": training.micro_batch}
    return remembered(cache, "precision", facts, lambda: asdict(choose_()))


def sentence(what: str, choice: Precision) -> str:
    """Return what a person reads of a choice: the setting that repeats it, and why."""
    return f"{what}: precision={'bfloat16' if choice.bfloat16 else 'float32'} ({choice.reason})"
