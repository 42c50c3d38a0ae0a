"""One number for each example; trained standardised, measured in the user's units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pretune.evaluation import intervals, metrics
from pretune.evaluation.classical import ClassicalModel
from pretune.evaluation.links import LinkName
from pretune.labels import Labels, Outputs
from pretune.modalities import Modality
from pretune.models.learner import Loss
from pretune.sources.target_type import NUMBER, TargetType
from pretune.tasks._base import Examples, Figures, LossSettings, Space, Task
from pretune.types import Row


@dataclass(frozen=True, kw_only=True)
class Scale(Space):
    """Centre and spread of the training targets, in the user's units."""

    mean: float = 0.0
    deviation: float = 1.0

    def __str__(self) -> str:
        return "one number"

    def check(self) -> None:
        """Raise ValueError unless numbers can be standardised by it."""
        if not np.isfinite([float(self.mean), float(self.deviation)]).all() or float(self.deviation) <= 0:
            raise ValueError("mean and deviation must be finite numbers, and the deviation above 0")


@dataclass(frozen=True, kw_only=True)
class Regression(Task):
    """Regression by the Huber loss (δ = 1 deviation), which one absurd target does not rule."""

    primary: ClassVar[str] = "mae"
    reads: ClassVar[TargetType] = NUMBER
    space: ClassVar[type[Space]] = Scale
    unread: ClassVar[tuple[str, ...]] = ("label_smoothing", "class_weights")
    linear: ClassVar[LinkName | None] = "squared"
    baseline: ClassVar[LinkName | None] = "squared"
    numbers: ClassVar[bool] = True

    def fit(self, rows: Sequence[Row], classes: tuple[str, ...]) -> Scale:
        """Return centre and spread of the training targets.

        Mean and deviation, or median and interquartile range / 1.349 where an outlier further than 20 of
        those from the median would make the deviation meaningless.
        """
        values = np.asarray([row.target for row in rows], dtype=float)
        low, middle, high = np.percentile(values, [25, 50, 75])
        robust = (high - low) / 1.349
        if robust > 0 and np.abs(values - middle).max() > 20 * robust:
            return Scale(mean=float(middle), deviation=float(robust))
        deviation = 1.0 if metrics.is_constant(values) else float(values.std())
        return Scale(mean=float(values.mean()), deviation=deviation)

    def encode(self, rows: Sequence[Row], space: Scale, modality: Modality | None = None) -> Labels:
        """Return standardised targets (N,)."""
        values = torch.tensor([row.target for row in rows], dtype=torch.float64)
        return Labels.of(((values - space.mean) / space.deviation).float())

    def truth(self, labels: Labels, space: Scale) -> NDArray[np.floating]:
        """Return the numbers (N,) in the user's units."""
        return labels.only.double().numpy() * space.deviation + space.mean

    def scale(self, space: Scale) -> tuple[float, float]:
        """Return those of the training targets."""
        return space.mean, space.deviation

    def outputs(self, space: Scale) -> int:
        """One output."""
        return 1

    def loss(self, space: Scale, labels: Labels, settings: LossSettings) -> Loss:
        """Huber loss on standardised targets; smoothing and class weights do not apply."""
        return huber

    def decode(self, outputs: Outputs, space: Scale) -> NDArray[np.floating]:
        """Return numbers (N,) in the user's units."""
        assert isinstance(outputs, Tensor)
        return outputs.double().squeeze(1).numpy() * space.deviation + space.mean

    def metrics(self, decoded: NDArray[Any], truth: NDArray[Any], space: Scale) -> Figures:
        """Return errors in the user's units."""
        return metrics.regression(decoded, truth)

    def intervals(
        self, decoded: NDArray[Any], truth: NDArray[Any], space: Scale, groups: NDArray[Any] | None = None
    ) -> dict[str, tuple[float, float]]:
        """Return the intervals of both errors and R²."""
        return intervals.intervals(decoded, truth, groups=groups)

    def floors(self, train: Examples, held_out: Examples, space: Scale, model: tuple[ClassicalModel, Any] | None) -> dict[str, Figures]:
        """Return the mean and the median of the training targets, and ridge regression on classical features."""
        out = {}
        for name, value in {"mean": float(np.mean(train.truth)), "median": float(np.median(train.truth))}.items():
            what = f"always the {name} of the training targets, {value:.4g}"
            out[name] = self.floor(what, np.full(len(held_out), value), held_out, space)
        if model is not None:
            out["classical"] = self.floor(model[0].what, model[1], held_out, space)
        return out

    def describe(
        self, decoded: NDArray[Any], space: Scale, rows: Sequence[Row] = (), modality: Modality | None = None
    ) -> list[dict[str, Any]]:
        """Return the predicted number."""
        return [{"prediction": float(value)} for value in decoded]

    def badness(self, row: Mapping[str, str]) -> float:
        """Return the absolute error."""
        return abs(float(row["prediction"]) - float(row["target"]))

    def captions(self, labels: Labels, space: Scale) -> list[str]:
        """Return each example's number."""
        return [f"{float(value):.4g}" for value in self.truth(labels, space)]


def huber(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean Huber loss of outputs (B, 1) against numbers (B,)."""
    return F.huber_loss(outputs.squeeze(1), targets)
