"""A task's own model without a network: what a run is compared with, and becomes where it is better."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pretune.modalities import Modality
    from pretune.types import Row


class OwnBaseline(ABC):
    """A model that a task fits on training examples, where a linear model on features of whole examples (`Task.baseline`) does not fit it.

    It is saved as JSON and arrays, which may come back from anybody.
    """

    name: ClassVar[str]
    """One or two words: how reports call it."""

    @property
    @abstractmethod
    def what(self) -> str:
        """What it is, for people."""

    @classmethod
    @abstractmethod
    def fit(cls, rows: Sequence[Row], space: Any, modality: Modality, seed: int) -> Self | None:
        """Return the model of some training examples; None where there are too few.

        Args:
            rows: the training examples, rendered.
            space: what `Task.fit` returned.
            modality: the preprocessing.
            seed: of samples.
        """

    @abstractmethod
    def predict(self, rows: Sequence[Row]) -> Any:
        """Return the predictions of N examples: of a task that writes their texts, else what `Task.decode` returns."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return what `arrays` does not hold, JSON-ready."""

    @abstractmethod
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return its numbers, by name."""

    @classmethod
    @abstractmethod
    def read(cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], space: Any, modality: Modality) -> Self:
        """Return the model that was saved.

        Raises:
            KeyError: a part of it is missing.
            ValueError: its parts make no sense together.
        """
