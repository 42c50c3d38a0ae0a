"""One class out of several for each example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pretune.evaluation import floors, intervals, metrics
from pretune.evaluation.classical import ClassicalModel
from pretune.evaluation.links import LinkName
from pretune.labels import Labels, Outputs
from pretune.modalities import Modality
from pretune.models.learner import Loss
from pretune.tasks._base import Examples, Figures, LossSettings, Space, Task
from pretune.tasks._captions import shares
from pretune.types import Row


@dataclass(frozen=True, kw_only=True)
class Classification(Task):
    """Single-label classification by softmax cross-entropy."""

    primary: ClassVar[str] = "accuracy"
    linear: ClassVar[LinkName | None] = "softmax"
    baseline: ClassVar[LinkName | None] = "softmax"

    def fit(self, rows: Sequence[Row], classes: tuple[str, ...]) -> Space:
        """Return the classes that training rows have, in the table's natural order."""
        seen = {row.target for row in rows}
        return Space(classes=tuple(name for name in classes if name in seen))

    def encode(self, rows: Sequence[Row], space: Space, modality: Modality | None = None) -> Labels:
        """Return class indices (N,) int64, looked up by name."""
        index = {name: i for i, name in enumerate(space.classes)}
        return Labels.of(torch.tensor([index[str(row.target)] for row in rows], dtype=torch.long))

    def outputs(self, space: Space) -> int:
        """One output a class."""
        return len(space.classes)

    def loss(self, space: Space, labels: Labels, settings: LossSettings) -> Loss:
        """Cross-entropy; class weights are N / (C · n_c), King & Zeng 2001 ("balanced")."""
        weight = None
        if settings.class_weights:
            counts = torch.bincount(labels.only, minlength=len(space.classes)).clamp(min=1)
            weight = labels.size / (len(counts) * counts.float())
        return CrossEntropy(weight, settings.label_smoothing)

    def decode(self, outputs: Outputs, space: Space) -> NDArray[np.floating]:
        """Return softmax probabilities (N, C)."""
        assert isinstance(outputs, Tensor)
        return outputs.double().softmax(1).numpy()

    def metrics(self, decoded: NDArray[Any], truth: NDArray[Any], space: Space) -> Figures:
        """Return accuracy, balanced accuracy, macro-F1, per-class figures, calibration, confusion."""
        return metrics.classification(decoded, truth, list(space.classes))

    def intervals(
        self, decoded: NDArray[Any], truth: NDArray[Any], space: Space, groups: NDArray[Any] | None = None
    ) -> dict[str, tuple[float, float]]:
        """Return the intervals of accuracy, balanced accuracy, macro-F1 and log loss."""
        return intervals.intervals(decoded, truth, groups=groups)

    def floors(self, train: Examples, held_out: Examples, space: Space, model: tuple[ClassicalModel, Any] | None) -> dict[str, Figures]:
        """Return the most frequent class, and logistic regression on classical features."""
        what, guess = floors.frequent_class(train.truth, len(held_out), space.classes)
        out = {"majority": self.floor(what, guess, held_out, space)}
        if model is not None:
            out["classical"] = self.floor(model[0].what, model[1], held_out, space)
        return out

    def describe(
        self, decoded: NDArray[Any], space: Space, rows: Sequence[Row] = (), modality: Modality | None = None
    ) -> list[dict[str, Any]]:
        """Return the most probable class by name, its probability, and all probabilities."""
        rows = []
        for probabilities in decoded:
            best = int(probabilities.argmax())
            by_name = {name: float(p) for name, p in zip(space.classes, probabilities, strict=True)}
            rows.append({"prediction": space.classes[best], "confidence": float(probabilities[best]), "probabilities": by_name})
        return rows

    def captions(self, labels: Labels, space: Space) -> list[str]:
        """Return each example's class; of a mixture, the shares."""
        targets = labels.only
        return [space.classes[int(t)] for t in targets] if targets.ndim == 1 else [shares(row, space.classes) for row in targets.tolist()]


class CrossEntropy(torch.nn.Module):
    """Softmax cross-entropy on class indices (B,) or soft classes (B, C)."""

    weight: Tensor | None

    def __init__(self, weight: Tensor | None, label_smoothing: float) -> None:
        super().__init__()
        self.register_buffer("weight", weight, persistent=False)
        self.label_smoothing = label_smoothing

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss."""
        return F.cross_entropy(outputs, targets, weight=self.weight, label_smoothing=self.label_smoothing)
