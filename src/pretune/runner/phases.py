"""From a strategy's phases to trained weights: boundary, features, loaders, plan, loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch

from pretune import registry
from pretune.augmentations import Augmentation, BatchAugmentation
from pretune.backbones import Backbone
from pretune.data.augmented import AugmentedView
from pretune.data.batching import Batching, token_budget
from pretune.data.dataset import StoreView, View
from pretune.data.loader import Loader
from pretune.models import Model, SupervisedLearner
from pretune.recipe import Recipe
from pretune.runner import features, score
from pretune.runner.features import FeatureCache, FrozenFeatures
from pretune.strategies import Phase, Strategy, suggested
from pretune.tasks._base import LossSettings
from pretune.training.checkpoint import Checkpoint, load_by_name
from pretune.training.events import Event
from pretune.training.loop import Evaluation, Surroundings, fit
from pretune.training.plan import Plan, Precision

BATCH = 32
"""Items of a step where none is asked for."""
MAX_EPOCHS_IN_TIME = 100
"""Epochs at most where a time is given and no number of epochs."""
_POINTS = 500
"""Points of a loss curve, about, where steps are quick."""
_MOST_AFTERWARDS = 0.7
"""Share of a phase's time that is kept at most for what comes after it: where measuring alone outlasts the time, training still happens."""
_REPORT = 3.0
"""Seconds that weights, intervals, pictures and the report take."""


@dataclass(kw_only=True)
class Work:
    """What the phases of one run share."""

    recipe: Recipe
    strategy: Strategy
    backbone: Backbone
    model: Model
    learner: SupervisedLearner
    needs: FeatureCache
    around: Surroundings
    parts: tuple[Augmentation, ...]
    """Augmentation parts, view and batch parts mixed."""
    precision: Callable[[SupervisedLearner, Loader], Precision]
    """Chooses how raw batches are computed, once."""
    remaining: Callable[[], float]
    """Seconds until the run has to be over; infinite where no time was given."""
    seconds: dict[str, float] = field(default_factory=lambda: {"features_s": 0.0, "train_s": 0.0})
    frozen: FrozenFeatures | None = None
    """Features of the current phase's boundary."""
    chosen: Precision = field(default_factory=Precision)

    @property
    def crop(self) -> Augmentation | None:
        """The augmentation that cuts views, if any."""
        return next((part for part in self.parts if part.acts == "view"), None)

    @property
    def mixing(self) -> tuple[BatchAugmentation, ...]:
        """The augmentations that act on batches."""
        return tuple(cast(BatchAugmentation, part) for part in self.parts if part.acts == "batch")


def train(work: Work, resume: Checkpoint | None) -> Generator[Event]:
    """Run all phases, from a checkpoint where there is one, yielding the loop's events."""
    phases = work.strategy.phases(len(work.model.body))
    first = 0 if resume is None else int(resume.state["phase"])
    for number, phase in enumerate(phases):
        if number < first:
            continue
        groups = work.strategy.apply(work.model, phase)
        begin(work, phase)
        loader = _loader(work, phase)
        work.chosen = work.precision(work.learner, loader) if work.frozen is None else _cached(work)
        if resume is not None and number == first and resume.state["done"]:
            load_by_name(work.learner, resume.part("model"))
            continue
        plan = _plan(work, phase, number, phases, loader)
        started = time.perf_counter()
        held = resume if resume is not None and number == first else None
        yield from fit(work.learner, loader, groups, plan, work.around, _evaluation(work), held)
        work.seconds["train_s"] += time.perf_counter() - started


def begin(work: Work, phase: Phase) -> None:
    """Compute what is frozen below this phase's boundary, where that can be kept."""
    boundary = work.model.boundary
    changing = _changing(work, phase)
    if not work.model.cacheable or changing:
        if changing and boundary > 1:
            names = ", ".join(registry.name_of(part) for part in changing)
            instead = "" if work.mixing else "; views=8 would cache eight views of each example"
            work.needs.reporter.say(f"features are not cached: {names} changes the frozen layers' input every epoch{instead}")
        work.frozen, work.learner.start = None, 0
        return
    started = time.perf_counter()
    views = work.recipe.views if phase.epochs is None else 1
    work.frozen = features.compute(work.model, work.needs, work.crop, views, work.recipe.training.seed)
    work.learner.start = work.frozen.start if work.frozen else 0
    work.seconds["features_s"] += time.perf_counter() - started
    if work.frozen is not None and work.frozen.layout == "pooled" and phase.open == 0:
        _fit_head(work)


def _changing(work: Work, phase: Phase) -> list[Augmentation]:
    """Return the augmentations that give the frozen stages another input every epoch; a probe before the phases has none."""
    if phase.epochs is not None or not work.strategy.trains:
        return []
    crop = [work.crop] if work.crop is not None and work.recipe.views == 1 else []
    return [*crop, *(part for part in work.parts if part.acts == "batch")]


def _fit_head(work: Work) -> None:
    assert work.frozen is not None
    view = work.frozen.view(work.needs.data.parts["train"], None, 1)
    work.model.head.fit(view.batch(np.arange(len(view)), 0).inputs.tensor)


def view_of(work: Work, positions: np.ndarray, *, training: bool = False) -> View:
    """Return items as the learner takes them now: cached features or raw."""
    data = work.needs.data
    targets = data.encoded[torch.from_numpy(positions)]
    if work.frozen is not None:
        return work.frozen.view(positions, targets, work.frozen.views if training else 1)
    crop = work.crop if training else None
    view: View = StoreView(data.ingested.store, positions, data.modality, targets, crop, work.recipe.training.seed)
    if training and work.mixing:
        classes = len(data.targets.classes) or None
        return AugmentedView(view, work.mixing, classes, work.recipe.training.seed)
    return view


