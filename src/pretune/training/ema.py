"""Exponential moving average of the trainable weights (Polyak & Juditsky 1992)."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import nn


class MovingAverage:
    """Follows a module's trainable parameters: average ← decay · average + (1 - decay) · weight."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self._live = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self.average = {n: p.detach().clone() for n, p in self._live.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Follow after step number `step`; young averages follow faster, so that they do not remember the start."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in self._live.items():
            self.average[name].lerp_(parameter, 1 - decay)

    @contextmanager
    def applied(self) -> Generator[None]:
        """Put the average into the module, and the live weights back on leaving."""
        live = {n: p.detach().clone() for n, p in self._live.items()}
        self._copy(self.average)
        try:
            yield
        finally:
            self._copy(live)

    def settle(self) -> None:
        """Put the average into the module for good."""
        self._copy(self.average)

    @torch.no_grad()
    def _copy(self, source: dict[str, torch.Tensor]) -> None:
        for name, parameter in self._live.items():
            parameter.copy_(source[name])
