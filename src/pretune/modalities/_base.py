"""What a modality must do: decode a raw item once, cut views from it, collate them, describe it.

A modality is a frozen dataclass that also *is* the preprocessing a set of weights carries
(size, mean, std; sample rate; tokenizer): it travels with every backbone and every saved run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from pretune.augmentations import Augmentation
    from pretune.types import Decoded, Features, Finding, Row


class Modality(Protocol):
    """One kind of datum; members are frozen keyword-only dataclasses named like their file."""

    component: ClassVar[bool] = True
    extensions: ClassVar[frozenset[str]]
    """Lower-case file endings that are read, with the dot."""
    unit: ClassVar[str]
    """What one item is called in messages: 'image', 'text', 'clip'."""
    # A modality may also have `by_length = True` (batches are made of items of like length), `around(modality)` (a class method: how
    # its items are shown to a network of another modality), and the hooks below.

    def working(self) -> dict[str, Any]:
        """Return what `decode` depends on, JSON-ready: part of the store's cache key."""
        ...

    def decode(self, raw: bytes | tuple[str, ...]) -> Decoded:
        """Turn a file's bytes (or inline text) into one array at working size.

        Raises:
            BadItem: the item cannot be used; says why in words.
        """
        ...

    def view(self, array: NDArray[Any], crop: Augmentation | None, rng: np.random.Generator | None) -> NDArray[Any]:
        """Cut what the model sees from a stored array; deterministic where `crop` is None."""
        ...

    def collate(self, views: list[NDArray[Any]]) -> Features:
        """Stack (or pad, with a mask) views into one raw batch."""
        ...

    def normaliser(self) -> torch.nn.Module:
        """Return the module (Features -> Features) that makes a raw batch the backbone's input."""
        ...


@runtime_checkable
class FitsRows(Protocol):
    """A modality that takes something from the training rows before anything is decoded: a tokenizer."""

    def fitted_to(self, rows: Sequence[Row]) -> tuple[Modality, str]:
        """Return the fitted modality and a sentence, empty where there is nothing to say."""
        ...


@runtime_checkable
class FitsLengths(Protocol):
    """A modality that takes something from the decoded training items' lengths: a window."""

    def windowed(self, training: np.ndarray, lengths: np.ndarray) -> tuple[Modality, str]:
        """Return the fitted modality and a sentence."""
        ...


@runtime_checkable
class CutsViews(Protocol):
    """A modality whose examples have coordinates, so that what is located in one can follow its view."""

    def geometry(
        self, array: NDArray[Any], info: Mapping[str, Any], crop: Augmentation | None, rng: np.random.Generator | None
    ) -> NDArray[np.float64]:
        """Return where the file's coordinates lie in what `view` returns with the same arguments: (A, A + 1), see `Geometry`."""
        ...


@runtime_checkable
class CarriesFiles(Protocol):
    """A modality with content of its own that travels with saved weights: a tokenizer."""

    def files(self) -> dict[str, str]:
        """Return file name -> content."""
        ...

    def with_files(self, files: dict[str, str]) -> Modality:
        """Return the same preprocessing with the content of its files.

        Raises:
            WeightsError: a file is not what it should be.
        """
        ...


@runtime_checkable
class ReportsCost(Protocol):
    """A modality whose decoding loses something worth saying: truncated tokens, unheard frequencies."""

    def findings(self, infos: Sequence[dict[str, Any]]) -> list[Finding]:
        """Return what decoding these items cost."""
        ...


@runtime_checkable
class HasBaselineFeatures(Protocol):
    """A modality with classical features of each item on its own: a histogram."""

    baseline_words: ClassVar[str]
    """What these features are, for people: 'colours and gradient orientations'."""

    def baseline_features(self, arrays: list[NDArray[Any]]) -> Any:
        """Return classical features, (N, D), for the floor's linear model."""
        ...


class BaselineFeatures(Protocol):
    """Classical features whose terms and weights come from training examples: TF-IDF."""

    @property
    def words(self) -> str:
        """What they are, for people."""
        ...

    @property
    def width(self) -> int:
        """D, the number of columns."""
        ...

    @property
    def nameable(self) -> int:
        """How many of the first columns `named` knows."""
        ...

    def features(self, documents: Sequence[str]) -> Any:
        """Return features (N, D), dense or sparse."""
        ...

    def named(self, columns: Sequence[int], documents: Sequence[str]) -> dict[int, str]:
        """Return what some columns stand for, as far as it is found in these texts."""
        ...

    def settings(self) -> dict[str, Any]:
        """Return what `arrays` does not hold, JSON-ready."""
        ...

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what is saved, by name."""
        ...


@runtime_checkable
class FitsBaselineFeatures(Protocol):
    """A modality whose classical features are fitted on the training part, and read the content of rows, not what is stored of them."""

    def content(self, row: Row) -> str:
        """Return what the features read of a row."""
        ...

    def fit_baseline_features(self, train: Sequence[str]) -> tuple[BaselineFeatures, Any]:
        """Return the features fitted on the training part's content, and the training part's, (N, D)."""
        ...

    def load_baseline_features(self, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> BaselineFeatures:
        """Return the features that `settings` and `arrays` saved.

        Raises:
            ValueError: they make no sense.
        """
        ...
