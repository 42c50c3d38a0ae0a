"""What the model is worth: outputs of every held-out item, metrics, floors, intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from pretune.data.dataset import View
from pretune.data.loader import Loader
from pretune.evaluation import floors, intervals
from pretune.models.learner import Learner
from pretune.runner.prepare import Prepared
from pretune.tasks import Targets, Task
from pretune.training.device import Device
from pretune.training.plan import Precision
from pretune.training.step import autocast, to_device

FLOOR_ITEMS = 5_000
"""Training items the classical floor is fitted on at most: more would cost more than the floor tells."""


@torch.inference_mode()
def outputs(learner: Learner, view: View, device: Device, precision: Precision, batch_size: int = 64) -> torch.Tensor:
    """Return the raw outputs (N, …) of a view's items in order; each is computed on exactly one rank."""
    learner.eval()
    loader = Loader(view, batch_size=batch_size, shuffle=False, seed=0, rank=device.rank, world=device.world, workers=1)
    index, out = [], []
    for batch in loader.iterate(0):
        with autocast(precision, device.device):
            out.append(learner.predict(to_device(batch, device.device)).float().cpu())
        index.append(batch.index)
    mine = (torch.cat(index), torch.cat(out)) if out else (torch.zeros(0, dtype=torch.long), torch.zeros(0))
    pieces = [piece for piece in device.gather(mine) if len(piece[0])]
    order = torch.cat([piece[0] for piece in pieces])
    result = torch.cat([piece[1] for piece in pieces])
    assert len(order) == len(view) and len(torch.unique(order)) == len(view), "every item is evaluated exactly once"
    return result[order.argsort()]


def measure(raw: torch.Tensor, encoded: torch.Tensor, task: Task, targets: Targets) -> dict[str, Any]:
    """Return all metrics of raw outputs against encoded targets."""
    return task.metrics(task.decode(raw, targets), encoded.numpy(), targets)


def primary_interval(raw: torch.Tensor, encoded: torch.Tensor, data: Prepared, part: str) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the primary metric; whole groups are resampled where there are groups."""
    task, targets = data.task, data.targets
    groups = [data.rows[i].group for i in data.parts[part]]
    known = np.array([str(g) for g in groups]) if all(g is not None for g in groups) else None
    decoded, truth = task.decode(raw, targets), encoded.numpy()
    return intervals.interval(lambda d, t: task.metrics(d, t, targets)[task.primary], decoded, truth, groups=known)


def compute_floors(data: Prepared, part: str, seed: int) -> dict[str, Any]:
    """Return the floors fitted on the training part and measured on `part`: the very items of the score."""
    train, held = data.parts["train"], data.parts[part]
    if len(train) > FLOOR_ITEMS:
        train = np.sort(np.random.default_rng(seed).choice(train, FLOOR_ITEMS, replace=False))
    store = data.ingested.store
    describe = data.modality.floor_features
    from pretune.runner.prepare import task_name

    return floors.floors(
        task_name(data.task), describe([store[i] for i in train]), _units(data, train), describe([store[i] for i in held]), _units(data, held),
        list(data.targets.classes),
    )  # fmt: skip


def _units(data: Prepared, positions: np.ndarray) -> np.ndarray:
    """Return targets as the floors take them: class indices, multi-hot rows, or numbers in the user's units."""
    encoded = data.encoded[torch.from_numpy(positions)].numpy()
    regression = encoded.ndim == 1 and encoded.dtype.kind == "f"
    return encoded.astype(float) * data.targets.deviation + data.targets.mean if regression else encoded
