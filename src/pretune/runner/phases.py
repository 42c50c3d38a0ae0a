"""From a strategy's phases to trained weights: boundary, features, loaders, plan, loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from pretune import registry
from pretune.augmentations import Augmentation, BatchAugmentation, ViewAugmentation
from pretune.backbones import Backbone
from pretune.data.augmented import AugmentedView
from pretune.data.batching import Batching, token_budget
from pretune.data.dataset import StoreView, View
from pretune.data.loader import Loader
from pretune.evaluation.probe import Solution
from pretune.models import Model, SupervisedLearner
from pretune.models.pooling import positions
from pretune.recipe import Recipe
from pretune.runner import features, score, solving
from pretune.runner.deadline import Deadline
from pretune.runner.features import FeatureCache, FrozenFeatures, TooLong
from pretune.runner.interrupt import check
from pretune.strategies import Phase, Strategy, suggested
from pretune.tasks import LossSettings
from pretune.training.checkpoint import Checkpoint, load_by_name
from pretune.training.events import Event
from pretune.training.loop import Evaluation, TrainingContext, fit
from pretune.training.plan import Plan, Precision
from pretune.types import Batch, Layout

BATCH = 32
"""Items of a step where none is asked for."""
MAX_EPOCHS_IN_TIME = 100
"""Epochs at most where a time is given and no number of epochs."""
_POINTS = 500
"""Points of a loss curve, about, where steps are quick."""
_MEASURING = 0.4
"""Share of the time at most that measuring takes; where it would take more, a sample is measured."""
_MEASURED = "measured/examples"
"""The decision how many examples are measured."""
_OF_FEATURES, _OF_A_PROBE = 0.8, 0.3
"""Shares of the time that one pass over the frozen layers may take: where features are all there is, and before other phases."""
_STANDARDISED, _OF_PYRAMIDS = 256, 32
"""Examples at most by which a head's input is standardised where features are not cached, or have many positions, or are whole pyramids."""
_FEW = 16
"""Examples of a batch that is timed where each costs a pass through the network."""
STEP = 3
"""How many times as long as a forward pass a training step takes, about."""
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
    context: TrainingContext
    parts: tuple[Augmentation, ...]
    """Augmentation parts, view and batch parts mixed."""
    precision: Callable[[SupervisedLearner, Loader], Precision]
    """Chooses how raw batches are computed, once."""
    deadline: Deadline
    """When the run has to be over, where a time was given."""
    own_loss: bool = False
    """Whether the caller brought a loss."""
    solved: bool = False
    """Whether the head was solved, not trained in steps."""
    solution: Solution | None = None
    """How, where it was."""
    widths: dict[str, tuple[Layout, int]] | None = None
    """Layout and channels of each stage, while it is not yet chosen which of them the head takes."""
    seconds: dict[str, float] = field(default_factory=lambda: {"features_s": 0.0, "train_s": 0.0})
    frozen: FrozenFeatures | None = None
    """Features of the current phase's boundary."""
    chosen: Precision = field(default_factory=Precision)

    @property
    def crop(self) -> ViewAugmentation | None:
        """The augmentation that cuts views, if any."""
        return next((part for part in self.parts if isinstance(part, ViewAugmentation)), None)

    @property
    def mixing(self) -> tuple[BatchAugmentation, ...]:
        """The augmentations that act on batches."""
        return tuple(part for part in self.parts if isinstance(part, BatchAugmentation))


def train(work: Work, resume: Checkpoint | None) -> Generator[Event]:
    """Run all phases, from a checkpoint where there is one, yielding the loop's events."""
    phases = work.strategy.phases(len(work.model.body))
    first = 0 if resume is None else int(resume.state["phase"])
    for number, phase in enumerate(phases):
        if number < first:
            continue
        groups = work.strategy.apply(work.model, phase)
        head = work.model.head
        begin(work, phase, number)
        if work.model.head is not head:
            groups = work.strategy.apply(work.model, phase)
        if solving.obstacle(work, phase) is None:
            yield from solving.solve(work, phase)
            work.solved = not solving.leads(phase)
            work.chosen = Precision(reason="the head is solved on cached features")
            continue
        loader = _loader(work, phase)
        work.chosen = work.precision(work.learner, loader) if work.frozen is None else _cached(work)
        if resume is not None and number == first and resume.state["done"]:
            load_by_name(work.learner, resume.tensors_below("model"))
            continue
        plan = _plan(work, phase, number, phases, loader)
        started = time.perf_counter()
        held = resume if resume is not None and number == first else None
        yield from fit(work.learner, loader, groups, plan, work.context, _evaluation(work), held)
        work.seconds["train_s"] += time.perf_counter() - started


def begin(work: Work, phase: Phase, number: int = 0) -> None:
    """Compute what is frozen below this phase's boundary, where that can be kept and the time allows it."""
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
    found = _features(work, phase, views, number)
    work.frozen = None if isinstance(found, TooLong) else found
    work.learner.start = work.frozen.start if work.frozen else 0
    work.seconds["features_s"] += time.perf_counter() - started
    if work.widths is not None and solving.obstacle(work, phase) is not None:  # of time or memory
        solving.narrow(work, work.backbone.probing)
    if work.frozen is not None and work.learner.start == len(work.model.names) - 1 and phase.open == 0:
        _fit_head(work)
    elif isinstance(found, TooLong) and phase.open == 0:
        _fit_head_on_few(work, found.seconds / found.items)


