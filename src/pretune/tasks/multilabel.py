"""Any number of classes for each item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pretune.config import Within
from pretune.evaluation import metrics, thresholds
from pretune.labels import Labels
from pretune.models.learner import Loss
from pretune.tasks._base import LossSettings, Targets
from pretune.types import Row

_HALF = 0.5


@dataclass(frozen=True, kw_only=True)
class Multilabel:
    """Multilabel classification by one sigmoid a class."""

    component: ClassVar[bool] = True
    primary: ClassVar[str] = "macro_f1"
    higher_is_better: ClassVar[bool] = True
    threshold: Annotated[float | None, Within(0, 1)] = None
    """Probability from which a class is predicted; auto chooses it for each class by F1 on a split that is not used for the score, or
    takes 0.5."""

    @property
    def fixed(self) -> bool:
        """Whether the person has set the threshold."""
        return self.threshold is not None

    def fit(self, rows: Sequence[Row], classes: tuple[str, ...]) -> Targets:
        """Return the classes that training rows have."""
        seen = {name for row in rows if isinstance(row.target, tuple) for name in row.target}
        kept = tuple(name for name in classes if name in seen)
        return Targets(classes=kept, thresholds=(_HALF if self.threshold is None else self.threshold,) * len(kept))

    def encode(self, rows: Sequence[Row], targets: Targets) -> Labels:
        """Return multi-hot targets (N, C) float, set by name."""
        index = {name: i for i, name in enumerate(targets.classes)}
        out = torch.zeros(len(rows), len(index))
        for i, row in enumerate(rows):
            assert isinstance(row.target, tuple)
            out[i, [index[name] for name in row.target if name in index]] = 1
        return Labels.of(out)

    def outputs(self, targets: Targets) -> int:
        """One output a class."""
        return len(targets.classes)

    def loss(self, targets: Targets, encoded: Labels, settings: LossSettings) -> Loss:
        """Binary cross-entropy; class weights multiply positives by negatives / positives, at most 100."""
        positive = encoded.only.sum(0)
        weight = ((encoded.size - positive) / positive.clamp(min=1)).clamp(1, 100) if settings.class_weights else None
        return BinaryCrossEntropy(weight, settings.label_smoothing)

    def decode(self, outputs: Tensor, targets: Targets) -> NDArray[np.floating]:
        """Return probabilities (N, C)."""
        return outputs.double().sigmoid().numpy()

    def metrics(self, decoded: NDArray[Any], encoded: NDArray[Any], targets: Targets) -> dict[str, Any]:
        """Return F1, average precision and subset accuracy."""
        return metrics.multilabel(decoded, encoded, list(targets.classes), np.asarray(targets.thresholds))

    def thresholded(self, decoded: NDArray[Any], encoded: NDArray[Any], targets: Targets) -> tuple[Targets, str]:
        """Return the targets with the threshold of each class that gives the best F1 on these items, and the range of them."""
        chosen = tuple(thresholds.choose(decoded, encoded).tolist())
        few = int((encoded.sum(0) < thresholds.MIN_POSITIVES).sum())
        said = f"thresholds of {min(chosen):.2f} to {max(chosen):.2f}, each with the best F1 of its class"
        if few:
            said += f"; one half for {few} of the {len(chosen)} classes, which have fewer than {thresholds.MIN_POSITIVES} items there"
        return replace(targets, thresholds=chosen), said

    def describe(self, decoded: NDArray[Any], targets: Targets) -> list[dict[str, Any]]:
        """Return the names above their thresholds, the least sure of them, and all probabilities."""
        rows = []
        for probabilities in decoded:
            chosen = probabilities >= np.asarray(targets.thresholds)
            names = [name for name, yes in zip(targets.classes, chosen, strict=True) if yes]
            sure = np.where(chosen, probabilities, 1 - probabilities)
            by_name = {name: float(p) for name, p in zip(targets.classes, probabilities, strict=True)}
            rows.append({"prediction": "|".join(names), "confidence": float(sure.min()), "probabilities": by_name})
        return rows


class BinaryCrossEntropy(torch.nn.Module):
    """Sigmoid cross-entropy on multi-hot targets (B, C)."""

    weight: Tensor | None

    def __init__(self, weight: Tensor | None, label_smoothing: float) -> None:
        super().__init__()
        self.register_buffer("weight", weight, persistent=False)
        self.label_smoothing = label_smoothing

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss; smoothing moves targets towards one half."""
        smooth = targets * (1 - self.label_smoothing) + 0.5 * self.label_smoothing
        return F.binary_cross_entropy_with_logits(outputs, smooth, pos_weight=self.weight)
