"""A loop's turn: while it computes, learner and process are as it left them; between its events, as its consumer left them.

A suspended loop shares its process with whoever reads its events. Each turn swaps in what the loop owns: the mode of every
module, the number of threads, the random streams, and gradients without autocast or inference mode around them.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from pretune.training.streams import Streams

_SETTER: Any = nn.Module.__setattr__


@contextmanager
def computing_threads(count: int | None) -> Generator[None]:
    """Compute with so many threads within the context, and with as many as before on leaving; None changes nothing."""
    before = torch.get_num_threads()
    _set_threads(count or before)
    try:
        yield
    finally:
        _set_threads(before)


class LoopState:
    """What one loop owns of its learner and its process; a whole run has one too, without a learner."""

    def __init__(self, learner: nn.Module | None, seed: int, device: torch.device, threads: int | None) -> None:
        """Take the learner as it is.

        Args:
            learner: its modules' modes are swapped; None where the loop within swaps them.
            seed: of the random streams.
            device: where it computes: its random stream is swapped too.
            threads: to compute with; None for as many as the process uses now.
        """
        self.streams = Streams(seed, device)
        self.threads = threads or torch.get_num_threads()
        self._device = device
        self._modules = [] if learner is None else list(learner.modules())
        self._modes = self._now()

    @contextmanager
    def taken(self) -> Generator[None]:
        """Swap in what the loop owns; on leaving, also by an exception, remember it and put back what was there before."""
        outside, automatic = self._now(), torch.is_autocast_enabled(self._device.type)
        self._set(self._modes)
        torch.set_autocast_enabled(self._device.type, False)  # not by a context: casts are dropped when the outermost one is left
        try:
            with computing_threads(self.threads), self.streams.active(), torch.inference_mode(False), torch.enable_grad():
                yield
        finally:
            torch.set_autocast_enabled(self._device.type, automatic)
            self._modes = self._now()
            self._set(outside)

    def _now(self) -> list[bool]:
        return [module.training for module in self._modules]

    def _set(self, modes: list[bool]) -> None:
        for module, mode in zip(self._modules, modes, strict=True):
            if module.training == mode:
                continue
            if type(module).__setattr__ is _SETTER:
                object.__setattr__(module, "training", mode)  # what that ends in for a flag, after a search among parameters
            else:  # such as TorchScript's, which keeps its flag elsewhere
                module.training = mode


def _set_threads(count: int) -> None:
    if count != torch.get_num_threads():
        torch.set_num_threads(count)
