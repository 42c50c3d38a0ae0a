"""What computing frozen features needs of a run, and the precision they are computed in: decided once."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pretune.backbones import Backbone
from pretune.features.passes import FeatureCache
from pretune.features.precision import forward_choice
from pretune.models import Model
from pretune.recipe import Training
from pretune.runner.job import RunContext
from pretune.runner.precision import most_seconds, sentence
from pretune.runner.prepare import Prepared, followed
from pretune.training.acceleration import as_asked
from pretune.training.checkpoint import Decisions
from pretune.training.plan import Precision

_FEATURES = "features/precision"
"""The decision on the precision of frozen features."""


def open_features(run: RunContext, data: Prepared, backbone: Backbone, model: Model, training: Training) -> FeatureCache:
    """Return what computing features needs besides the model; their precision is chosen where they are computed first."""
    return FeatureCache(
        ingested=data.ingested,
        modality=data.modality,
        cache=run.cache,
        device=run.device,
        progress=followed("computing features", run.reporter),
        warn=run.reporter.warn,
        builder=backbone.builder,
        now=lambda: run.deadline.clock.seconds,
        measure=lambda: _precision(run, model, data, training),
        chosen=_known_precision(run.training.decisions),
    )


def _precision(run: RunContext, model: Model, data: Prepared, training: Training) -> Precision:
    """Return the precision of frozen features, decided once in a run: as asked, or as timed."""

    def decide() -> dict[str, Any]:
        if training.precision is None:
            run.reporter.progress("choosing the precision", 0, 0)
            return forward_choice(model, data.ingested, data.modality, run.device.device, run.cache, most_seconds(training.time))
        bfloat16 = training.precision == "bfloat16"
        return asdict(Precision(bfloat16=bfloat16, reason=as_asked(bfloat16, run.device.device)))

    chosen = run.training.decisions.built(Precision, _FEATURES, decide)
    run.reporter.say(sentence("features", chosen))
    return chosen


def _known_precision(decisions: Decisions) -> Precision | None:
    """Return what `_precision` decided before this process started: the phase that took features may not be run again."""
    return None if (known := decisions.made(_FEATURES)) is None else decisions.built(Precision, _FEATURES, lambda: known)
