"""How processes share one learner: the two places where a strategy acts, before the optimizer and behind checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pretune.training.checkpoint import changing, load_by_name
from pretune.training.device import Device
from pretune.training.optim import load_named_state, named_state
from pretune.types import ParamGroup


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """One process has all of the learner. Another strategy overrides `parallelize`, and `state` and `load` where it splits tensors."""

    def parallelize(self, learner: nn.Module) -> nn.Module:
        """Return the module whose forward a training step calls; the learner's parameters may be replaced in place, under their names."""
        return learner

    def state(self, learner: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
        """Return whole tensors as checkpoints hold them, 'model/NAME' and 'optim/NAME/KEY'; every process calls it."""
        tensors = {f"model/{name}": tensor for name, tensor in changing(learner).items()}
        for name, state in named_state(optimizer).items():
            tensors |= {f"optim/{name}/{key}": value for key, value in state.items()}
        return tensors

    def load(self, learner: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
        """Put back what `state` returned."""
        load_by_name(learner, {name.removeprefix("model/"): value for name, value in tensors.items() if name.startswith("model/")})
        optim: dict[str, dict[str, torch.Tensor]] = {}
        for name in (name for name in tensors if name.startswith("optim/")):
            parameter, _, key = name.removeprefix("optim/").rpartition("/")
            optim.setdefault(parameter, {})[key] = tensors[name]
        optimizer.state.clear()
        load_named_state(optimizer, optim)

    def accumulating(self, module: nn.Module) -> AbstractContextManager[object]:
        """Return the context of all micro-batches of a step but the last: gradients are not exchanged yet."""
        return nullcontext()


@dataclass(frozen=True, kw_only=True)
class DataParallel(Distribution):
    """Every process has all of the learner and a share of each batch; gradients are averaged (DistributedDataParallel)."""

    def parallelize(self, learner: nn.Module) -> nn.Module:
        """Return the learner with hooks that average its gradients."""
        return DistributedDataParallel(learner)

    def accumulating(self, module: nn.Module) -> AbstractContextManager[object]:
        """Return the context in which gradients stay where they are."""
        assert isinstance(module, DistributedDataParallel)
        return module.no_sync()


def distribution_of(device: Device) -> Distribution:
    """Return how the processes that were started share a learner."""
    return Distribution() if device.world == 1 else DataParallel()


def replaced(groups: Sequence[ParamGroup], names: dict[int, str], learner: nn.Module) -> tuple[ParamGroup, ...]:
    """Return parameter groups over the learner's present parameters.

    Args:
        groups: over its parameters before `parallelize`.
        names: id of each of those -> its name in the learner.
        learner: after `parallelize`.
    """
    now = dict(learner.named_parameters())
    return tuple(replace(group, params=tuple((name, now[names[id(p)]] if id(p) in names else p) for name, p in group)) for group in groups)
