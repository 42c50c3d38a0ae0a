"""Another distribution strategy is one file: it acts before the optimizer and behind checkpoints, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pretune.strategies._base import groups
from pretune.training.distribution import Distribution
from pretune.training.events import Event, Stepped
from pretune.training.loop import fit
from pretune.training.optim import Optim
from pretune.types import Batch, StepOutput
from tests.checkpoints import latest
from tests.test_loop import Toy, ToyLoader, context, losses, plan


class Halved(nn.Module):
    """Computes with half of each stored parameter."""

    def __init__(self, learner: nn.Module) -> None:
        super().__init__()
        self.learner = learner

    def forward(self, batch: Batch) -> StepOutput:
        return torch.func.functional_call(self.learner, {name: 0.5 * p for name, p in self.learner.named_parameters()}, (batch,))


@dataclass(frozen=True, kw_only=True)
class Doubled(Distribution):
    """Replaces every parameter, as sharding does: what is stored is twice what a checkpoint holds."""

    calls: list[str] = field(default_factory=list)

    def parallelize(self, learner: nn.Module) -> nn.Module:
        self.calls.append("parallelize")
        for module in learner.modules():
            for name, p in list(module.named_parameters(recurse=False)):
                setattr(module, name, nn.Parameter(2 * p.detach(), p.requires_grad))
        return Halved(learner)

    def state(self, learner: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
        self.calls.append("state")
        return {key: value / 2 if key in self._names(learner) else value for key, value in super().state(learner, optimizer).items()}

    def load(self, learner: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
        self.calls.append("load")
        stored = {key: 2 * value if key in self._names(learner) else value for key, value in tensors.items()}
        super().load(learner, optimizer, stored)

    def _names(self, learner: nn.Module) -> set[str]:
        return {f"model/{name}" for name, _ in learner.named_parameters()}


def events(folder: Path, distribution: Distribution, *, lr: float, resume: bool = False) -> Iterator[Event]:
    learner, here = Toy(), replace(context(folder), distribution=distribution)
    settings: dict[str, Any] = {"ema": None, "clip": None, "optim": Optim(name="sgd", momentum=0.0), "lr": lr}
    found = latest(here.checkpoints) if resume else None
    return fit(learner, ToyLoader(), groups("all", learner.net, "net"), plan(**settings), here, resume=found)


def cut(folder: Path, distribution: Distribution, lr: float) -> dict[int, float]:
    """Train up to step 7."""
    seen = []
    for event in events(folder, distribution, lr=lr):
        seen.append(event)
        if isinstance(event, Stepped) and event.step == 7:
            break
    return losses(seen)


def test_a_strategy_that_replaces_parameters_trains_and_resumes_in_whole_tensors(tmp_path: Path) -> None:
    """A parameter that is stored doubled has half the gradient: plain gradient descent takes the same steps at four times the rate."""
    rate, ours = 0.0078125, Doubled()
    whole = losses(list(events(tmp_path / "whole", Distribution(), lr=rate)))
    assert losses(list(events(tmp_path / "ours", ours, lr=4 * rate))) == whole, "the optimizer has the parameters that were put in place"
    assert ours.calls[:2] == ["parallelize", "state"]
    begun = cut(tmp_path / "cut", Doubled(), 4 * rate)
    rest = losses(list(events(tmp_path / "cut", Distribution(), lr=rate, resume=True)))
    assert begun | rest == whole, "a checkpoint holds whole tensors, whichever strategy wrote it"
    begun, back = cut(tmp_path / "back", Distribution(), rate), Doubled()
    assert begun | losses(list(events(tmp_path / "back", back, lr=4 * rate, resume=True))) == whole
    assert "load" in back.calls
