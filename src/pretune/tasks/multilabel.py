"""Any number of classes for each example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pretune.config import Within
from pretune.evaluation import floors, intervals, metrics, thresholds
from pretune.evaluation.classical import ClassicalModel
from pretune.evaluation.links import LinkName
from pretune.labels import Labels, Outputs
from pretune.modalities import Modality
from pretune.models.learner import Loss
from pretune.sources.target_type import SEVERAL_CLASSES, TargetType
from pretune.tasks._base import Examples, Figures, LossSettings, Space, Task
from pretune.tasks._captions import shares
from pretune.types import Row

_HALF = 0.5


@dataclass(frozen=True, kw_only=True)
class LabelSpace(Space):
    """The classes, each predicted from a probability of its own."""

    thresholds: tuple[float, ...] = ()
    """Probability from which each class is predicted."""

    def check(self) -> None:
        """Raise ValueError unless there is a threshold for each class."""
        super().check()
        if not isinstance(self.thresholds, tuple) or len(self.thresholds) not in (0, len(self.classes)):
            raise ValueError(f"there must be one threshold for each of the {len(self.classes)} classes, or none")
        if not np.isfinite([float(value) for value in self.thresholds]).all():
            raise ValueError("thresholds must be finite numbers")

    @property
    def cut(self) -> NDArray[Any] | float:
        """The thresholds (C,); one half where none were chosen."""
        return np.asarray(self.thresholds) if self.thresholds else _HALF


@dataclass(frozen=True, kw_only=True)
class Multilabel(Task):
    """Multilabel classification by one sigmoid a class."""

    primary: ClassVar[str] = "macro_f1"
    reads: ClassVar[TargetType] = SEVERAL_CLASSES
    space: ClassVar[type[Space]] = LabelSpace
    linear: ClassVar[LinkName | None] = "sigmoid"
    baseline: ClassVar[LinkName | None] = "sigmoid"
    untuned: ClassVar[str] = "thresholds stay at 0.5"
    threshold: Annotated[float | None, Within(0, 1)] = None
    """Probability from which a class is predicted; auto chooses it for each class by F1 on a split that is not used for the score, or
    takes 0.5."""

    @property
    def tunes(self) -> bool:
        """Whether thresholds are chosen: unless the person has set one."""
        return self.threshold is None

    def fit(self, rows: Sequence[Row], classes: tuple[str, ...]) -> LabelSpace:
        """Return the classes that training rows have."""
        seen = {name for row in rows if isinstance(row.target, tuple) for name in row.target}
        kept = tuple(name for name in classes if name in seen)
        return LabelSpace(classes=kept, thresholds=(_HALF if self.threshold is None else self.threshold,) * len(kept))

    def encode(self, rows: Sequence[Row], space: Space, modality: Modality | None = None) -> Labels:
        """Return multi-hot targets (N, C) float, set by name."""
        index = {name: i for i, name in enumerate(space.classes)}
        out = torch.zeros(len(rows), len(index))
        for i, row in enumerate(rows):
            assert isinstance(row.target, tuple)
            out[i, [index[name] for name in row.target if name in index]] = 1
        return Labels.of(out)

    def outputs(self, space: Space) -> int:
        """One output a class."""
        return len(space.classes)

    def loss(self, space: Space, labels: Labels, settings: LossSettings) -> Loss:
        """Binary cross-entropy; class weights multiply positives by negatives / positives, at most 100."""
        positive = labels.only.sum(0)
        weight = ((labels.size - positive) / positive.clamp(min=1)).clamp(1, 100) if settings.class_weights else None
        return BinaryCrossEntropy(weight, settings.label_smoothing)

    def decode(self, outputs: Outputs, space: Space) -> NDArray[np.floating]:
        """Return probabilities (N, C)."""
        assert isinstance(outputs, Tensor)
        return outputs.double().sigmoid().numpy()

    def thresholds(self, space: LabelSpace) -> tuple[float, ...]:
        """Return those of the space."""
        return space.thresholds

    def thresholded(self, space: LabelSpace, thresholds: tuple[float, ...]) -> LabelSpace:
        """Return the space with these."""
        return replace(space, thresholds=thresholds)

    def tuned(self, decoded: NDArray[Any], truth: NDArray[Any], space: LabelSpace) -> tuple[LabelSpace, str]:
        """Return the space with the threshold of each class that gives the best F1 on these examples, and the range of them."""
        chosen = tuple(thresholds.choose(decoded, truth).tolist())
        few = int((truth.sum(0) < thresholds.MIN_POSITIVES).sum())
        sentence = f"thresholds of {min(chosen):.2f} to {max(chosen):.2f}, each with the best F1 of its class"
        if few:
            sentence += (
                f"; one half for {few} of the {len(chosen)} classes, which have fewer than {thresholds.MIN_POSITIVES} examples there"
            )
        return replace(space, thresholds=chosen), sentence

    def metrics(self, decoded: NDArray[Any], truth: NDArray[Any], space: LabelSpace) -> Figures:
        """Return F1, average precision and subset accuracy."""
        return metrics.multilabel(decoded, truth, list(space.classes), space.cut)

    def intervals(
        self, decoded: NDArray[Any], truth: NDArray[Any], space: LabelSpace, groups: NDArray[Any] | None = None
    ) -> dict[str, tuple[float, float]]:
        """Return the intervals of F1, micro-F1 and subset accuracy."""
        return intervals.intervals(decoded, truth, groups=groups, thresholds=space.cut)

    def floors(
        self, train: Examples, held_out: Examples, space: LabelSpace, model: tuple[ClassicalModel, Any] | None
    ) -> dict[str, Figures]:
        """Return the most frequent set of labels, and one logistic regression a class, with thresholds of its own."""
        what, guess = floors.frequent_labels(train.truth, len(held_out), space.classes)
        out = {"majority": self.floor(what, guess, held_out, replace(space, thresholds=()))}
        if model is not None:
            cut = () if model[0].thresholds is None else tuple(model[0].thresholds.tolist())
            out["classical"] = self.floor(model[0].what, model[1], held_out, replace(space, thresholds=cut))
        return out

    def describe(
        self, decoded: NDArray[Any], space: LabelSpace, rows: Sequence[Row] = (), modality: Modality | None = None
    ) -> list[dict[str, Any]]:
        """Return the names above their thresholds, the least sure of them, and all probabilities."""
        rows = []
        for probabilities in decoded:
            chosen = probabilities >= space.cut
            names = [name for name, yes in zip(space.classes, chosen, strict=True) if yes]
            sure = np.where(chosen, probabilities, 1 - probabilities)
            by_name = {name: float(p) for name, p in zip(space.classes, probabilities, strict=True)}
            rows.append({"prediction": "|".join(names), "confidence": float(sure.min()), "probabilities": by_name})
        return rows

    def badness(self, row: Mapping[str, str]) -> float:
        """Return the largest gap between probability and truth among the labels that are wrong; 0 where none is."""
        true, predicted = (set(row[key].split("|")) for key in ("target", "prediction"))
        wrong = (true ^ predicted) - {""}
        gaps = [abs((name in true) - float(row[f"p_{name}"])) if f"p_{name}" in row else 1.0 for name in wrong]
        return max(max(gaps, default=0.0), 1e-9 if gaps else 0.0)

    def captions(self, labels: Labels, space: Space) -> list[str]:
        """Return each example's classes; of a mixture, with their shares."""
        return [shares(row, space.classes) for row in labels.only.tolist()]


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
