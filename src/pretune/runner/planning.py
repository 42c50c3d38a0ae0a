"""What a phase of fine-tuning is made of: its batches, its plan of epochs, rates and time, and what is measured between epochs."""

from __future__ import annotations

from functools import partial

from pretune.data.batching import Batching, token_budget
from pretune.data.loader import Loader
from pretune.evaluation.metrics import is_error
from pretune.runner import budget, curve, record, start
from pretune.runner.curve import LearningCurve
from pretune.runner.state import FineTuningState
from pretune.training.context import Evaluation
from pretune.training.plan import Plan


def batches(state: FineTuningState) -> Loader:
    """Return batches of cached features or raw examples, of like length where lengths differ."""
    device, view = state.run.device, state.view(state.data.splits["train"], training=True)
    size = max(1, budget.batch_size(state, len(view)) // device.world)
    together = state.data.task.together(state.data.labels("train"))
    batching = Batching(size=size, tokens=token_budget(view, size), shuffle=True, seed=state.recipe.training.seed, together=together)
    loader = Loader(view, batching, share=device.share, workers=0 if state.frozen is not None else 1)
    if view.lengths is not None:
        state.run.reporter.say(f"length-bucketed batches: {loader.padding(0):.1%} padding")
    return loader


def plan(state: FineTuningState, number: int, loader: Loader) -> Plan:
    """Return the phase's share of the epochs, at the strategy's rates where none are given."""
    recipe, training, phase = state.recipe, state.recipe.training, state.phases[number]
    defaults = state.defaults
    seconds, each = budget.of_phase(state, number)
    start.measure(state)
    fills_time = seconds is not None and state.frozen is None
    whole = training.epochs or (budget.MAX_EPOCHS_IN_TIME if fills_time else defaults.epochs_over(loader.steps(0)))
    epochs = phase.epochs or max(1, round(whole * phase.share))
    decay = defaults.weight_decay if training.weight_decay is None else training.weight_decay
    return Plan(
        number=number,
        phase=phase.name,
        epochs=epochs,
        lr=phase.lr or (training.lr or defaults.lr) * phase.lr_scale,
        weight_decay=0.1 if phase.lr else decay,
        optim=state.optim,
        schedule=recipe.schedule,
        clip=training.clip,
        ema=training.ema,
        patience=training.patience,
        budget=seconds,
        steps=None if seconds is None else budget.steps(state, seconds, each, len(loader.view)),
        log_every=1 if state.frozen is None else max(1, loader.steps(0) * epochs // budget.POINTS),
        evaluate_every=1 if state.frozen is None else max(1, epochs // 10),
        seed=training.seed + number,
        precision=state.precision,
        threads=1 if budget.is_small(state) else None,  # steps of a head take microseconds: waiting for a second thread takes longer
    )


def evaluation(state: FineTuningState, number: int) -> Evaluation:
    """Measure the split that selects; where none does, the validation set, for the curve only."""
    data, selects = state.data, "select" if "select" in state.data.splits else None
    shown = curve.split_of(state)
    return Evaluation(
        splits={} if selects is None else {selects: partial(record.measure_now, state, budget.choosing(state, number, selects))},
        curves={} if shown is None else {shown: LearningCurve(state=state, number=number, split=shown)},
        selects=selects,
        starts=data.task.selects,
        primary=data.task.monitored,
        higher_is_better=not is_error(data.task.monitored),
    )