def _features(work: Work, phase: Phase, views: int, number: int) -> FrozenFeatures | TooLong | None:
    """Return the frozen features; where one pass takes more than its share of the time, which is remembered, none."""
    decisions, key = work.context.decisions, f"{number}/too_long"
    if (known := decisions.made(key)) is not None:
        return decisions.built(TooLong, key, lambda: known)
    remaining = work.deadline.remaining
    allowed = (remaining - _REPORT) * (_OF_A_PROBE if phase.epochs is not None else _OF_FEATURES)
    found = features.compute(work.model, work.needs, work.crop, views, work.recipe.training.seed, allowed)
    if isinstance(found, TooLong):
        decisions.make(key, lambda: {"seconds": found.seconds, "items": found.items})
        work.needs.reporter.warn(
            f"features are not cached: the frozen layers would take about {found.seconds:.0f} s for all {found.items:,} examples, "
            f"and {max(0.0, remaining):.0f} s of time={work.deadline.total:g}s are left. Training runs the whole network "
            "on as many batches as the time allows; with more time, the features are computed once and training is quicker"
        )
    return found


def _changing(work: Work, phase: Phase) -> list[Augmentation]:
    """Return the augmentations that give the frozen stages another input every epoch; a probe before the phases has none."""
    if phase.epochs is not None or not work.strategy.trains:
        return []
    crop = [work.crop] if work.crop is not None and work.recipe.views == 1 else []
    return [*crop, *(part for part in work.parts if isinstance(part, BatchAugmentation))]


def _fit_head(work: Work) -> None:
    assert work.frozen is not None
    if _started(work):
        return
    view = work.frozen.view(work.needs.data.parts["train"], None, 1)
    chosen = np.arange(len(view))
    few = _OF_PYRAMIDS if work.frozen.layout == "pyramid" else _STANDARDISED
    if work.frozen.layout != "pooled" and len(view) > few:  # a few hundred examples have thousands of positions
        chosen = np.sort(np.random.default_rng(work.recipe.training.seed).choice(chosen, few, replace=False))
    work.model.head.fit(positions(view.batch(chosen, 0).inputs))


def _started(work: Work) -> bool:
    """Let the head begin with what the pretrained network knows, where the task has a way to."""
    data = work.needs.data
    train = data.parts["train"]
    labels = data.encoded.take(torch.from_numpy(train))
    view = work.frozen.view(train, labels, 1) if work.frozen else StoreView(data.ingested.store, train, data.modality, labels)
    loader = Loader(view, Batching(size=_FEW, tokens=token_budget(view, _FEW)), workers=1)
    batches = loader.iterate(0)

    def heads() -> Iterator[Batch]:
        for batch in batches:
            check()
            here = batch.to(work.context.device.device)
            with torch.inference_mode():
                yield replace(batch, inputs=work.model.before_head(here.inputs, work.learner.start).to(torch.device("cpu")))

    work.model.eval()
    said = data.task.start(work.model, work.backbone, heads(), data.space)
    batches.close()
    if said is not None:
        work.needs.reporter.say(said)
    return said is not None


