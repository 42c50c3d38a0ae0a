"""Random streams of one loop, swapped in around every step, so that suspended loops do not mix."""

from __future__ import annotations

import random
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

_State = tuple[Any, Any, torch.Tensor, torch.Tensor | None]
_CPU = torch.device("cpu")


class Streams:
    """Python's, numpy's and torch's generators, that of the device included, owned by one loop."""

    def __init__(self, seed: int, device: torch.device = _CPU) -> None:
        self._device = device
        outside = self._capture()
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        self._inside = self._capture()
        self._restore(outside)

    @contextmanager
    def active(self) -> Generator[None]:
        """Swap this loop's streams in, and the outer ones back on leaving."""
        outside = self._capture()
        self._restore(self._inside)
        try:
            yield
        finally:
            self._inside = self._capture()
            self._restore(outside)

    def state(self) -> dict[str, Any]:
        """Return the streams, JSON-ready but for torch's tensor."""
        python, (kind, keys, position, has_gauss, cached), tensor, device = self._inside
        return {
            "python": [python[0], list(python[1]), python[2]],
            "numpy": [kind, keys.tolist(), position, has_gauss, cached],
            "torch": tensor.tolist(),
            "device": None if device is None else device.tolist(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Put back what `state` returned."""
        version, numbers, gauss = state["python"]
        kind, keys, position, has_gauss, cached = state["numpy"]
        torch_state = torch.tensor(state["torch"], dtype=torch.uint8)
        device = state.get("device")  # checkpoints of older versions have none, nor has a CPU
        self._inside = (
            (version, tuple(numbers), gauss),
            (kind, np.asarray(keys, np.uint32), position, has_gauss, cached),
            torch_state,
            self._inside[3] if device is None else torch.tensor(device, dtype=torch.uint8),
        )

    def _capture(self) -> _State:
        device = None
        if self._device.type != "cpu":
            device = torch.get_device_module(self._device).get_rng_state()
        return random.getstate(), np.random.get_state(), torch.get_rng_state(), device

    def _restore(self, state: _State) -> None:
        random.setstate(state[0])
        np.random.set_state(state[1])
        torch.set_rng_state(state[2])
        if state[3] is not None:
            torch.get_device_module(self._device).set_rng_state(state[3])
