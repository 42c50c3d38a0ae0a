"""Where training runs: the device, and this process's place among several."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Any, TypeVar

import torch
from torch import distributed
from torch.distributed.rendezvous import rendezvous

from pretune.errors import Interrupted, PretuneError, TrainingError
from pretune.types import Share

T = TypeVar("T")
_RUNS = count()
"""Numbers the runs that this process takes part in: the same in all processes, as runs under torchrun follow each other."""
_PATIENCE = timedelta(hours=12)
"""How long processes wait for the first one, which alone computes what is cached; one that dies is noticed at once."""
_LOST = ("closed by peer", "connection reset", "broken pipe", "pair closure", "timed out", "remote process exited")
"""What the errors of a collective say where another process is gone."""


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
        """What of a view's examples is this process's."""
        return Share(rank=self.rank, world=self.world)

    def agree(self, value: T) -> T:
        """Return rank 0's value on every rank: decisions by clock, memory or loss are made once."""
        if self.world == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    def decide(self, make: Callable[[], T]) -> T:
        """Return what `make` returns on the first rank, on every rank; what it raises there ends every rank.

        Raises:
            TrainingError: on the other ranks, with the first rank's message.
        """
        if self.world == 1:
            return make()
        result: Any = None
        if self.first:
            try:
                result = (make(), "")
            except BaseException as error:
                self.agree((None, _words(error)))
                raise
        value, failed = self.agree(result)
        if failed:
            raise TrainingError(f"process 0 failed: {failed}")
        return value

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

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set on any rank."""
        if self.world == 1:
            return flag
        count = torch.tensor(int(flag))
        distributed.all_reduce(count)
        return bool(count)

    def mean(self, value: float, weight: float) -> tuple[float, float]:
        """Return the weighted mean over ranks and the total weight."""
        if self.world == 1:
            return value, weight
        pair = torch.tensor([value * weight, weight], dtype=torch.float64)
        distributed.all_reduce(pair)
        return float(pair[0] / pair[1]), float(pair[1])


def local_device() -> torch.device:
    """Return what this process computes on: its GPU, Apple's, or the processor."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


@contextmanager
def open_device() -> Generator[Device]:
    """Join the process group that torchrun describes (gloo on CPU, nccl on GPUs) and leave it at the end.

    Raises:
        TrainingError: another process failed; its message is passed on, so that every process ends with it.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    cuda, device = torch.cuda.is_available(), local_device()
    if world == 1:
        yield Device(device=device)
        return
    shared, rank, world = next(rendezvous("env://"))
    store = distributed.PrefixStore(f"run {next(_RUNS)}", shared)  # torchrun keeps what earlier runs of these processes left in it
    distributed.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", store=store, rank=rank, world_size=world, timeout=_PATIENCE)
    try:
        yield Device(device=device, rank=rank, world=world)
    except Interrupted:  # all processes have agreed on it
        raise
    except Exception as error:
        _pass_on(error, distributed.PrefixStore("pretune", store), rank)
        raise
    finally:
        distributed.destroy_process_group()


def _pass_on(error: Exception, store: distributed.Store, rank: int) -> None:
    """Inform the other processes why this one ends; where it ends because another did, raise that one's message."""
    failure = _failure_of(store)
    lost = not isinstance(error, PretuneError) and any(words in str(error).lower() for words in _LOST)
    if failure or lost:
        reason = failure or "it ended without a message (killed, or out of memory)"
        raise TrainingError(f"another process failed: {reason}") from error
    store.set("failed", f"process {rank}: {_words(error)}")


def _failure_of(store: distributed.Store) -> str:
    try:
        return store.get("failed").decode() if store.check(["failed"]) else ""
    except RuntimeError:  # the process that kept the store is gone too
        return ""


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__


def cpu_threads(asked: int | None = None) -> int:
    """Return the CPU threads this process may use, as asked, else as the environment, else the scheduler says."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return asked or _openmp_threads() or max(1, allowed // ranks)


def _openmp_threads() -> int | None:
    """Return what OMP_NUM_THREADS asks for, None where it asks for nothing; of a list, '4,2', the outermost level counts."""
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(asked) if asked.isascii() and asked.isdigit() and int(asked) > 0 else None