@torch.inference_mode()
def _fit_head_on_few(work: Work, each: float) -> None:
    """Standardise the head's input by a sample of training examples, as many as a small share of the time allows at `each` seconds."""
    if _started(work):
        return
    train, seed = work.needs.data.parts["train"], work.recipe.training.seed
    count = int(np.clip(0.02 * work.deadline.remaining / max(1e-9, each), BATCH // 2, _STANDARDISED))
    few = np.sort(np.random.default_rng(seed).choice(train, min(count, len(train)), replace=False))
    view = StoreView(work.needs.data.ingested.store, few, work.needs.data.modality, None)
    loader = Loader(view, Batching(size=BATCH // 2, tokens=token_budget(view, BATCH // 2)), workers=1)
    work.model.eval()
    pooled: list[torch.Tensor] = []
    for batch in loader.iterate(0):
        check()
        pooled.append(positions(work.model.before_head(batch.to(work.context.device.device).inputs)))
    work.model.head.fit(torch.cat(pooled))


def view_of(work: Work, positions: np.ndarray, *, training: bool = False) -> View:
    """Return items as the learner takes them now: cached features or raw."""
    data = work.needs.data
    labels = data.encoded.take(torch.from_numpy(positions))
    if work.frozen is not None:
        return work.frozen.view(positions, labels, work.frozen.views if training else 1)
    crop = work.crop if training else None
    view: View = StoreView(data.ingested.store, positions, data.modality, labels, crop, work.recipe.training.seed)
    if training and work.mixing:
        classes = len(data.space.classes) or None
        return AugmentedView(view, work.mixing, classes, work.recipe.training.seed)
    return view


def _loader(work: Work, phase: Phase) -> Loader:
    view = view_of(work, work.needs.data.parts["train"], training=True)
    size = _batch_size(work, len(view))
    device = work.context.device
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


def _batch_size(work: Work, items: int) -> int:
    """Return what was asked for, else `BATCH` for raw items; for cached features a hundredth of the data, between that and 1024."""
    cached = work.frozen is not None and items >= 100
    usual = min(1024, max(BATCH, 1 << (items // 100).bit_length() - 1)) if cached else BATCH
    return work.recipe.training.batch_size or work.needs.data.task.batch or usual


def _plan(work: Work, phase: Phase, number: int, phases: tuple[Phase, ...], loader: Loader) -> Plan:
    training, others = work.recipe.training, work.needs.data.task.suggested(registry.name_of(work.strategy), work.backbone)
    defaults = suggested(work.strategy, registry.name_of(work.needs.data.modality), others)
    timing = _timing(work, phase, number, phases)
    budget, each = timing if timing else (None, 0.0)
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
        steps=None if budget is None else max(1, int(budget / max(1e-9, each * STEP * _batch_size(work, len(loader.view))))),
        log_every=1 if work.frozen is None else max(1, total // _POINTS),
        evaluate_every=1 if work.frozen is None else max(1, epochs // 10),
        seed=training.seed + number,
        precision=work.chosen,
        threads=1 if _is_small(work) else None,  # steps of a head take microseconds: waiting for a second thread takes longer
    )


def _timing(work: Work, phase: Phase, number: int, phases: tuple[Phase, ...]) -> tuple[float, float] | None:
    """Return this phase's seconds, its share of what is left for it and those after it, and those of an example's forward pass.

    Decided once: a resumed phase has what it was begun with.
    """
    if work.deadline.total is None:
        return None
    last = number == len(phases) - 1

    def decide() -> tuple[float, float]:
        held = view_of(work, work.needs.data.parts[work.needs.data.score])
        size = 64 if work.frozen is not None else _FEW
        each = score.seconds_per_item(work.learner, held, work.context.device, work.chosen, size, work.needs.now)
        remaining = max(0.0, work.deadline.remaining - _REPORT)
        afterwards = min(_MEASURING * remaining, each * sum(len(positions) for positions in _all_measured(work).values()))
        left = remaining - afterwards
        share = _OF_A_PROBE if phase.epochs is not None else phase.share / sum(p.share for p in phases[number:])
        return left * share, each

    budget, each = work.context.decisions.make(f"{number}/time", decide)
    if last and work.frozen is None:
        total = sum(len(positions) for positions in _all_measured(work).values())
        fits = _MEASURING / (1 - _MEASURING) * budget / max(1e-9, each)
        work.context.decisions.make(_MEASURED, lambda: max(1, min(total, int(fits))))
    return budget, each


def _all_measured(work: Work) -> dict[str, np.ndarray]:
    return score.measured(work.needs.data, seed=work.recipe.training.seed, costly=work.frozen is None)


def measured(work: Work) -> dict[str, np.ndarray]:
    """Return the positions that the final figures are of, by split: where the time does not allow all, a random sample."""
    found, count = _all_measured(work), work.context.decisions.made(_MEASURED)
    if count is None or sum(len(positions) for positions in found.values()) <= count:
        return found
    data = work.needs.data
    few = score.sampled(found, data.score, count, work.recipe.training.seed)
    if len(few[data.score]) == len(found[data.score]):
        return few
    work.needs.reporter.warn(
        f"{data.score} figures are those of {len(few[data.score]):,} of {len(found[data.score]):,} examples, a random sample: "
        f"time={work.deadline.total:g}s allows no more. pretune evaluate measures all of them"
    )
    return few


def _evaluation(work: Work) -> Evaluation:
    """Measure the selecting part each epoch; where features are cached, the score's part too, for the curve only."""
    task, data = work.needs.data.task, work.needs.data
    names = [name for name in ("select",) if name in data.parts]
    if work.frozen is not None and data.score in data.parts:
        names.append(data.score)

    def measure(part: str) -> Callable[[], dict[str, float]]:
        view = view_of(work, data.parts[part])
        encoded = data.encoded.take(torch.from_numpy(data.parts[part]))

        def run() -> dict[str, float]:
            raw = score.outputs(work.learner, view, work.context.device, work.chosen)
            figures = score.measure(raw, encoded, task, data.space)
            return {k: v for k, v in figures.items() if isinstance(v, float)}

        return run

    return Evaluation(
        splits={name: measure(name) for name in dict.fromkeys(names)},
        selects="select" if "select" in names else None,
        starts=task.selects,
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
    view = work.frozen.view(data.parts["train"], data.encoded.take(torch.from_numpy(data.parts["train"])), 1)
    batch = view.batch(np.arange(len(view)), 0).to(work.context.device.device)
    assert batch.target is not None
    work.needs.reporter.say(work.strategy.solve(work.model, work.backbone, batch.inputs.tensor, batch.target, data.space))
    work.chosen = Precision(reason="nothing is trained")
