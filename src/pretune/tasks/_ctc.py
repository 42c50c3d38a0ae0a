"""Connectionist temporal classification: the loss over all alignments, and what the outputs say.

A. Graves et al., "Connectionist Temporal Classification: Labelling Unsegmented Sequence Data with Recurrent Neural Networks", 2006.
Output 0 is the blank, which separates equal units and stands where nothing is said.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pretune.labels import Labels, Outputs, Ragged
from pretune.models import SupervisedLearner
from pretune.types import Batch, StepOutput

BLANK = 0


class Emission(NamedTuple):
    """A unit that was recognised."""

    unit: int
    start: int
    """First position at which it was the likeliest."""
    end: int
    """One past the last."""
    probability: float
    """Highest over these positions."""


class CTCLearner(SupervisedLearner):
    """Gives the loss the outputs of real positions only: an alignment may not use the padding."""

    def forward(self, batch: Batch) -> StepOutput:
        """Return the mean loss of a labelled batch."""
        assert batch.labels is not None, "a training batch needs labels"
        return StepOutput(loss=self.loss(self.model.predict(batch.inputs, self.start), batch.labels.value), size=batch.size)


class CTCLoss(torch.nn.Module):
    """Negative log likelihood of the units, per unit; clips too short for theirs count nothing."""

    def forward(self, outputs: Outputs, targets: Labels) -> Tensor:
        """Return the mean loss.

        Args:
            outputs: (T_i, C) of each clip, or (B, T, C) where all positions are real.
            targets: `target` (U_i,) units of each clip, from 1 on.
        """
        units = targets["target"]
        assert isinstance(units, Ragged)
        if isinstance(outputs, Ragged):
            padded_BTC, lengths_B = outputs.padded(0.0), outputs.lengths
        else:
            padded_BTC, lengths_B = outputs, torch.full((len(outputs),), outputs.shape[1])
        log_p_TBC = padded_BTC.float().log_softmax(2).transpose(0, 1)
        losses_B = F.ctc_loss(log_p_TBC, units.values, lengths_B, units.lengths, blank=BLANK, reduction="none", zero_infinity=True)
        return losses_B.sum() / units.lengths.sum().clamp(min=1)


def needed(units: NDArray[np.int64]) -> int:
    """Return how many outputs some units need at least: one each, and a blank between equal neighbours."""
    return len(units) + int(np.count_nonzero(units[1:] == units[:-1]))


def greedy(log_p_TC: NDArray[np.floating]) -> list[Emission]:
    """Return the units of the likeliest output at each position, equal neighbours as one, without blanks."""
    best_T = log_p_TC.argmax(1)
    edges = np.flatnonzero(np.diff(best_T)) + 1
    runs = zip([0, *edges], [*edges, len(best_T)], strict=True)
    return [
        Emission(int(best_T[start]), int(start), int(end), float(np.exp(log_p_TC[start:end, best_T[start]].max())))
        for start, end in runs
        if end > start and best_T[start] != BLANK
    ]
