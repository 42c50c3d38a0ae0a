"""The linear head of a probe, solved exactly on cached features where nothing asks for training steps."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from pretune.errors import SettingError
from pretune.evaluation import probe
from pretune.evaluation.folds import of_groups
from pretune.evaluation.links import LOSSES, MODELS, LinkName
from pretune.evaluation.probe import Solution
from pretune.models.heads.linear import Linear
from pretune.runner.interrupt import check
from pretune.strategies import Phase
from pretune.training.events import Event, Finished, Started
from pretune.unread import given

if TYPE_CHECKING:
    from pretune.runner.phases import Work

_OF_STEPS = frozenset(
    (
        *("epochs", "batch_size", "micro_batch", "lr", "weight_decay", "clip", "ema", "patience"),
        *("label_smoothing", "class_weights", "optim", "schedule"),
    )
)
"""Settings that only training steps read: who gives one wants steps."""
_MOST_NUMBERS = 400_000_000
"""Features, as numbers, that are taken into memory at once: 1.6 GB."""


def obstacle(work: Work, phase: Phase) -> str | None:
    """Return why this phase's head is trained in steps; None where it is solved.

    Raises:
        SettingError: head.solver=exact was asked for, and something stands against it.
    """
    head = work.recipe.head
    if not isinstance(head, Linear) or head.solver == "steps":
        return "it was asked for"
    why = _obstacle(work, phase, head)
    if why and head.solver == "exact":
        raise SettingError(f"head.solver=exact does not apply: {why}. Leave head.solver out.")
    return why


def _obstacle(work: Work, phase: Phase, head: Linear) -> str | None:
    asked = sorted(key for key in given(work.recipe) if key in _OF_STEPS)
    if phase.open != 0 or phase.epochs is not None or work.frozen is None or work.frozen.layout != "pooled":
        return "the head is not all that learns, or its features are not cached"
    if head.dropout or work.frozen.views > 1 or work.mixing:
        return "its input is varied at random"
    if work.own_loss or work.needs.data.task.linear is None:
        return "it has a loss of its own"
    if asked:
        return f"{', '.join(asked)} {'is' if len(asked) == 1 else 'are'} set"
    numbers = len(work.needs.data.parts["train"]) * work.model.head.mean.numel()
    return "the features do not fit into memory at once" if numbers > _MOST_NUMBERS else None


def solve(work: Work, phase: Phase) -> Generator[Event]:
    """Put the solved head into the model, and say how it was found; the first rank solves for all."""
    yield Started(phase=phase.name, step=0, steps=0, trainable=sum(p.numel() for p in work.model.head.parameters()))
    started = time.perf_counter()
    solution = work.around.device.decide(lambda: _solution(work))
    work.solution = solution
    head = work.model.head
    layer = head.layers
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        head.mean.copy_(solution.mean)
        head.scale.fill_(solution.scale)
        layer.weight.copy_(solution.weight)
        layer.bias.copy_(solution.bias)
    seconds = time.perf_counter() - started
    work.seconds["train_s"] += seconds
    work.needs.reporter.say(sentence(_link(work), solution))
    yield Finished(phase=phase.name, step=0, reason="solved", seconds=seconds)


def _link(work: Work) -> LinkName:
    """Return the loss of the linear model that the head is."""
    link = work.needs.data.task.linear
    assert link is not None
    return link


def _solution(work: Work) -> Solution:
    data, frozen = work.needs.data, work.frozen
    assert frozen is not None
    train = data.parts["train"]
    view = frozen.view(train, None, 1)
    wanted = goal(work, data.encoded.take(torch.from_numpy(train)).only)
    units = data.units[train]
    folds = of_groups(units, wanted.numpy().astype(float), probe.FOLDS) if len(np.unique(units)) < len(units) else None
    return probe.solve(_link(work), view.batch(np.arange(len(view)), 0).inputs.tensor, wanted, folds, check)


def goal(work: Work, encoded: Tensor) -> Tensor:
    """Return targets (N, C): one-hot, multi-hot, or one standardised number."""
    if encoded.ndim == 1 and not encoded.is_floating_point():
        return nn.functional.one_hot(encoded, len(work.needs.data.space.classes)).float()
    return encoded.float().reshape(len(encoded), -1)


def sentence(link: LinkName, solution: Solution) -> str:
    """Return what a person reads: the model, its regularisation, and what that was chosen by."""
    model = MODELS[link] if link == "squared" else f"L2-regularised {MODELS[link]}"
    if not solution.held_out:
        return f"head: {model} on the features, C = {solution.strength:.3g} (too few examples for cross-validation)"
    return (
        f"head: {model} on the features, C = {solution.strength:.3g}, chosen by {solution.folds}-fold cross-validation "
        f"({LOSSES[link]} {solution.loss:.3g} on {solution.held_out:,} training examples)"
    )
