"""A person's own module, Dataset and loss through the same loop: events, checkpoints, exact resume."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from pretune.data.batching import Batching
from pretune.data.dataset import DatasetView
from pretune.data.loader import Loader
from pretune.labels import Labels
from pretune.models.learner import Learner, Loss
from pretune.runner import score
from pretune.runner.folder import newest_checkpoint, position
from pretune.runner.reporter import Silent
from pretune.strategies import groups
from pretune.training.checkpoint import Checkpoints, Decisions
from pretune.training.device import Device, open_device
from pretune.training.events import Event, Saving
from pretune.training.loop import Evaluation, TrainingContext, fit
from pretune.training.plan import Plan, Precision
from pretune.training.run_dir import RunDir
from pretune.types import Batch, StepOutput


class OwnLearner(Learner):
    """Any module (Tensor -> Tensor) with any loss (outputs, targets) -> scalar."""

    def __init__(self, module: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.module, self.loss = module, loss

    def forward(self, batch: Batch) -> StepOutput:
        """Return the mean loss of a labelled batch."""
        assert batch.labels is not None, "the dataset must give (tensor, target) pairs"
        return StepOutput(loss=self.loss(self.module(batch.inputs.tensor), batch.labels.value), size=batch.size)

    def predict(self, batch: Batch) -> Tensor:
        """Return the module's outputs."""
        return self.module(batch.inputs.tensor)


@dataclass(frozen=True, kw_only=True)
class Own:
    """What is trained: the parts a person brings."""

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


def train(own: Own, *, resume: bool = False) -> Iterator[Event]:
    """Yield the events of training `own.module` in place; the best weights (or the last) stay in it.

    Args:
        own: module, loss, data, plan.
        resume: go on from the newest checkpoint under `own.out`.
    """
    own.out.mkdir(parents=True, exist_ok=True)
    folder = RunDir(own.out)
    with open_device() as device:
        yield from _train(own, folder, device, resume)


def _train(own: Own, folder: RunDir, device: Device, resume: bool) -> Iterator[Event]:
    learner = OwnLearner(own.module, own.loss)
    context = TrainingContext(
        device=device,
        checkpoints=Checkpoints(own.out / "checkpoints", 2),
        decisions=Decisions(own.out / "decisions.jsonl", device),
    )
    checkpoint = newest_checkpoint(context.checkpoints, device, Silent()) if resume else None
    if device.first and checkpoint is None:
        (own.out / "events.jsonl").write_text("")
    elif device.first and checkpoint is not None:
        folder.rewind_events(position([own.plan.phase], checkpoint))
    batching = Batching(size=max(1, own.batch_size // device.world), shuffle=True, seed=own.plan.seed)
    # Not ahead in a thread: what a dataset draws at random comes from the loop's streams, so that a resumed run draws the same.
    loader = Loader(DatasetView(own.train), batching, share=device.share, workers=0)
    evaluation = None if own.held is None else _evaluation(learner, own, context)
    for event in fit(learner, loader, groups("module", own.module, "module"), own.plan, context, evaluation, checkpoint):
        if device.first and not isinstance(event, Saving):
            folder.append_events([event.to_json()])
        yield event


def _evaluation(learner: OwnLearner, own: Own, context: TrainingContext) -> Evaluation:
    assert own.held is not None
    view = DatasetView(own.held)

    def measure() -> dict[str, float]:
        raw = Labels.of(score.outputs(learner, view, context.device, Precision())).only
        targets = torch.cat([batch.target for batch in Loader(view, Batching(size=256)).iterate(0) if batch.target is not None])
        with torch.no_grad():
            return {"loss": float(own.loss(raw, targets))}

    return Evaluation(
        splits={"held": measure}, selects="held" if own.plan.patience is not None else None, primary="loss", higher_is_better=False
    )
