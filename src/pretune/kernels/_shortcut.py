"""A shortcut: an operation that is private to PyTorch, or quicker on some processors only, beside the plain one.

Nobody's processor is assumed. A shortcut is taken where a trial of that very call worked on this machine: it is tried
once for each dtype, on tiny inputs, and its results are compared with those of the plain operation. Everywhere else the
plain operation runs. `PRETUNE_KERNELS=plain` in the environment turns all shortcuts off; so does `plain()` in Python.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor

from pretune.errors import SettingError

SWITCH = "PRETUNE_KERNELS"
"""Environment variable: `auto` (the default) or `plain`."""
_TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-4, torch.bfloat16: 2e-2}
"""Largest relative difference, in norm, between a shortcut's result and the plain one in float32; by dtype."""

Trial = Callable[[torch.dtype], Iterable[tuple[Tensor, Tensor]]]
"""Yields pairs on tiny inputs: what the shortcut returned, and what the plain operation returns in float32."""

_results: dict[tuple[str, torch.dtype, bool], bool] = {}
"""Results of trials in this process, by shortcut, dtype and whether oneDNN may be used."""
_plain: ContextVar[bool] = ContextVar("plain", default=False)


def enabled() -> bool:
    """Return whether shortcuts may be taken at all.

    Raises:
        SettingError: the environment variable has another value than `auto` or `plain`.
    """
    wanted = os.environ.get(SWITCH) or "auto"
    if wanted not in ("auto", "plain"):
        raise SettingError(f"{SWITCH}={wanted} in the environment: use auto (the default) or plain.")
    return wanted == "auto" and not _plain.get()


@contextmanager
def plain() -> Generator[None]:
    """Take no shortcut within the context: every operation is PyTorch's own."""
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


@dataclass(frozen=True, kw_only=True)
class Shortcut:
    """One shortcut and the trial that admits it; CPU only."""

    name: str
    trial: Trial

    def works(self, dtype: torch.dtype) -> bool:
        """Return whether the shortcut may be taken for tensors of `dtype` on this machine's CPU; other dtypes have none."""
        if dtype not in _TOLERANCE or not enabled():
            return False
        key = (self.name, dtype, bool(torch.backends.mkldnn.enabled))
        if key not in _results:
            _results[key] = self._is_right(dtype)
        return _results[key]

    def _is_right(self, dtype: torch.dtype) -> bool:
        """Try it, with gradients and outside autocast, whatever surrounds the call."""
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", enabled=False), torch.random.fork_rng([]):
            torch.manual_seed(0)
            try:
                return all(_close(short, reference, _TOLERANCE[dtype]) for short, reference in self.trial(dtype))
            except (RuntimeError, AttributeError, TypeError):  # not built in, not on this processor, or another signature
                return False


def _close(short: Tensor, reference: Tensor, tolerance: float) -> bool:
    short, reference = short.detach().double(), reference.detach().double()
    return short.shape == reference.shape and bool((short - reference).norm() <= tolerance * reference.norm())
