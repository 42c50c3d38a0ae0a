"""One optimizer step: micro-batches, autocast, clipping, and what to do when memory runs out."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
from torch import nn

from pretune.errors import TrainingError
from pretune.kernels import shortcuts
from pretune.kernels.shortcuts import Shortcuts
from pretune.models.learner import Learner
from pretune.training.distribution import Distribution
from pretune.training.optim import clip
from pretune.training.plan import Plan, Precision
from pretune.types import Batch, StepOutput


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Return the context a forward pass runs in."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision.bfloat16 else nullcontext()


def split(batch: Batch, size: int | None) -> list[Batch]:
    """Cut a batch into parts of at most `size` examples."""
    if size is None or batch.size <= size:
        return [batch]
    return [batch.take(slice(i, i + size)) for i in range(0, batch.size, size)]


def arranged(batch: Batch, precision: Precision) -> Batch:
    """Lay out images (B, C, H, W) in memory as the precision says; the network's maps follow."""
    tensor = batch.inputs.tensor
    if tensor.ndim != 4:
        return batch
    layout = torch.channels_last if precision.channels_last else torch.contiguous_format
    return replace(batch, inputs=batch.inputs.with_tensor(tensor.contiguous(memory_format=layout)))


class Stepper:
    """Runs optimizer steps; called with a batch, returns the mean loss and logs, detached."""

    def __init__(
        self,
        learner: Learner,
        optimizer: torch.optim.Optimizer,
        plan: Plan,
        device: torch.device,
        distribution: Distribution | None = None,
        module: nn.Module | None = None,
    ) -> None:
        """Take steps of one learner.

        Args:
            learner: what learns.
            optimizer: of its parameters.
            plan: of the phase.
            device: that computes.
            distribution: exchanges gradients; nobody to exchange them with where None.
            module: what `distribution.parallelize` returned for the learner.
        """
        self.learner, self.optimizer, self.plan, self.device = learner, optimizer, plan, device
        self.distribution, self.module = distribution or Distribution(), module or learner
        self.micro_batch = plan.precision.micro_batch
        self._found: Shortcuts | None = None

    def __call__(self, batch: Batch) -> StepOutput:
        """Take one step; where memory runs out, take it again in halves."""
        batch = batch.to(self.device)
        while True:
            random = torch.get_rng_state()
            try:
                out = self._accumulate(batch)
                break
            except RuntimeError as error:
                if not _out_of_memory(error):
                    raise
                self.optimizer.zero_grad(set_to_none=True)
                torch.set_rng_state(random)
                self.micro_batch = self._halved(batch.size)
        if self.plan.clip is not None:
            clip(self.optimizer, self.plan.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        torch.clear_autocast_cache()  # within an autocast of the consumer's, casts of weights would outlive the step
        return out

    def _accumulate(self, batch: Batch) -> StepOutput:
        """Add up the gradient of the whole batch's mean loss."""
        micro_batches = split(arranged(batch, self.plan.precision), self.micro_batch)
        total = torch.zeros((), device=batch.inputs.tensor.device)
        logs: dict[str, float] = {}
        for position, micro_batch in enumerate(micro_batches):
            share = micro_batch.size / batch.size
            with nullcontext() if position == len(micro_batches) - 1 else self.distribution.accumulating(self.module):
                with autocast(self.plan.precision, micro_batch.inputs.tensor.device), self._shortcuts(micro_batch).taken():
                    out = self.module(micro_batch)
                (out.loss * share).backward()
            total += out.loss.detach() * share
            logs = {key: logs.get(key, 0.0) + value * share for key, value in out.logs.items()}
        return StepOutput(loss=total, size=batch.size, logs=logs)

    def _shortcuts(self, micro_batch: Batch) -> Shortcuts:
        """Return the network's shortcuts, found at the first step."""
        if self._found is None:
            self._found = shortcuts.find(self.learner, lambda: self.learner.predict(micro_batch.take(slice(0, 2))))
        return self._found

    def _halved(self, size: int) -> int:
        now = self.micro_batch or size
        if self.learner.compares:
            raise TrainingError(f"memory runs out, and a loss that compares the {size} items of a step cannot be split. Lower batch_size.")
        if now <= 1:
            raise TrainingError(
                "memory runs out with a single item a step. Take a smaller backbone, image_size=… or strategy=linear_probe."
            )
        return now // 2


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error) or "out of memory" in str(error).lower()
