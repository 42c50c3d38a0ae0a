"""One class out of several for each item."""

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
class Classification:
    """Single-label classification by softmax cross-entropy."""

    component: ClassVar[bool] = True
    primary: ClassVar[str] = "accuracy"
    higher_is_better: ClassVar[bool] = True

    def fit(self, rows: Sequence[Row], classes: tuple[str, ...]) -> Targets:
        """Return the classes that training rows have, in the table's natural order."""
        seen = {row.target for row in rows}
        return Targets(classes=tuple(name for name in classes if name in seen))

    def encode(self, rows: Sequence[Row], targets: Targets) -> Labels:
        """Return class indices (N,) int64, looked up by name."""
        index = {name: i for i, name in enumerate(targets.classes)}
        return Labels.of(torch.tensor([index[str(row.target)] for row in rows], dtype=torch.long))

    def outputs(self, targets: Targets) -> int:
        """One output a class."""
        return len(targets.classes)

    def loss(self, targets: Targets, encoded: Labels, settings: LossSettings) -> Loss:
        """Cross-entropy; class weights are N / (C · n_c), King & Zeng 2001 ("balanced")."""
        weight = None
        if settings.class_weights:
            counts = torch.bincount(encoded.only, minlength=len(targets.classes)).clamp(min=1)
            weight = encoded.size / (len(counts) * counts.float())
        return CrossEntropy(weight, settings.label_smoothing)

    def decode(self, outputs: Tensor, targets: Targets) -> NDArray[np.floating]:
        """Return softmax probabilities (N, C)."""
        return outputs.double().softmax(1).numpy()

    def metrics(self, decoded: NDArray[Any], encoded: NDArray[Any], targets: Targets) -> dict[str, Any]:
        """Return accuracy, balanced accuracy, macro-F1, per-class figures, calibration, confusion."""
        return metrics.classification(decoded, encoded, list(targets.classes))

    def describe(self, decoded: NDArray[Any], targets: Targets) -> list[dict[str, Any]]:
        """Return the most probable class by name, its probability, and all probabilities."""
        rows = []
        for probabilities in decoded:
            best = int(probabilities.argmax())
            by_name = {name: float(p) for name, p in zip(targets.classes, probabilities, strict=True)}
            rows.append({"prediction": targets.classes[best], "confidence": float(probabilities[best]), "probabilities": by_name})
        return rows


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
