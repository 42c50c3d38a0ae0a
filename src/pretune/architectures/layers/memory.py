"""What causal networks remember between calls, so that generation computes each position once.

A module that looks back keeps what it looks back at in `memory` while `remembering` holds; its next call then takes
only what is new. Outside the context nothing is kept and nothing changes.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, ClassVar

from torch import Tensor, nn

_ROOM = 32
"""Positions of room that are made ahead at least."""


class Recalling(nn.Module):
    """A module with a memory of earlier positions."""

    takes_padding: ClassVar[bool] = False
    """Whether the first call within a memory may have a mask (B, T) that is False on padding before texts."""
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


def takes_padding(network: nn.Module) -> bool:
    """Return whether a network remembers texts of several lengths at once, with padding before the shorter ones."""
    recalling = [module for module in network.modules() if isinstance(module, Recalling)]
    return bool(recalling) and all(module.takes_padding for module in recalling)


class Grown:
    """A tensor that grows along one dimension. It has room ahead, so that what is kept is not copied at every step."""

    def __init__(self, first: Tensor, dim: int) -> None:
        self.dim, self.length, self._room = dim, first.shape[dim], first

    def append(self, new: Tensor) -> Tensor:
        """Put `new` after what is kept, and return all of it: a view that stays valid until the next call."""
        begin, self.length = self.length, self.length + new.shape[self.dim]
        if self.length > self._room.shape[self.dim]:
            sizes = list(self._room.shape)
            sizes[self.dim] = self.length + max(_ROOM, self.length // 4)
            room = self._room.new_empty(sizes)
            room.narrow(self.dim, 0, begin).copy_(self._room.narrow(self.dim, 0, begin))
            self._room = room
        self._room.narrow(self.dim, begin, new.shape[self.dim]).copy_(new)
        return self._room.narrow(self.dim, 0, self.length)

    def take(self, rows: Tensor) -> Grown:
        """Return these rows of it (R,)."""
        return Grown(self._room.narrow(self.dim, 0, self.length).index_select(0, rows), self.dim)


def extended(memory: dict[str, Any], key: str, new: Tensor, dim: int) -> Tensor:
    """Return what is remembered under `key` with `new` put after it along `dim`, and remember that."""
    if key in memory:
        return memory[key].append(new)
    memory[key] = Grown(new, dim)
    return new


def length_of(memory: dict[str, Any] | None, key: str) -> int:
    """Return how many positions are remembered under `key`."""
    return memory[key].length if memory is not None and key in memory else 0


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
    if isinstance(value, Grown):
        return value.take(rows)
    if hasattr(value, "reorder_cache"):
        value.reorder_cache(rows)
    return value
