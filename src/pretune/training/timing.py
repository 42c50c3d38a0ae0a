"""Timing alternatives within a budget: what chooses must cost little beside what it chooses for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from pretune import kernels
from pretune.kernels import processor
from pretune.types import Features

K = TypeVar("K")

SECONDS, SHARE, LONGEST = 1.0, 0.02, 10.0
"""What a choice may cost: so many seconds, or this share of the job where that is more, but never more than the last."""
ROUNDS = 2
"""Timed rounds after the one that warms up."""
FORMAT = 2
"""Of `facts_of`; a higher number forgets what was timed by older code."""
HOPELESS = 4.0
"""An alternative whose first round took this many times as long as the quickest one is not timed again."""


@dataclass(frozen=True)
class Times(Generic[K]):
    """What timing found."""

    seconds: dict[K, float]
    """Seconds per example of each alternative that ran; on a CPU, processor time."""
    failed: dict[K, str] = field(default_factory=dict)
    """The first line of the error of each that did not."""

    def report(self, chosen: K, names: Callable[[K], str], unit: str) -> str:
        """Return the rate of the chosen alternative, then those of the others, as a phrase."""
        rates = {names(key): _shown(1 / max(seconds, 1e-9)) for key, seconds in self.seconds.items()}
        others = [f"{name}: {rate}" for name, rate in rates.items() if name != names(chosen)]
        others += [f"{names(key)} does not run on this machine ({why})" for key, why in self.failed.items()]
        return "; ".join([f"{rates[names(chosen)]} {unit}/s on one core", *others])


def race(
    alternatives: Mapping[K, Callable[[int], object]],
    device: torch.device,
    *,
    sizes: tuple[int, int],
    job: int,
    most_seconds: float = math.inf,
) -> Times[K]:
    """Time alternatives in turn, so that a busy moment slows all of them, and stop at the budget.

    Each computes at least once: where even that exceeds the budget, nothing is computed twice.

    Args:
        alternatives: each computes as many examples as it is given. The first one is the plain one: its errors are raised.
        device: where they compute.
        sizes: the fewest and the most examples computed at once.
        job: examples that the whole job computes; the budget is a share of it.
        most_seconds: of the budget, where the job has a time limit. It is one of time that passes: a busy machine gets fewer rounds.
    """
    plain = next(iter(alternatives))
    least, most = sizes
    began = time.perf_counter()
    warm = _seconds(alternatives[plain], least, device)  # warms up, and tells how long an example takes
    passed = time.perf_counter() - began
    budget = min(max(SECONDS, SHARE * job * warm / least), most_seconds, LONGEST)
    size = min(most, max(least, int(budget * least / (passed * (1 + ROUNDS) * len(alternatives)))))
    times: dict[K, list[float]] = {}
    failed: dict[K, str] = {}
    for name, run in alternatives.items():
        if name == plain and passed > budget / (1 + len(alternatives)):
            times[name] = [warm]
            continue
        try:
            times[name] = [_seconds(run, size, device)]
        except RuntimeError as error:  # no kernel for this dtype on this machine
            if name == plain:
                raise
            failed[name] = (str(error) or type(error).__name__).splitlines()[0]
    limit = HOPELESS * min(first for (first,) in times.values())
    last_round = 0.0
    hopeful = [name for name, (first,) in times.items() if first < limit]
    for _ in range(ROUNDS if len(hopeful) > 1 else 0):
        round_began = time.perf_counter()
        if round_began - began + max(last_round, sum(min(times[name]) for name in hopeful)) > budget:
            break
        for name in hopeful:
            times[name].append(_seconds(alternatives[name], size, device))
        last_round = time.perf_counter() - round_began
    # A first call also builds what later ones reuse: it counts only where there is no other.
    return Times({name: min(found[1:] or found) / size for name, found in times.items()}, failed)


def _shown(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def _seconds(run: Callable[[int], object], size: int, device: torch.device) -> float:
    """Return what one call takes: processor time on a CPU, which a busy neighbour does not lengthen."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    started = clock()
    run(size)
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return clock() - started


def _rounded(length: int) -> int:
    """Return the next power of two: the longest text of a batch differs from data to data, and what is quicker hardly does."""
    return 1 << (length - 1).bit_length() if length > 0 else 0


def facts_of(what: str, network: nn.Module, inputs: Features, device: torch.device) -> dict[str, Any]:
    """Return what the quickest precision depends on: the machine, the versions, the network and the size of its input.

    Not the number of threads: everything is timed on one.
    """
    return {
        "format": FORMAT,
        "what": what,
        "machine": processor.name(device),
        "torch": torch.__version__,
        "kernels": kernels.enabled(),
        "onednn": bool(torch.backends.mkldnn.enabled),
        "input": [str(inputs.tensor.dtype), *(_rounded(n) if inputs.tensor.ndim == 2 else n for n in inputs.tensor.shape[1:])],
        "modules": [[name, type(module).__qualname__, module.extra_repr()] for name, module in network.named_modules()],
        "parameters": [[name, list(p.shape), str(p.dtype), p.requires_grad] for name, p in network.named_parameters()],
    }