def _loader(work: Work, phase: Phase) -> Loader:
    view = view_of(work, work.needs.data.parts["train"], training=True)
    size = work.recipe.training.batch_size or _batch_size(len(view), cached=work.frozen is not None)
    device = work.around.device
    mine = max(1, size // device.world)
    batching = Batching(size=mine, tokens=token_budget(view, mine), shuffle=True, seed=work.recipe.training.seed)
    loader = Loader(view, batching, share=device.share, workers=0 if work.frozen is not None else 1)
    if view.lengths is not None:
        work.needs.reporter.say(f"batches of like length: {loader.padding(0):.1%} of their positions are padding")
    return loader


def _cached(work: Work) -> Precision:
    return Precision(micro_batch=work.recipe.training.micro_batch, reason="features are cached")


def _is_small(work: Work) -> bool:
    """Whether a step is only a head of at most a million parameters on pooled features."""
    return work.frozen is not None and work.frozen.layout == "pooled" and sum(p.numel() for p in work.model.head.parameters()) <= 1_000_000


def _batch_size(items: int, *, cached: bool) -> int:
    """Return `BATCH` for raw items; for cached features a hundredth of the data, between that and 1024."""
    return min(1024, max(BATCH, 1 << (items // 100).bit_length() - 1)) if cached and items >= 100 else BATCH


def _plan(work: Work, phase: Phase, number: int, phases: tuple[Phase, ...], loader: Loader) -> Plan:
    training, defaults = work.recipe.training, suggested(work.strategy, registry.name_of(work.needs.data.modality))
    budget = _budget(work, phase, number, phases)
    fills_time = budget is not None and work.frozen is None
    whole = training.epochs or (MAX_EPOCHS_IN_TIME if fills_time else defaults.epochs_over(loader.steps(0)))
    epochs = phase.epochs or max(1, round(whole * phase.share))
    lr = phase.lr or (training.lr or defaults.lr) * phase.lr_scale
    decay = defaults.weight_decay if training.weight_decay is None else training.weight_decay
    total = loader.steps(0) * epochs
    return Plan(
        number=number,
        phase=phase.name,
        epochs=epochs,
        lr=lr,
        weight_decay=0.1 if phase.lr else decay,
        optim=work.recipe.optim,
        schedule=work.recipe.schedule,
        clip=training.clip,
        ema=training.ema,
        patience=training.patience,
        budget=budget,
        log_every=1 if work.frozen is None else max(1, total // _POINTS),
        evaluate_every=1 if work.frozen is None else max(1, epochs // 10),
        seed=training.seed + number,
        precision=work.chosen,
        threads=1 if _is_small(work) else None,  # steps of a head take microseconds: waiting for a second thread takes longer
    )


def _budget(work: Work, phase: Phase, number: int, phases: tuple[Phase, ...]) -> float | None:
    """Return this phase's seconds: its share of what is left for it and those after it."""
    if work.recipe.training.time is None:
        return None
    afterwards = _afterwards(work)
    remaining = work.remaining()
    left = remaining - min(_MOST_AFTERWARDS * remaining, afterwards)
    if phase.epochs is not None:
        return max(0.5, left * 0.3)
    return max(0.5, left * phase.share / sum(p.share for p in phases[number:]))


def _afterwards(work: Work) -> float:
    """Return about how many seconds saving, measuring and the report take once training is over."""
    held = view_of(work, work.needs.data.parts[work.needs.data.score])
    each = score.seconds_per_item(work.learner, held, work.around.device, work.chosen)
    return _REPORT + each * sum(len(positions) for positions in measured(work).values())


def measured(work: Work) -> dict[str, np.ndarray]:
    """Return the positions that the final figures are of, by part."""
    return score.measured(work.needs.data, seed=work.recipe.training.seed, costly=work.frozen is None)


def _evaluation(work: Work) -> Evaluation:
    """Measure the selecting part each epoch; where features are cached, the score's part too, for the curve only."""
    task, data = work.needs.data.task, work.needs.data
    names = [name for name in ("select",) if name in data.parts]
    if work.frozen is not None and data.score in data.parts:
        names.append(data.score)

    def measure(part: str) -> Callable[[], dict[str, float]]:
        view = view_of(work, data.parts[part])
        encoded = data.encoded[torch.from_numpy(data.parts[part])]

        def run() -> dict[str, float]:
            raw = score.outputs(work.learner, view, work.around.device, work.chosen)
            figures = score.measure(raw, encoded, task, data.targets)
            return {k: v for k, v in figures.items() if isinstance(v, float)}

        return run

    return Evaluation(
        parts={name: measure(name) for name in dict.fromkeys(names)},
        selects="select" if "select" in names else None,
        primary=task.primary,
        higher_is_better=task.higher_is_better,
    )


def loss_settings(recipe: Recipe) -> LossSettings:
    """Return what the recipe says of the loss."""
    return LossSettings(label_smoothing=recipe.training.label_smoothing, class_weights=recipe.training.class_weights)


def solve(work: Work) -> None:
    """Compute the head of a strategy that descends nothing."""
    phase = work.strategy.phases(len(work.model.body))[0]
    work.strategy.apply(work.model, phase)
    begin(work, phase)
    assert work.frozen is not None
    data = work.needs.data
    view = work.frozen.view(data.parts["train"], data.encoded[torch.from_numpy(data.parts["train"])], 1)
    batch = view.batch(np.arange(len(view)), 0)
    assert batch.targets is not None
    work.needs.reporter.say(work.strategy.solve(work.model, work.backbone, batch.inputs.tensor, batch.targets, data.targets))
    work.chosen = Precision(reason="nothing is trained")
