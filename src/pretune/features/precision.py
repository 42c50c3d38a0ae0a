"""Which precision frozen features are computed in: timed where the processor has bfloat16, and remembered."""

from __future__ import annotations

import math
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from pretune.backbones import inference_copy
from pretune.data.dataset import StoreView
from pretune.kernels import processor
from pretune.modalities import Modality
from pretune.models import Model
from pretune.storage.cache import Cache
from pretune.storage.ingest import Ingested
from pretune.storage.remembered import remembered
from pretune.training.acceleration import EMULATED, GAIN
from pretune.training.plan import Precision
from pretune.training.timing import facts_of, race
from pretune.types import Batch

EXAMPLES = 8
"""Examples at most of a timed pass over the frozen stages."""


def forward_choice(
    model: Model, ingested: Ingested, modality: Modality, device: torch.device, cache: Cache, most_seconds: float = math.inf
) -> dict[str, Any]:
    """Return the precision for computing frozen features, with the figures it was chosen by.

    Args:
        model: in the state in which its frozen stages are computed.
        ingested: the examples that are computed.
        modality: of them.
        device: where.
        cache: what remembers it.
        most_seconds: that timing may cost.
    """
    if not processor.has_native_bfloat16(device):
        return asdict(Precision(channels_last=True, reason=EMULATED))
    positions = np.arange(min(EXAMPLES, len(ingested.rows)))
    inputs = StoreView(ingested.store, positions, modality, None).batch(positions, 0).inputs
    stages = [model.stages[name] for name in ("input", *model.body)]
    batch = Batch(inputs=inputs, labels=None, index=torch.from_numpy(positions)).to(device)
    facts = facts_of("features", nn.ModuleList(stages), batch.inputs, device)
    job, unit = len(ingested.rows), f"{modality.unit}s"
    return remembered(cache, "precision", facts, lambda: asdict(_timed_passes(stages, batch, job, unit, most_seconds)))


def _timed_passes(stages: list[nn.Module], batch: Batch, job: int, unit: str, most_seconds: float) -> Precision:
    device = batch.inputs.tensor.device

    @torch.inference_mode()
    def compute(copy: nn.Module, size: int) -> None:
        copy(batch.take(slice(0, size)).inputs)

    copies = {bfloat16: inference_copy(stages, bfloat16).to(device) for bfloat16 in (False, True)}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alternatives = {b: partial(compute, copy) for b, copy in copies.items()}
        times = race(alternatives, device, sizes=(1, batch.size), job=job, most_seconds=most_seconds)
    finally:
        torch.set_num_threads(threads)
    faster = times.seconds.get(True, np.inf) * GAIN < times.seconds[False]
    reason = times.report(faster, lambda bfloat16: "bfloat16" if bfloat16 else "float32", unit)
    return Precision(bfloat16=faster, channels_last=True, reason=reason)
