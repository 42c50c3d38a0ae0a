"""Which dtype a run computes in: timed where the processor has bfloat16, and remembered, so that a recipe repeats itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from pretune import config, kernels
from pretune.backbones import inference_copy
from pretune.data.dataset import StoreView
from pretune.data.loader import Loader
from pretune.kernels import processor
from pretune.models import Learner, Model
from pretune.recipe import Training
from pretune.runner.prepare import Prepared
from pretune.storage.cache import Cache
from pretune.storage.store import NoRoom, StoreWriter
from pretune.training.acceleration import EMULATED, GAIN, as_asked, choose
from pretune.training.checkpoint import Decisions
from pretune.training.plan import Precision
from pretune.training.timing import race
from pretune.types import Batch, Features

if TYPE_CHECKING:
    from pretune.runner.job import RunContext

ITEMS = 8
"""Examples at most of a timed pass over the frozen stages."""
_FEATURES = "features/precision"
"""The decision on the precision of frozen features."""
_OF_TIME = 0.02
"""Share of a time limit that timing steps may cost."""
_FORMAT = 1
"""Of what is remembered; a higher number forgets what was timed by older code."""


def forward_choice(model: Model, data: Prepared, device: torch.device, cache: Cache) -> dict[str, Any]:
    """Return the precision for computing frozen features, with the figures it was chosen by."""
    if not processor.has_native_bfloat16(device):
        return asdict(Precision(channels_last=True, reason=EMULATED))
    positions = np.arange(min(ITEMS, len(data.rows)))
    inputs = StoreView(data.ingested.store, positions, data.modality, None).batch(positions, 0).inputs
    stages = [model.stages[name] for name in ("input", *model.body)]
    batch = Batch(inputs=inputs, labels=None, index=torch.from_numpy(positions)).to(device)
    facts = _facts("features", nn.ModuleList(stages), batch.inputs, device)
    return remembered(cache, facts, lambda: _timed_passes(stages, batch, len(data.rows), data.modality.unit))


def of_features(run: RunContext, model: Model, data: Prepared, training: Training) -> Precision:
    """Return the precision of frozen features, decided once in a run: as asked, or as timed."""

    def decide() -> dict[str, Any]:
        if training.precision is None:
            run.reporter.progress("choosing the precision", 0, 0)
            return forward_choice(model, data, run.device.device, run.cache)
        bfloat16 = training.precision == "bfloat16"
        return asdict(Precision(bfloat16=bfloat16, reason=as_asked(bfloat16, run.device.device)))

    chosen = run.training.decisions.built(Precision, _FEATURES, decide)
    run.reporter.say(sentence("features", chosen))
    return chosen


def known_of_features(decisions: Decisions) -> Precision | None:
    """Return what `of_features` decided before this process started: the phase that took features may not be run again."""
    return None if (known := decisions.made(_FEATURES)) is None else decisions.built(Precision, _FEATURES, lambda: known)


def _timed_passes(stages: list[nn.Module], batch: Batch, job: int, unit: str) -> Precision:
    device = batch.inputs.tensor.device

    @torch.inference_mode()
    def compute(copy: nn.Module, size: int) -> None:
        copy(batch.take(slice(0, size)).inputs)

    copies = {bfloat16: inference_copy(stages, bfloat16).to(device) for bfloat16 in (False, True)}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = race({b: partial(compute, copy) for b, copy in copies.items()}, device, sizes=(1, batch.size), job=job)
    finally:
        torch.set_num_threads(threads)
    faster = times.seconds.get(True, np.inf) * GAIN < times.seconds[False]
    reason = times.report(faster, lambda bfloat16: "bfloat16" if bfloat16 else "float32", f"{unit}s")
    return Precision(bfloat16=faster, channels_last=True, reason=reason)


def step_choice(learner: Learner, loader: Loader, training: Training, cache: Cache) -> dict[str, Any]:
    """Return how training steps compute, as asked or as measured on a first batch."""
    device = next(learner.parameters()).device
    batches = loader.iterate(0)
    batch = next(batches).to(device)
    batches.close()
    most = math.inf if training.time is None else _OF_TIME * training.time
    job = loader.steps(0) * batch.size
    choose_ = partial(choose, learner, batch, micro_batch=training.micro_batch, job=job, most_seconds=most)
    if training.precision is not None:
        return asdict(choose_(bfloat16=training.precision == "bfloat16"))
    facts = _facts("steps", learner, batch.inputs, device) | {"batch": batch.size, "micro_batch": training.micro_batch}
    return remembered(cache, facts, choose_)


def sentence(what: str, choice: Precision) -> str:
    """Return what a person reads of a choice: the setting that repeats it, and why."""
    return f"{what}: precision={'bfloat16' if choice.bfloat16 else 'float32'} ({choice.reason})"


def remembered(cache: Cache, facts: dict[str, Any], make: Callable[[], Precision]) -> dict[str, Any]:
    """Return what was chosen on these facts before, or choose now and remember it: clocks differ from run to run.

    Where the cache has no room, it is chosen anew.
    """
    made: list[Precision] = []

    def write(path: Path) -> None:
        made.append(make())
        StoreWriter(path).close(asdict(made[0]))

    try:
        return cache.build("precision", config.digest(facts), write).meta
    except NoRoom:
        return asdict(made[0] if made else make())


def _facts(what: str, network: nn.Module, inputs: Features, device: torch.device) -> dict[str, Any]:
    """Return what the quickest dtype depends on: the machine, the versions, the network and the size of its input.

    Not the number of threads: everything is timed on one.
    """
    return {
        "format": _FORMAT,
        "what": what,
        "machine": processor.name(device),
        "torch": torch.__version__,
        "kernels": kernels.enabled(),
        "onednn": bool(torch.backends.mkldnn.enabled),
        "input": [str(inputs.tensor.dtype), *inputs.tensor.shape[1:]],
        "modules": [[name, type(module).__qualname__, module.extra_repr()] for name, module in network.named_modules()],
        "parameters": [[name, list(p.shape), str(p.dtype), p.requires_grad] for name, p in network.named_parameters()],
    }
