"""What is frozen below the present phase's boundary: computed once and cached, where that can be kept and the time allows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from pretune import registry
from pretune.augmentations import Augmentation
from pretune.data.batching import Batching, token_budget
from pretune.data.dataset import StoreView
from pretune.data.loader import Loader
from pretune.features import frozen
from pretune.features.frozen import FrozenFeatures
from pretune.features.passes import TooLong
from pretune.models.pooling import positions
from pretune.runner import budget, solving
from pretune.runner.interrupt import check
from pretune.runner.state import FineTuningState
from pretune.strategies import Phase
from pretune.types import Batch

_OF_FEATURES = 0.8
"""Share of the time that one pass over the frozen layers may take where features are all there is."""
_STANDARDISED, _OF_PYRAMIDS = 256, 32
"""Examples at most by which a head's input is standardised where features are not cached, or have many positions, or are whole pyramids."""
_FEW = 16
"""Examples of a batch that a task starts its head by."""


def begin(state: FineTuningState, phase: Phase, number: int) -> None:
    """Compute what is frozen below this phase's boundary, where that can be kept and the time allows it."""
    boundary = state.model.boundary
    changing = _changing(state, phase)
    if not state.model.cacheable or changing:
        if changing and boundary > 1:
            names = ", ".join(registry.name_of(one) for one in changing)
            instead = "" if state.mixing else "; views=8 would cache eight views of each example"
            state.run.reporter.say(f"features are not cached: {names} changes the frozen layers' input every epoch{instead}")
        state.frozen, state.learner.start = None, 0
        _begin_pyramid(state, number)
        return
    began = state.run.deadline.clock.seconds
    views = state.recipe.views if phase.epochs is None else 1
    found = _features(state, phase, views, number)
    state.frozen = None if isinstance(found, TooLong) else found
    state.learner.start = state.frozen.start if state.frozen else 0
    state.run.timing["features_s"] += state.run.deadline.clock.seconds - began
    if state.widths is not None and solving.obstacle(state, phase) is not None:  # of time or memory
        solving.narrow(state, state.backbone.probing)
    if state.frozen is not None and state.learner.start == len(state.model.names) - 1 and phase.open == 0:
        _fit_head(state)
    elif isinstance(found, TooLong) and phase.open == 0:
        _fit_head_on_few(state, _affordable(state, found.seconds / found.items))
    else:
        _begin_pyramid(state, number)


def _begin_pyramid(state: FineTuningState, number: int) -> None:
    """Let the head of a first phase begin with what is known, where its input is computed anew each time."""
    if number == 0 and state.model.layout == "pyramid" and state.strategy.trains:
        _fit_head_on_few(state, _OF_PYRAMIDS)


def _affordable(state: FineTuningState, each: float) -> int:
    """Return how many examples a small share of the time allows at `each` seconds."""
    most = _OF_PYRAMIDS if state.model.layout == "pyramid" else _STANDARDISED
    return int(np.clip(0.02 * state.run.deadline.remaining / max(1e-9, each), budget.BATCH // 2, most))


def _features(state: FineTuningState, phase: Phase, views: int, number: int) -> FrozenFeatures | TooLong | None:
    """Return the frozen features; where one pass takes more than its share of the time, which is remembered, none."""
    decisions, key = state.run.training.decisions, f"{number}/too_long"
    if (known := decisions.made(key)) is not None:
        return decisions.built(TooLong, key, lambda: known)
    remaining = state.run.deadline.remaining
    allowed = (remaining - budget.REPORT) * (budget.OF_A_PROBE if phase.epochs is not None else _OF_FEATURES)
    found = frozen.compute(state.model, state.features, state.crop, views, state.recipe.training.seed, allowed)
    if isinstance(found, TooLong):
        decisions.make(key, lambda: {"seconds": found.seconds, "items": found.items})
        state.run.reporter.warn(
            f"features are not cached: the frozen layers would take about {found.seconds:.0f} s for all {found.items:,} examples, "
            f"and {max(0.0, remaining):.0f} s of time={state.run.deadline.total:g}s are left. Training runs the whole network "
            "on as many batches as the time allows; with more time, the features are computed once and training is quicker"
        )
    return found


def _changing(state: FineTuningState, phase: Phase) -> list[Augmentation]:
    """Return the augmentations that give the frozen stages another input every epoch; a probe before the phases has none."""
    if phase.epochs is not None or not state.strategy.trains:
        return []
    crop = [state.crop] if state.crop is not None and state.recipe.views == 1 else []
    return [*crop, *state.mixing]


def _fit_head(state: FineTuningState) -> None:
    assert state.frozen is not None
    if _started(state):
        return
    view = state.frozen.view(state.data.splits["train"], None, 1)
    chosen = np.arange(len(view))
    few = _OF_PYRAMIDS if state.frozen.layout == "pyramid" else _STANDARDISED
    if state.frozen.layout != "pooled" and len(view) > few:  # a few hundred examples have thousands of positions
        chosen = np.sort(np.random.default_rng(state.recipe.training.seed).choice(chosen, few, replace=False))
    state.model.head.fit(positions(view.batch(chosen, 0).inputs))


def start(state: FineTuningState) -> None:
    """Let a head that was pretrained with the backbone begin with what it knows, where no phase fits it to features."""
    state.frozen, state.learner.start = None, 0
    _started(state)


def _started(state: FineTuningState) -> bool:
    """Let the head begin with what the pretrained network knows, where the task has a way to."""
    data, view = state.data, state.view(state.data.splits["train"])
    batches = Loader(view, Batching(size=_FEW, tokens=token_budget(view, _FEW)), workers=1).iterate(0)

    def before_head() -> Iterator[Batch]:
        for batch in batches:
            check()
            here = batch.to(state.run.device.device)
            with torch.inference_mode():
                yield replace(batch, inputs=state.model.before_head(here.inputs, state.learner.start).to(torch.device("cpu")))

    state.model.eval()
    message = data.task.start(state.model, state.backbone, before_head(), data.space)
    batches.close()
    if message:
        state.run.reporter.say(message)
    return message is not None


@torch.inference_mode()
def _fit_head_on_few(state: FineTuningState, count: int) -> None:
    """Standardise the head's input by a sample of so many training examples, unless it begins with what the pretrained network knows."""
    if _started(state):
        return
    train, seed = state.data.splits["train"], state.recipe.training.seed
    few = np.sort(np.random.default_rng(seed).choice(train, min(count, len(train)), replace=False))
    view = StoreView(state.data.ingested.store, few, state.data.modality, None)
    loader = Loader(view, Batching(size=budget.BATCH // 2, tokens=token_budget(view, budget.BATCH // 2)), workers=1)
    state.model.eval()
    pooled: list[torch.Tensor] = []
    for batch in loader.iterate(0):
        check()
        pooled.append(positions(state.model.before_head(batch.to(state.run.device.device).inputs)))
    state.model.head.fit(torch.cat(pooled))
