"""Where training runs: the device, and this process's place among several."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import distributed

from pretune.types import Share

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Device:
    """One process's device and rank; `torchrun` sets the environment that makes several."""

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes files and decides."""
        return self.rank == 0

    @property
    def share(self) -> Share:
        """What of a view's items is this process's."""
        return Share(rank=self.rank, world=self.world)

    def agree(self, value: T) -> T:
        """Return rank 0's value on every rank: decisions by clock, memory or loss are made once."""
        if self.world == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    def wait(self) -> None:
        """Wait for all ranks."""
        if self.world > 1:
            distributed.barrier()

    def gather(self, value: Any) -> list[Any]:
        """Return every rank's value, on every rank."""
        if self.world == 1:
            return [value]
        out: list[Any] = [None] * self.world
        distributed.all_gather_object(out, value)
        return out

    def mean(self, value: float, weight: float) -> tuple[float, float]:
        """Return the weighted mean over ranks and the total weight."""
        if self.world == 1:
            return value, weight
        pair = torch.tensor([value * weight, weight], dtype=torch.float64)
        distributed.all_reduce(pair)
        return float(pair[0] / pair[1]), float(pair[1])


@contextmanager
def open_device() -> Generator[Device]:
    """Join the process group that torchrun describes (gloo on CPU, nccl on GPUs) and leave it at the end."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    cuda = torch.cuda.is_available()
    if world > 1:
        distributed.init_process_group("nccl" if cuda else "gloo")
    local = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local) if cuda else torch.device("mps") if torch.backends.mps.is_available() else torch.device("cpu")
    try:
        yield Device(device=device, rank=rank, world=world)
    finally:
        if world > 1:
            distributed.destroy_process_group()
