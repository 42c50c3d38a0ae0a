"""What causal networks remember between calls, so that generation computes each position once.

A module that looks back keeps what it looks back at in `memory` while `remembering` holds; its next call then takes
only what is new. Outside the context nothing is kept and nothing changes.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Recalling(nn.Module):
    """A module with a memory of earlier positions."""

    memory: dict[str, Any] | None = None
    """None where nothing is kept; else what the module wrote into it."""


@contextmanager
def remembering(network: nn.Module) -> Generator[None]:
    """Let every part of the network that looks back remember what it has seen within the context."""
    recalling = [module for module in network.modules() if isinstance(module, Recalling)]
    for one in recalling:
        one.memory = {}
    try:
        yield
    finally:
        for one in recalling:
            one.memory = None


def extended(memory: dict[str, Any], key: str, new: Tensor, dim: int) -> Tensor:
    """Return what is remembered under `key` with `new` put after it along `dim`, and remember that."""
    memory[key] = new if key not in memory else torch.cat([memory[key], new], dim)
    return memory[key]


def reordered(network: nn.Module, rows: Tensor) -> None:
    """Let every part of the network remember these rows (R,) of what it remembers, in their order: of a batch, or of a search's beams.

    What is remembered must be batch first; what is no tensor stays.
    """
    for module in network.modules():
        if isinstance(module, Recalling) and module.memory:
            module.memory = {key: _rows_of(value, rows) for key, value in module.memory.items()}


def _rows_of(value: Any, rows: Tensor) -> Any:
    """Return these rows of what is remembered; a cache of `transformers` takes them in place."""
    if isinstance(value, Tensor):
        return value.index_select(0, rows)
    if hasattr(value, "reorder_cache"):
        value.reorder_cache(rows)
    return value
