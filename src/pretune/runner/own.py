"""A person's own module, Dataset and loss through the same runner: events, checkpoints, exact resume."""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from torch.utils.data import Dataset

from pretune.data.batching import Batching
from pretune.data.dataset import DatasetView
from pretune.data.loader import Loader
from pretune.labels import Labels
from pretune.models.learner import Loss, ModuleLearner
from pretune.recipe import Place
from pretune.runner import score
from pretune.runner.folder import claim
from pretune.runner.job import Job, JobState, RunContext, RunResult
from pretune.runner.runner import Runner
from pretune.strategies import groups
from pretune.training.context import Evaluation
from pretune.training.events import Event
from pretune.training.plan import Plan, Precision
from pretune.training.run_dir import RunDir
from pretune.types import ParamGroup


@dataclass(frozen=True, kw_only=True)
class Own:
    """What a person brings to be trained."""

    module: nn.Module
    loss: Loss
    train: Dataset[Any]
    held: Dataset[Any] | None = None
    """Measured after each epoch by the loss; with `plan.patience` it selects."""
    out: Path
    """Folder of events and checkpoints."""
    plan: Plan = field(default_factory=lambda: Plan(number=0, phase="train", epochs=10, lr=1e-3))
    batch_size: int = 32
    """Global batch size (summed over all processes)."""


def train(own: Own, *, resume: bool = False) -> Generator[Event, bool | None, RunResult]:
    """Yield the events of training `own.module` in place; the best weights (or the last) stay in it.

    Args:
        own: module, loss, data, plan.
        resume: resume training from the newest checkpoint under `own.out`.
    """
    return Runner(OwnTraining(own=own, resume=resume)).events()


OwnState = JobState[ModuleLearner]


@dataclass(frozen=True, kw_only=True)
class OwnTraining(Job[None, OwnState, RunResult]):
    """One phase of the plan that the person made."""

    own: Own
    resume: bool = False
    trust: Collection[str] = ()
    time: float | None = None
    keeps_checkpoints: ClassVar[bool] = True

    @property
    def place(self) -> Place:
        """The person's folder."""
        return Place(out=self.own.out, resume=self.resume)

    @property
    def seed(self) -> int:
        """The plan's."""
        return self.own.plan.seed

    @property
    def threads(self) -> int:
        """As many as the program uses."""
        return torch.get_num_threads()

    def choose(self, run: RunContext) -> None:
        """Choose nothing: the person did."""

    def open(self, run: RunContext, chosen: None, claims: ExitStack) -> tuple[RunDir, bool]:
        """Return the person's folder, whatever it holds."""
        run.device.decide(lambda: claim(self.own.out, claims))
        return RunDir(self.own.out), self.resume

    def prepare(self, run: RunContext, chosen: None) -> OwnState:
        """Return the module with its loss."""
        return OwnState(run=run, learner=ModuleLearner(self.own.module, self.own.loss).to(run.device.device))

    def resume_line(self, folder: Path) -> str:
        """Return the call that resumes training."""
        return "pretune.train(own, resume=True)"

    def phases(self, state: OwnState) -> tuple[str, ...]:
        """Return the plan's phase."""
        return (self.own.plan.phase,)

    def loader(self, state: OwnState, number: int) -> Loader:
        """Return batches that are read in the step: what a dataset samples comes from the loop's streams, after a resume too."""
        own, device = self.own, state.run.device
        batching = Batching(size=max(1, own.batch_size // device.world), shuffle=True, seed=own.plan.seed)
        return Loader(DatasetView(own.train), batching, share=device.share, workers=0)

    def precision(self, state: OwnState, loader: Loader) -> Precision:
        """Return the plan's."""
        return self.own.plan.precision

    def plan(self, state: OwnState, number: int, loader: Loader) -> Plan:
        """Return the person's plan."""
        return self.own.plan

    def groups(self, state: OwnState) -> Sequence[ParamGroup]:
        """Return all parameters that require gradients."""
        return groups("module", self.own.module, "module")

    def evaluation(self, state: OwnState, number: int) -> Evaluation | None:
        """Measure the mean loss of the held-out dataset."""
        if self.own.held is None:
            return None
        view, selects = DatasetView(self.own.held), "held" if self.own.plan.patience is not None else None

        def measure() -> dict[str, float]:
            raw = Labels.of(score.outputs(state.learner, view, state.run.device, Precision())).only
            targets = torch.cat([batch.target for batch in Loader(view, Batching(size=256)).iterate(0) if batch.target is not None])
            with torch.no_grad():
                return {"loss": float(self.own.loss(raw, targets))}

        return Evaluation(splits={"held": measure}, selects=selects, primary="loss", higher_is_better=False)

    def record(self, state: OwnState) -> RunResult:
        """Write nothing more than the events and checkpoints."""
        return RunResult(folder=state.run.folder, metrics={})
