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

SECONDS, SHARE = 1.0, 0.02
"""What a choice may cost: so many seconds, or this share of the job where that is more."""
ROUNDS = 2
"""Timed rounds after the one that warms up."""
FORMAT = 1
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

    Args:
        alternatives: each computes as many examples as it is given. The first one is the plain one: its errors are raised.
        device: where they compute.
        sizes: the fewest and the most examples computed at once.
        job: examples that the whole job computes; the budget is a share of it.
        most_seconds: of the budget, where the job has a time limit.
    """
    plain = next(iter(alternatives))
    least, most = sizes
    spent = _seconds(alternatives[plain], least, device)  # warms up, and tells how long an example takes
    budget = max(SECONDS, min(most_seconds, SHARE * job * spent / least))
    size = min(most, max(least, int(budget * least / (spent * (1 + ROUNDS) * len(alternatives)))))
    times: dict[K, list[float]] = {}
    failed: dict[K, str] = {}
    for name, run in alternatives.items():
        try:
            times[name] = [_seconds(run, size, device)]
        except RuntimeError as error:  # no kernel for this dtype on this machine
            if name == plain:
                raise
            failed[name] = (str(error) or type(error).__name__).splitlines()[0]
    spent += sum(first for (first,) in times.values())
    limit = HOPELESS * min(first for (first,) in times.values())
    hopeful = [name for name, (first,) in times.items() if first < limit]
    for _ in range(ROUNDS if len(hopeful) > 1 else 0):
        if spent + sum(min(times[name]) for name in hopeful) > budget:
            break
        for name in hopeful:
            times[name].append(_seconds(alternatives[name], size, device))
            spent += times[name][-1]
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
        "input": [str(inputs.tensor.dtype), *inputs.tensor.shape[1:]],
        "modules": [[name, type(module).__qualname__, module.extra_repr()] for name, module in network.named_modules()],
        "parameters": [[name, list(p.shape), str(p.dtype), p.requires_grad] for name, p in network.named_parameters()],
    }
