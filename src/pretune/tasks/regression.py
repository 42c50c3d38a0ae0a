"""One number for each item; trained standardised, measured in the user's units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pretune.evaluation import metrics
from pretune.labels import Labels
from pretune.models.learner import Loss
from pretune.tasks._base import LossSettings, Targets
from pretune.types import Row


@dataclass(frozen=True, kw_only=True)
class Regression:
    """Regression by the Huber loss (δ = 1 deviation), which one absurd target does not rule."""

    component: ClassVar[bool] = True
    primary: ClassVar[str] = "mae"
    higher_is_better: ClassVar[bool] = False
    unread: ClassVar[tuple[str, ...]] = ("label_smoothing", "class_weights")

    def fit(self, rows: Sequence[Row], classes: tuple[str, ...]) -> Targets:
        """Return centre and spread of the training targets.

        Mean and deviation, or median and interquartile range / 1.349 where an outlier further than 20 of
        those from the median would make the deviation meaningless.
        """
        values = np.asarray([row.target for row in rows], dtype=float)
        low, middle, high = np.percentile(values, [25, 50, 75])
        robust = (high - low) / 1.349
        if robust > 0 and np.abs(values - middle).max() > 20 * robust:
            return Targets(mean=float(middle), deviation=float(robust))
        deviation = 1.0 if metrics.is_constant(values) else float(values.std())
        return Targets(mean=float(values.mean()), deviation=deviation)

    def encode(self, rows: Sequence[Row], targets: Targets) -> Labels:
        """Return standardised targets (N,)."""
        values = torch.tensor([row.target for row in rows], dtype=torch.float64)
        return Labels.of(((values - targets.mean) / targets.deviation).float())

    def outputs(self, targets: Targets) -> int:
        """One output."""
        return 1

    def loss(self, targets: Targets, encoded: Labels, settings: LossSettings) -> Loss:
        """Huber loss on standardised targets; smoothing and class weights do not apply."""
        return huber

    def decode(self, outputs: Tensor, targets: Targets) -> NDArray[np.floating]:
        """Return numbers (N,) in the user's units."""
        return outputs.double().squeeze(1).numpy() * targets.deviation + targets.mean

    def metrics(self, decoded: NDArray[Any], encoded: NDArray[Any], targets: Targets) -> dict[str, Any]:
        """Return errors in the user's units."""
        return metrics.regression(decoded, targets.restore(encoded))

    def describe(self, decoded: NDArray[Any], targets: Targets) -> list[dict[str, Any]]:
        """Return the predicted number."""
        return [{"prediction": float(value)} for value in decoded]


def huber(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean Huber loss of outputs (B, 1) against numbers (B,)."""
    return F.huber_loss(outputs.squeeze(1), targets)
