"""Which precision a run computes in: as asked, or timed where the processor has bfloat16; decided once in a run."""

from __future__ import annotations

import math
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from pretune.data.loader import Loader
from pretune.features.precision import forward_choice
from pretune.models import Learner, Model
from pretune.recipe import Training
from pretune.runner.prepare import Prepared
from pretune.storage.cache import Cache
from pretune.storage.remembered import remembered
from pretune.training.acceleration import as_asked, choose
from pretune.training.checkpoint import Decisions
from pretune.training.plan import Precision
from pretune.training.timing import facts_of

if TYPE_CHECKING:
    from pretune.runner.job import RunContext

_FEATURES = "features/precision"
"""The decision on the precision of frozen features."""
_OF_TIME = 0.02
"""Share of a time limit that one choice may cost."""


def of_features(run: RunContext, model: Model, data: Prepared, training: Training) -> Precision:
    """Return the precision of frozen features, decided once in a run: as asked, or as timed."""

    def decide() -> dict[str, Any]:
        if training.precision is None:
            run.reporter.progress("choosing the precision", 0, 0)
            return forward_choice(model, data.ingested, data.modality, run.device.device, run.cache, _most_seconds(training.time))
        bfloat16 = training.precision == "bfloat16"
        return asdict(Precision(bfloat16=bfloat16, reason=as_asked(bfloat16, run.device.device)))

    chosen = run.training.decisions.built(Precision, _FEATURES, decide)
    run.reporter.say(sentence("features", chosen))
    return chosen


def known_of_features(decisions: Decisions) -> Precision | None:
    """Return what `of_features` decided before this process started: the phase that took features may not be run again."""
    return None if (known := decisions.made(_FEATURES)) is None else decisions.built(Precision, _FEATURES, lambda: known)


def _most_seconds(limit: float | None) -> float:
    return math.inf if limit is None else _OF_TIME * limit


def step_choice(learner: Learner, loader: Loader, training: Training, cache: Cache) -> dict[str, Any]:
    """Return how training steps compute, as asked or as measured on a first batch."""
    device = next(learner.parameters()).device
    batches = loader.iterate(0)
    batch = next(batches).to(device)
    batches.close()
    job = loader.steps(0) * batch.size
    choose_ = partial(choose, learner, batch, micro_batch=training.micro_batch, job=job, most_seconds=_most_seconds(training.time))
    if training.precision is not None:
        return asdict(choose_(bfloat16=training.precision == "bfloat16"))
    facts = facts_of("steps", learner, batch.inputs, device) | {"batch": batch.size, "micro_batch": training.micro_batch}
    return remembered(cache, "precision", facts, lambda: asdict(choose_()))


def sentence(what: str, choice: Precision) -> str:
    """Return what a person reads of a choice: the setting that repeats it, and why."""
    return f"{what}: precision={'bfloat16' if choice.bfloat16 else 'float32'} ({choice.reason})"
