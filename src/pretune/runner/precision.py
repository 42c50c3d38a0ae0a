"""Which number format the frozen stages run in: measured, because processors differ by several times either way."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import nn

from pretune.backbones import inference_copy
from pretune.data.dataset import StoreView
from pretune.data.loader import Loader
from pretune.models import Learner, Model
from pretune.recipe import Training
from pretune.runner.prepare import Prepared
from pretune.training.acceleration import choose
from pretune.training.plan import Precision
from pretune.training.step import to_device
from pretune.types import Features

ITEMS = 8
"""Items of the timed batch."""
GAIN = 1.15
"""bfloat16 rounds features by several per cent, so it must be this much faster to be worth it."""


def forward_choice(model: Model, data: Prepared, device: torch.device) -> dict[str, Any]:
    """Return the precision for computing frozen features, with the figures it was chosen by."""
    positions = np.arange(min(ITEMS, len(data.rows)))
    batch = StoreView(data.ingested.store, positions, data.modality, None).batch(positions, 0).inputs
    batch = batch.with_tensor(batch.tensor.to(device))
    stages = [model.stages[name] for name in ("input", *model.body)]
    seconds = _seconds({name: inference_copy(stages, name == "bfloat16").to(device) for name in ("float32", "bfloat16")}, batch)
    rates = {name: len(positions) / s for name, s in seconds.items()}
    faster = rates["bfloat16"] > GAIN * rates["float32"]
    figures = ", ".join(f"{rate:.0f} {data.modality.unit}s/s in {name}" for name, rate in rates.items())
    return asdict(Precision(bfloat16=faster, channels_last=True, reason=f"measured {figures}"))


@torch.inference_mode()
def _seconds(modules: dict[str, nn.Module], batch: Features) -> dict[str, float]:
    """Return each module's better of two timed calls after one that warms up; in turn, so that a busy moment slows both."""
    times: dict[str, list[float]] = {name: [] for name in modules}
    for _ in range(3):
        for name, module in modules.items():
            started = time.perf_counter()
            module(batch)
            times[name].append(time.perf_counter() - started)
    return {name: min(seconds[1:]) for name, seconds in times.items()}


def step_choice(learner: Learner, loader: Loader, training: Training) -> dict[str, Any]:
    """Return how training steps compute, as asked or as measured on a first batch."""
    batches = loader.iterate(0)
    batch = to_device(next(batches), next(learner.parameters()).device)
    batches.close()
    bfloat16 = None if training.precision is None else training.precision == "bfloat16"
    return asdict(choose(learner, batch, bfloat16=bfloat16, micro_batch=training.micro_batch))
