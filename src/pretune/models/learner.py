"""A Learner is an nn.Module whose forward is the training step; the loop knows nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor, nn

from pretune.labels import Outputs
from pretune.models.model import Model
from pretune.types import Batch, StepOutput

Loss = Callable[[Any, Any], Tensor]
"""(outputs, targets) -> scalar mean loss; the outputs are a tensor, or ragged where a learner gives it those of real positions only; the
targets are a tensor, or Labels where an example has several."""


class Learner(nn.Module):
    """What the loop trains: `forward(batch)` is the step, `predict(batch)` what inference returns.

    All state a method needs (an EMA codebook, a teacher) lives in registered buffers and modules,
    so one checkpoint format serves every method.
    """

    phases: ClassVar[tuple[str, ...]] = ()
    """What happens one after the other, each with what the one before learned; empty for one phase."""
    compares: ClassVar[bool] = False
    """Whether the loss compares the examples of a batch: it is not the mean of the losses of parts, so batches are never split."""

    def forward(self, batch: Batch) -> StepOutput:
        """Return the loss of one batch; called in training and by DDP's hooks."""
        raise TypeError(f"{type(self).__name__} must define forward(batch) -> StepOutput")

    def predict(self, batch: Batch) -> Outputs:
        """Return raw outputs of one batch, without gradient, in eval mode: (B, …), or ragged.

        It costs one forward pass: what generates or searches is a method of its own, which no training step calls.
        """
        raise TypeError(f"{type(self).__name__} must define predict(batch) -> Tensor")


class SupervisedLearner(Learner):
    """Descends a loss between a model's outputs and the targets of a batch."""

    def __init__(self, model: Model, loss: Loss, start: int = 0) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.start = start
        """Number of the stage the batches' inputs belong to: 0 raw, the boundary where features are cached."""

    def forward(self, batch: Batch) -> StepOutput:
        """Return the mean loss of a labelled batch."""
        assert batch.labels is not None, "a training batch needs labels"
        return StepOutput(loss=self.loss(self.model(batch.inputs, self.start), batch.labels.value), size=batch.size)

    def predict(self, batch: Batch) -> Outputs:
        """Return the model's raw outputs, one row an example; of a sequence, one for each real position."""
        return self.model.predict(batch.inputs, self.start)


class ModuleLearner(Learner):
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
