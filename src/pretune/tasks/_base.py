"""What a task must do, and the target space a run fits once and saves with its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from pretune import registry
from pretune.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from pretune.labels import Labels
    from pretune.models.learner import Loss
    from pretune.types import Row


@dataclass(frozen=True, kw_only=True)
class Targets:
    """The space of targets, fitted on the training part and saved with the run: the one class list."""

    classes: tuple[str, ...] = ()
    """Class names in output order; empty for regression."""
    mean: float = 0.0
    """Regression: mean of the training targets, in the user's units."""
    deviation: float = 1.0
    """Regression: standard deviation of the training targets, in the user's units."""
    thresholds: tuple[float, ...] = ()
    """Multilabel: probability above which each class is predicted."""

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Targets:
        """Return the space that a run saved.

        Raises:
            ValueError: it makes no sense.
        """
        classes, thresholds = saved["classes"], saved["thresholds"]
        if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes) or len(set(classes)) < len(classes):
            raise ValueError("classes must be a list of names that differ")
        if not isinstance(thresholds, list) or len(thresholds) not in (0, len(classes)):
            raise ValueError(f"there must be one threshold for each of the {len(classes)} classes, or none")
        numbers = [float(value) for value in (saved["mean"], saved["deviation"], *thresholds)]
        if not np.isfinite(numbers).all() or numbers[1] <= 0:
            raise ValueError("mean, deviation and thresholds must be finite numbers, and the deviation above 0")
        return cls(classes=tuple(classes), mean=numbers[0], deviation=numbers[1], thresholds=tuple(numbers[2:]))

    def restore(self, encoded: NDArray[Any]) -> NDArray[Any]:
        """Return encoded targets as metrics take them: numbers in the user's units, classes as they are."""
        return encoded if self.classes else np.asarray(encoded, dtype=float) * self.deviation + self.mean

    def threshold_array(self) -> NDArray[Any] | float:
        """Return the thresholds of a multilabel task; one half elsewhere."""
        return np.asarray(self.thresholds) if self.thresholds else 0.5


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """What a task may be told about its loss."""

    label_smoothing: float = 0.0
    class_weights: bool = False


class Task(Protocol):
    """One kind of prediction; members are frozen keyword-only dataclasses named like their file."""

    component: ClassVar[bool] = True
    primary: ClassVar[str]
    """Name of the metric that leads reports and selects checkpoints."""
    higher_is_better: ClassVar[bool]

    def fit(self, rows: Sequence[Row], classes: tuple[str, ...]) -> Targets:
        """Return the target space of the training rows."""
        ...

    def encode(self, rows: Sequence[Row], targets: Targets) -> Labels:
        """Return the rows' targets, aligned by class *name*."""
        ...

    def outputs(self, targets: Targets) -> int:
        """Return how many outputs the head needs."""
        ...

    # A task may also have `unread: ClassVar[tuple[str, ...]]`: the fields of LossSettings that its loss does not read.

    def loss(self, targets: Targets, encoded: Labels, settings: LossSettings) -> Loss:
        """Return the loss (outputs, batch targets) -> scalar, given the encoded training targets."""
        ...

    def decode(self, outputs: Tensor, targets: Targets) -> NDArray[np.floating]:
        """Return what metrics read: probabilities (N, C), or numbers (N,) in the user's units."""
        ...

    def metrics(self, decoded: NDArray[Any], encoded: NDArray[Any], targets: Targets) -> dict[str, Any]:
        """Return all metrics of a labelled part."""
        ...

    def describe(self, decoded: NDArray[Any], targets: Targets) -> list[dict[str, Any]]:
        """Return, per item, what a person reads: prediction, confidence, probabilities by name."""
        ...


@runtime_checkable
class ChoosesThresholds(Protocol):
    """A task whose target space has something that is chosen after training, on items that are not the score's."""

    fixed: bool
    """Whether the person has set it: then nothing is chosen."""

    def thresholded(self, decoded: NDArray[Any], encoded: NDArray[Any], targets: Targets) -> tuple[Targets, str]:
        """Return the target space with thresholds chosen on these items, and a sentence on them."""
        ...


def infer(kind: str | None) -> Task:
    """Return the task that a table's targets ask for.

    Raises:
        DataError: the data have no labels.
    """
    if kind is None:
        raise DataError(
            "the data have no labels, so there is nothing to fine-tune for. Give class folders or a manifest with a label column."
        )
    return registry.load("tasks", kind)()
