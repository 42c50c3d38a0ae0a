"""The linear head of a probe, solved exactly on cached features where nothing asks for training steps."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pretune.errors import SettingError
from pretune.evaluation import probe
from pretune.evaluation.folds import of_groups
from pretune.evaluation.links import LinkName
from pretune.evaluation.probe import Solution
from pretune.models.heads.linear import Linear
from pretune.models.pooling import CHOICES, WIDEST, blocks, choices, columns_of
from pretune.recipe import Recipe
from pretune.runner.interrupt import check
from pretune.strategies import Phase
from pretune.tasks import Task
from pretune.training.events import Event, Finished, Started
from pretune.training.plan import Precision
from pretune.unread import given

if TYPE_CHECKING:
    from pretune.runner.state import FineTuningState

_OF_STEPS = frozenset(
    (
        *("epochs", "batch_size", "micro_batch", "lr", "weight_decay", "clip", "ema", "patience"),
        *("label_smoothing", "class_weights", "optim", "schedule"),
    )
)
"""Settings that only training steps read: who gives one wants steps."""
_OF_THE_LOSS = frozenset({"label_smoothing", "class_weights"})
"""Those that a probe before other phases reads too."""
_HELD_OUT = 1_500
"""Training examples at most that are held out in turn to choose thresholds by."""
_MOST_NUMBERS = 400_000_000
"""Features, as numbers, that are taken into memory at once: 1.6 GB."""


def obstacle(state: FineTuningState, phase: Phase) -> str | None:
    """Return why this phase's head is trained in steps; None where it is solved.

    Raises:
        SettingError: head.solver=exact was asked for, and something stands against it.
    """
    recipe, data = state.recipe, state.data
    head = data.task.head(recipe.head)
    exact = isinstance(head, Linear) and head.solver == "exact"
    if state.frozen is None or phase.open != 0 or state.frozen.layout != "pooled" or (leads(phase) and exact):
        why: str | None = "the head is not all that learns, or its features are not cached"
    else:
        varied = bool(state.mixing) and not leads(phase)  # a probe before the phases is not augmented
        why = asked_for_steps(recipe, data.task, varied=varied, own_loss=state.own_loss, first=leads(phase))
        if why is None and len(data.splits["train"]) * state.model.head.mean.numel() > _MOST_NUMBERS:
            why = "the features do not fit into memory at once"
    if why and exact:
        raise SettingError(f"head.solver=exact does not apply: {why}. Leave head.solver out.")
    return why


def leads(phase: Phase) -> bool:
    """Return whether a phase is the short probe before others, which gives the head a direction."""
    return phase.epochs is not None


def asked_for_steps(recipe: Recipe, task: Task, *, varied: bool, own_loss: bool, first: bool = False) -> str | None:
    """Return what of the settings wants a head that is trained in steps; None where nothing does.

    Args:
        recipe: the settings.
        task: what is predicted.
        varied: whether augmentations change the head's input at random.
        own_loss: whether the caller brought a loss.
        first: whether other phases follow, which most settings of training are for.
    """
    head = task.head(recipe.head)
    if not isinstance(head, Linear) or head.solver == "steps":
        return "it was asked for"
    if head.dropout or varied or (recipe.views > 1 and not first):
        return "its input is varied at random"
    if own_loss or task.linear is None:
        return "it has a loss of its own"
    asked = sorted(key for key in given(recipe) if key in (_OF_THE_LOSS if first else _OF_STEPS))
    return f"{', '.join(asked)} {'is' if len(asked) == 1 else 'are'} set" if asked else None


# --- which features ------------------------------------------------------------------------------


def widen(state: FineTuningState) -> None:
    """Let the model pool all that the features are chosen from, where the head will be solved and no pooling was asked for."""
    recipe, data, backbone = state.recipe, state.data, state.backbone
    phases, tried = state.phases, CHOICES.get(backbone.layout, ())
    is_pooled = state.model.layout == "pooled" and backbone.probing in tried
    if not (state.strategy.trains and len(phases) == 1 and phases[0].open == 0 and not leads(phases[0]) and is_pooled):
        return
    if recipe.inputs.pooling or asked_for_steps(recipe, data.task, varied=bool(state.mixing), own_loss=state.own_loss):
        return
    widths = state.model.widths(data.example().to(state.run.device.device))
    width = blocks(widths, WIDEST)[-1].stop
    if len(data.rows) * width <= _MOST_NUMBERS and backbone.probing in choices(backbone.layout, widths):
        state.widths = widths
        state.model.repool(WIDEST, width)


def narrow(state: FineTuningState, pooling: str) -> None:
    """Let the model pool no more than was chosen, and take those columns of the cached features."""
    assert state.widths is not None
    columns = torch.cat([torch.arange(block.start, block.stop) for block in columns_of(pooling, state.widths)])
    state.model.repool(pooling, len(columns))
    state.widths = None
    if state.frozen is not None:
        state.frozen = replace(state.frozen, columns=columns)


def _candidates(state: FineTuningState) -> dict[str, list[tuple[int, int]]] | None:
    """Return the columns of each pooling that is tried; None where there is no choice."""
    if state.widths is None:
        return None
    distinct: dict[str, list[tuple[int, int]]] = {}
    for name, pooled in choices(state.backbone.layout, state.widths).items():
        columns = [(block.start, block.stop) for block in pooled]
        if columns not in distinct.values():
            distinct[name] = columns
    return distinct


# --- the solution --------------------------------------------------------------------------------


def solve(state: FineTuningState, phase: Phase) -> Generator[Event]:
    """Put the solved head into the model, and say how it was found; the first rank solves for all."""
    yield Started(phase=phase.name, step=0, steps=0, trainable=sum(p.numel() for p in state.model.head.parameters()))
    clock, began = state.run.deadline.clock, state.run.deadline.clock.seconds
    solution = state.run.device.decide(lambda: _solution(state))
    state.solution = None if leads(phase) else solution
    if state.widths is not None:
        narrow(state, solution.candidate)
    head = state.model.head
    layer = head.layers
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        if leads(phase):  # what comes after it takes steps, which suit features that are standardised column by column
            weight = (solution.weight * solution.scale).to(head.mean.device)
            layer.weight.copy_(torch.where(head.scale > 0, weight / head.scale, 0.0))
            layer.bias.copy_(solution.bias.to(head.mean.device) + weight @ (head.mean - solution.mean.to(head.mean.device)))
        else:
            head.mean.copy_(solution.mean)
            head.scale.copy_(solution.scale)
            layer.weight.copy_(solution.weight)
            layer.bias.copy_(solution.bias)
    seconds = clock.seconds - began
    state.run.timing["train_s"] += seconds
    state.run.reporter.say(probe.sentence(_link(state), solution))
    state.solved, state.precision = not leads(phase), Precision(reason="the head is solved on cached features")
    yield Finished(phase=phase.name, step=0, reason="solved", seconds=seconds)


def compute(state: FineTuningState) -> None:
    """Compute the head of a strategy that descends nothing."""
    assert state.frozen is not None
    data = state.data
    view = state.frozen.view(data.splits["train"], data.labels("train"), 1)
    batch = view.batch(np.arange(len(view)), 0).to(state.run.device.device)
    assert batch.target is not None
    state.run.reporter.say(state.strategy.solve(state.model, state.backbone, batch.inputs.tensor, batch.target, data.space))
    state.precision = Precision(reason="nothing is trained")


def _link(state: FineTuningState) -> LinkName:
    """Return the loss of the linear model that the head is."""
    link = state.data.task.linear
    assert link is not None
    return link


def _solution(state: FineTuningState) -> Solution:
    data, frozen = state.data, state.frozen
    assert frozen is not None
    train = data.splits["train"]
    view = frozen.view(train, None, 1)
    wanted = goal(state, data.labels_at(train).only)
    units = data.units[train]
    folds = of_groups(units, wanted.numpy().astype(float), probe.FOLDS) if len(np.unique(units)) < len(units) else None
    return probe.solve(_link(state), view.batch(np.arange(len(view)), 0).inputs.tensor, wanted, folds, check, _candidates(state))


def held_out(state: FineTuningState, positions: NDArray[np.int64], pairs: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]) -> Tensor:
    """Return the raw outputs (H, C) of held-out training examples under solved heads that did not learn from them, fold after fold.

    Args:
        state: with a solution.
        positions: (N,) of training examples.
        pairs: (those learned from, those held out) of each fold, as places in `positions`.
    """
    assert state.frozen is not None
    assert state.solution is not None
    view = state.frozen.view(positions, None, 1)
    wanted = goal(state, state.data.labels_at(positions).only)
    return probe.held_out(_link(state), view.batch(np.arange(len(view)), 0).inputs.tensor, wanted, state.solution, pairs, check)


def cross_validated(state: FineTuningState) -> tuple[NDArray[np.int64], Tensor] | None:
    """Return positions (H,) of training examples, each held out once, and the raw outputs of solved heads for them.

    None where the head was not solved, or nothing could be held out. Of many examples, a random sample.
    """
    if state.solution is None or state.frozen is None:
        return None
    data = state.data
    train = data.splits["train"]
    if len(train) > _HELD_OUT:
        train = np.sort(np.random.default_rng(state.recipe.training.seed).choice(train, _HELD_OUT, replace=False))
    wanted = goal(state, data.labels_at(train).only).numpy().astype(float)
    folds = of_groups(data.units[train], wanted, probe.FOLDS)
    pairs = [(np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)) for fold in np.unique(folds)]
    if len(pairs) < 2:
        return None
    return train[np.concatenate([test for _, test in pairs])], held_out(state, train, pairs)


def goal(state: FineTuningState, encoded: Tensor) -> Tensor:
    """Return targets (N, C): one-hot, multi-hot, or one standardised number."""
    if encoded.ndim == 1 and not encoded.is_floating_point():
        return nn.functional.one_hot(encoded, len(state.data.space.classes)).float()
    return encoded.float().reshape(len(encoded), -1)
