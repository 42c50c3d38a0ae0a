"""What the model is worth: outputs of every held-out example, metrics, intervals."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from pretune.data.batching import Batching, token_budget
from pretune.data.dataset import View
from pretune.data.loader import Loader
from pretune.evaluation.intervals import groups_of
from pretune.labels import Labels, Outputs, joined, taken
from pretune.models.learner import Learner
from pretune.runner.interrupt import check
from pretune.runner.prepare import Prepared
from pretune.tasks import Space, Task
from pretune.training.device import Device
from pretune.training.plan import Precision
from pretune.training.step import autocast
from pretune.types import Row

TRAIN_ITEMS = 1_000
"""Training items that are measured at most where each costs a pass through the network: enough to tell over- from underfitting."""
SCORED = 0.75
"""Share of the examples that can be measured in a limited time which goes to the score's split."""
_TIMED = 2
"""Batches by which the time of measuring is estimated, after one that warms up."""


def at_once(task: Task) -> int:
    """Return the examples of a batch that is only measured."""
    return 64 if task.batch is None else 2 * task.batch


@torch.inference_mode()
def outputs(learner: Learner, view: View, device: Device, precision: Precision, batch_size: int = 64) -> Outputs:
    """Return the raw outputs of a view's items in order; each is computed on exactly one rank."""
    learner.eval()
    index: list[torch.Tensor] = []
    out: list[Outputs] = []
    for batch in _loader(view, device, batch_size).iterate(0):
        check()
        with autocast(precision, device.device):
            out.append(learner.predict(batch.to(device.device)).float().cpu())
        index.append(batch.index)
    mine = (torch.cat(index), joined(out)) if out else (torch.zeros(0, dtype=torch.long), torch.zeros(0))
    pieces = [piece for piece in device.gather(mine) if len(piece[0])]
    order = torch.cat([piece[0] for piece in pieces])
    result = joined([piece[1] for piece in pieces])
    assert len(order) == len(torch.unique(order)) == len(view), "every item is evaluated exactly once"
    return taken(result, order.argsort())


def _loader(view: View, device: Device, batch_size: int) -> Loader:
    """Return a loader of this rank's share of a view, in the view's order."""
    return Loader(view, Batching(size=batch_size, tokens=token_budget(view, batch_size)), share=device.share, workers=1)


@torch.inference_mode()
def seconds_per_item(
    learner: Learner,
    view: View,
    device: Device,
    precision: Precision,
    batch_size: int = 64,
    now: Callable[[], float] = time.perf_counter,
) -> float:
    """Return about how long `outputs` takes for each example, by the middle batches of a view: theirs are neither long nor short.

    The first of them warms up, unless there is no other. The last batch of a view may be much smaller than others.
    """
    learner.eval()
    loader = _loader(view, device, batch_size)
    steps = loader.steps(0)
    batches = loader.iterate(0, start=max(0, min(steps // 2, steps - _TIMED - 1)))
    ends, sizes = [now()], []
    for _, batch in zip(range(_TIMED + 1), batches, strict=False):
        with autocast(precision, device.device):
            learner.predict(batch.to(device.device))
        ends.append(now())
        sizes.append(batch.size)
    batches.close()
    cold = 1 if len(sizes) > 1 else 0
    return (ends[-1] - ends[cold]) / max(1, sum(sizes[cold:]))


def measured(data: Prepared, *, seed: int, costly: bool) -> dict[str, np.ndarray]:
    """Return the positions that the final figures are of, by split: all held-out examples, and of train a sample where each is costly."""
    found = {split: data.splits[split] for split in ("train", "val", "test") if split in data.splits}
    if costly and len(found["train"]) > TRAIN_ITEMS:
        found["train"] = few(found["train"], TRAIN_ITEMS, np.random.default_rng(seed), data.kept_whole)
    return found


def few(positions: np.ndarray, count: int, rng: np.random.Generator, units: np.ndarray | None) -> np.ndarray:
    """Return about `count` positions at random, sorted; of units whole ones, at least one."""
    if units is None:
        return np.sort(rng.choice(positions, count, replace=False))
    names, sizes = np.unique(units[positions], return_counts=True)
    order = rng.permutation(len(names))
    chosen = names[order[: max(1, int(np.searchsorted(np.cumsum(sizes[order]), count, side="right")))]]
    return positions[np.isin(units[positions], chosen)]


def sampled(found: dict[str, np.ndarray], scored: str, count: int, seed: int, units: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Return a random sample of the positions of each split, about `count` in all; `scored` gets the most.

    Args:
        found: positions by split, each sorted.
        scored: the split whose figures are the score.
        count: examples that can be measured in the time there is; one of each split at least is.
        seed: of the sample.
        units: number of the set of each row of the data, where sets stay whole.
    """
    rng = np.random.default_rng(seed)
    others = [name for name in found if name != scored]
    shares = {name: min(len(found[name]), max(1, int((1 - SCORED) * count / len(others)))) for name in others}
    shares[scored] = min(len(found[scored]), max(1, count - sum(shares.values())))
    return {name: few(positions, shares[name], rng, units) for name, positions in found.items()}


def measure(raw: Outputs, labels: Labels, task: Task, space: Space) -> dict[str, Any]:
    """Return all metrics of raw outputs against labels."""
    return task.metrics(task.decode(raw, space), task.truth(labels, space), space)


def interval(raw: Outputs, labels: Labels, rows: Sequence[Row], task: Task, space: Space) -> dict[str, list[float]]:
    """Return 95 % confidence intervals by metric; whole groups are resampled."""
    known = groups_of([row.group for row in rows])  # examples of one group are no evidence of their own
    found = task.intervals(task.decode(raw, space), task.truth(labels, space), space, known)
    return {name: list(ends) for name, ends in found.items()}
