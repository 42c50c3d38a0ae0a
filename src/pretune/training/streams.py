"""Random streams of one loop, swapped in around every step, so that suspended loops do not mix."""

from __future__ import annotations

import random
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


class Streams:
    """Python's, numpy's and torch's generators, owned by one loop."""

    def __init__(self, seed: int) -> None:
        outside = _capture()
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        self._inside = _capture()
        _restore(outside)

    @contextmanager
    def active(self) -> Generator[None]:
        """Swap this loop's streams in, and the outer ones back on leaving."""
        outside = _capture()
        _restore(self._inside)
        try:
            yield
        finally:
            self._inside = _capture()
            _restore(outside)

    def state(self) -> dict[str, Any]:
        """Return the streams, JSON-ready but for torch's tensor."""
        python, (kind, keys, position, has_gauss, cached), tensor = self._inside
        return {
            "python": [python[0], list(python[1]), python[2]],
            "numpy": [kind, keys.tolist(), position, has_gauss, cached],
            "torch": tensor.tolist(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Put back what `state` returned."""
        version, numbers, gauss = state["python"]
        kind, keys, position, has_gauss, cached = state["numpy"]
        torch_state = torch.tensor(state["torch"], dtype=torch.uint8)
        self._inside = ((version, tuple(numbers), gauss), (kind, np.asarray(keys, np.uint32), position, has_gauss, cached), torch_state)


def _capture() -> tuple[Any, Any, torch.Tensor]:
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def _restore(state: tuple[Any, Any, torch.Tensor]) -> None:
    random.setstate(state[0])
    np.random.set_state(state[1])
    torch.set_rng_state(state[2])
