"""The linear head of a probe, solved exactly on cached features where nothing asks for training steps."""

from __future__ import annotations

import time
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
from pretune.evaluation.links import LOSSES, MODELS, LinkName
from pretune.evaluation.probe import Solution
from pretune.models.heads.linear import Linear
from pretune.models.pooling import CHOICES, WIDEST, blocks, choices, columns_of
from pretune.recipe import Recipe
from pretune.runner.interrupt import check
from pretune.strategies import Phase
from pretune.tasks import Task
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
_OF_THE_LOSS = frozenset({"label_smoothing", "class_weights"})
"""Those that a probe before other phases reads too."""
_HELD_OUT = 1_500
"""Training examples at most that are held out in turn to choose thresholds by."""
_MOST_NUMBERS = 400_000_000
"""Features, as numbers, that are taken into memory at once: 1.6 GB."""
_WORDS = {
    "mean": "the means of the last stage",
    "mean_std": "the means and deviations of the last stage",
    "last4_mean_std": "the means and deviations of the last four stages",
    "layers": "the means of all stages",
    "layers_mean_std": "the means and deviations of all stages",
}
"""What a head is on, by pooling."""


def obstacle(work: Work, phase: Phase) -> str | None:
    """Return why this phase's head is trained in steps; None where it is solved.

    Raises:
        SettingError: head.solver=exact was asked for, and something stands against it.
    """
    recipe, data = work.recipe, work.needs.data
    head = data.task.head(recipe.head)
    exact = isinstance(head, Linear) and head.solver == "exact"
    if work.frozen is None or phase.open != 0 or work.frozen.layout != "pooled" or (leads(phase) and exact):
        why: str | None = "the head is not all that learns, or its features are not cached"
    else:
        varied = bool(work.mixing) and not leads(phase)  # a probe before the phases is not augmented
        why = asked_for_steps(recipe, data.task, varied=varied, own_loss=work.own_loss, first=leads(phase))
        if why is None and len(data.parts["train"]) * work.model.head.mean.numel() > _MOST_NUMBERS:
            why = "the features do not fit into memory at once"
    if why and exact:
        raise SettingError(f"head.solver=exact does not apply: {why}. Leave head.solver out.")
    return why


def leads(phase: Phase) -> bool:
    """Tell whether a phase is the short probe before others, which gives the head a direction."""
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


def widen(work: Work) -> None:
    """Let the model pool all that the features are chosen from, where the head will be solved and no pooling was asked for."""
    recipe, data, backbone = work.recipe, work.needs.data, work.backbone
    phases = work.strategy.phases(len(work.model.body))
    tried = CHOICES.get(backbone.layout, ())
    is_pooled = work.model.layout == "pooled" and backbone.probing in tried
    if not (work.strategy.trains and len(phases) == 1 and phases[0].open == 0 and not leads(phases[0]) and is_pooled):
        return
    if recipe.inputs.pooling or asked_for_steps(recipe, data.task, varied=bool(work.mixing), own_loss=work.own_loss):
        return
    widths = work.model.widths(data.example().to(work.context.device.device))
    width = blocks(widths, WIDEST)[-1].stop
    if len(data.rows) * width <= _MOST_NUMBERS and backbone.probing in choices(backbone.layout, widths):
        work.widths = widths
        work.model.repool(WIDEST, width)


def narrow(work: Work, pooling: str) -> None:
    """Let the model pool no more than was chosen, and take those columns of the cached features."""
    assert work.widths is not None
    columns = torch.cat([torch.arange(block.start, block.stop) for block in columns_of(pooling, work.widths)])
    work.model.repool(pooling, len(columns))
    work.widths = None
    if work.frozen is not None:
        work.frozen = replace(work.frozen, columns=columns)


def _candidates(work: Work) -> dict[str, list[tuple[int, int]]] | None:
    """Return the columns of each pooling that is tried; None where there is no choice."""
    if work.widths is None:
        return None
    distinct: dict[str, list[tuple[int, int]]] = {}
    for name, held in choices(work.backbone.layout, work.widths).items():
        columns = [(block.start, block.stop) for block in held]
        if columns not in distinct.values():
            distinct[name] = columns
    return distinct


# --- the solution --------------------------------------------------------------------------------


def solve(work: Work, phase: Phase) -> Generator[Event]:
    """Put the solved head into the model, and say how it was found; the first rank solves for all."""
    yield Started(phase=phase.name, step=0, steps=0, trainable=sum(p.numel() for p in work.model.head.parameters()))
    started = time.perf_counter()
    solution = work.context.device.decide(lambda: _solution(work))
    work.solution = None if leads(phase) else solution
    if work.widths is not None:
        narrow(work, solution.candidate)
    head = work.model.head
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
    return probe.solve(_link(work), view.batch(np.arange(len(view)), 0).inputs.tensor, wanted, folds, check, _candidates(work))


def held_out(work: Work, positions: NDArray[np.int64], pairs: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]) -> Tensor:
    """Return the raw outputs (H, C) of held-out training examples under solved heads that did not learn from them, fold after fold.

    Args:
        work: with a solution.
        positions: (N,) of training examples.
        pairs: (those learned from, those held out) of each fold, as places in `positions`.
    """
    assert work.frozen is not None
    assert work.solution is not None
    view = work.frozen.view(positions, None, 1)
    wanted = goal(work, work.needs.data.encoded.take(torch.from_numpy(positions)).only)
    return probe.held_out(_link(work), view.batch(np.arange(len(view)), 0).inputs.tensor, wanted, work.solution, pairs, check)


def cross_validated(work: Work) -> tuple[NDArray[np.int64], Tensor] | None:
    """Return positions (H,) of training examples, each held out once, and the raw outputs of solved heads for them.

    None where the head was not solved, or nothing could be held out. Of many examples, a random sample.
    """
    if work.solution is None or work.frozen is None:
        return None
    data = work.needs.data
    train = data.parts["train"]
    if len(train) > _HELD_OUT:
        train = np.sort(np.random.default_rng(work.recipe.training.seed).choice(train, _HELD_OUT, replace=False))
    wanted = goal(work, data.encoded.take(torch.from_numpy(train)).only).numpy().astype(float)
    folds = of_groups(data.units[train], wanted, probe.FOLDS)
    pairs = [(np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)) for fold in np.unique(folds)]
    if len(pairs) < 2:
        return None
    return train[np.concatenate([held for _, held in pairs])], held_out(work, train, pairs)


def goal(work: Work, encoded: Tensor) -> Tensor:
    """Return targets (N, C): one-hot, multi-hot, or one standardised number."""
    if encoded.ndim == 1 and not encoded.is_floating_point():
        return nn.functional.one_hot(encoded, len(work.needs.data.space.classes)).float()
    return encoded.float().reshape(len(encoded), -1)


def sentence(link: LinkName, solution: Solution) -> str:
    """Return what a person reads: the model, its features and regularisation, and what those were chosen by."""
    model = MODELS[link] if link == "squared" else f"L2-regularised {MODELS[link]}"
    found = f"head: {model} on {_WORDS.get(solution.candidate, 'the features')}, C = {solution.strength:.3g}"
    if not solution.held_out:
        return f"{found} (too few examples for cross-validation)"
    others = ", ".join(f"{name} {loss:.3g}" for name, loss in solution.tried.items())
    return (
        f"{found}, chosen by {solution.folds}-fold cross-validation "
        f"({LOSSES[link]} {solution.loss:.3g} on {solution.held_out:,} training examples"
        f"{f'; by pooling: {others}' if others else ''})"
    )
