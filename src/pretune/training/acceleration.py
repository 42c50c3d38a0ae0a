"""How a training step computes fastest here: measured on the learner's own batch, because processors differ several times either way.

What is chosen among:

- bfloat16 or float32. Where the processor computes in bfloat16 natively (AMX, AVX512-BF16) it is several times faster on
  some networks; where it does not, it is tens of times slower, and not timed.
- channels last or first, for images.
- micro-batches, where no norm looks across the batch: the gradient stays the whole batch's, and memory falls. They are
  sized, not timed.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pretune.errors import SettingError
from pretune.kernels import processor, shortcuts
from pretune.kernels.shortcuts import Shortcuts
from pretune.models.learner import Learner
from pretune.training.plan import Precision
from pretune.training.step import arranged, autocast, split
from pretune.training.timing import race
from pretune.types import Batch

ITEMS = (2, 8)
"""Fewest and most examples of a timed step: a batch norm needs two."""
GAIN = 1.15
"""How much faster bfloat16 must be to be worth its rounding."""
WIDEST = 96 << 20
"""Bytes of the widest map of one micro-batch: below, smaller ones are slower; above, they only save memory."""
EMULATED = "this processor has no native bfloat16"


def choose(
    learner: Learner,
    batch: Batch,
    *,
    bfloat16: bool | None = None,
    micro_batch: int | None = None,
    job: int = 0,
    most_seconds: float = math.inf,
) -> Precision:
    """Return the fastest way to compute this learner's steps, with the figures it was chosen by.

    Nothing is left behind: weights, gradients, statistics and random streams are as before.

    Args:
        learner: in the state it will train in: what learns is open, the rest frozen.
        batch: a training batch, on the learner's device.
        bfloat16: None chooses; otherwise the dtype is given and only the rest is decided.
        micro_batch: examples computed at once; None decides.
        job: examples of an epoch; timing costs at most a second, or two per cent of an epoch where that is more, and never over ten.
        most_seconds: that timing costs where the run has a time limit.

    Raises:
        SettingError: the learner's batches cannot be split.
    """
    if micro_batch is not None and learner.compares:
        raise SettingError(
            "micro_batch does not apply: this loss compares the items of a batch with each other. Take a smaller batch_size."
        )
    device = batch.inputs.tensor.device
    native = processor.has_native_bfloat16(device)
    with _untouched(learner):
        seen = shortcuts.find(learner, lambda: learner.predict(batch.take(slice(0, 2))))
        candidates = [
            replace(c, micro_batch=micro_batch) if micro_batch else _with_micro_batch(c, learner, batch, seen)
            for c in _candidates(batch, bfloat16, native=native)
        ]
        if len(candidates) == 1:
            return replace(candidates[0], reason=EMULATED if bfloat16 is None else as_asked(candidates[0].bfloat16, device))
        steps = {c: partial(_step, learner, batch, c, seen) for c in candidates}
        sizes = (_fewest(learner, batch), min(ITEMS[1], batch.size))
        times = race(steps, device, sizes=sizes, job=max(job, batch.size), most_seconds=most_seconds)
    # A tie goes to float32, which stands first.
    best = min(times.seconds, key=lambda c: times.seconds[c] * (GAIN if c.bfloat16 else 1.0))
    return replace(best, reason=times.report(best, _name, "examples"))


def as_asked(bfloat16: bool, device: torch.device) -> str:
    """Return the reason of a dtype that the person set, with what it costs where the processor has it not."""
    slow = bfloat16 and not processor.has_native_bfloat16(device)
    return f"as asked; {EMULATED}: expect it to be tens of times slower than float32" if slow else "as asked"


def _candidates(batch: Batch, bfloat16: bool | None, *, native: bool) -> list[Precision]:
    """Return the modes worth timing, float32 first."""
    formats = ((False, True) if native else (False,)) if bfloat16 is None else (bfloat16,)
    images = batch.inputs.tensor.ndim == 4
    modes = [Precision(bfloat16=b, channels_last=images) for b in formats]
    # Where oneDNN convolves, channels last is the faster layout; elsewhere float32 has to show it.
    contested = images and bfloat16 is None and not torch.backends.mkldnn.is_available()
    return [Precision(), *modes] if contested else modes


def _with_micro_batch(precision: Precision, learner: Learner, batch: Batch, seen: Shortcuts) -> Precision:
    """Add the largest micro-batch, a power of two, whose widest map is at most WIDEST bytes."""
    unseen = seen.widest == 0  # only networks that convolve are watched
    if _mixes(learner) or unseen or batch.inputs.tensor.ndim != 4 or batch.inputs.tensor.device.type != "cpu":
        return precision
    item = seen.widest / min(2, batch.size) / (2 if precision.bfloat16 else 1)
    fits = max(4, 1 << (int(WIDEST / item).bit_length() - 1)) if item < WIDEST else 4
    return replace(precision, micro_batch=fits if fits < batch.size else None)


def _mixes(learner: Learner) -> bool:
    """Return whether the examples of a batch act on each other: by its loss or by batch norm."""
    return learner.compares or any(isinstance(module, _BatchNorm) and module.training for module in learner.modules())


def _fewest(learner: Learner, batch: Batch) -> int:
    """Return the examples of the first timed step; one text may take seconds, but one alone cannot be compared or normalised."""
    one_will_do = batch.inputs.tensor.ndim == 2 and not _mixes(learner)
    return 1 if one_will_do else min(ITEMS[0], batch.size)


def _step(learner: Learner, batch: Batch, precision: Precision, seen: Shortcuts, size: int) -> None:
    """Compute the gradient of the first `size` examples of a batch."""
    few = batch.take(slice(0, size))
    for part in split(arranged(few, precision), precision.micro_batch):
        with autocast(precision, few.inputs.tensor.device), seen.taken():
            out = learner(part)
        out.loss.backward()


@contextmanager
def _untouched(learner: nn.Module) -> Generator[None]:
    """Compute on one thread, in training mode; put back threads, buffers, gradients, random streams and the mode on leaving.

    Two threads that wait for each other beside a busy process say nothing about a precision; one thread's processor
    time does.
    """
    buffers = {name: buffer.clone() for name, buffer in learner.named_buffers()}
    mode, threads = learner.training, torch.get_num_threads()
    learner.train()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_num_threads(threads)
        with torch.no_grad():
            for name, buffer in learner.named_buffers():
                buffer.copy_(buffers[name])
        for parameter in learner.parameters():
            parameter.grad = None
        learner.train(mode)


def _name(precision: Precision) -> str:
    return ("bfloat16" if precision.bfloat16 else "float32") + (" channels last" if precision.channels_last else "")
