"""What a modality is: it decodes a raw example once, cuts views from it, collates them, and describes them.

A modality is a frozen dataclass that also *is* the preprocessing a set of weights carries
(size, mean, std; sample rate; tokenizer): it travels with every backbone and every saved run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pretune.registry import Component

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from pretune.augmentations import ViewAugmentation
    from pretune.types import Decoded, Features, Finding, Row


@dataclass(frozen=True, kw_only=True)
class BaselineFeatures:
    """Classical features of examples, which need no network; what they are fitted to comes from training examples.

    Required are `words` and `features`.
    """

    @property
    def words(self) -> str:
        """What they are, for people: 'colours and gradient orientations'."""
        raise TypeError(f"{type(self).__name__} must define words")

    @property
    def width(self) -> int | None:
        """D, the number of columns; None where nothing was fitted that says so."""
        return None

    @property
    def nameable(self) -> int:
        """How many of the first columns `named` knows."""
        return 0

    def features(self, items: Sequence[Any]) -> Any:
        """Return features (N, D), dense or sparse, of what `Modality.content` returns of N examples."""
        raise TypeError(f"{type(self).__name__} must define features(items)")

    def named(self, columns: Sequence[int], items: Sequence[Any]) -> dict[int, str]:
        """Return what some columns stand for, as far as it is found in these examples."""
        return {}

    def settings(self) -> dict[str, Any]:
        """Return what `arrays` does not hold, JSON-ready."""
        return {}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what is saved, by name."""
        return {}


@dataclass(frozen=True, kw_only=True)
class Modality(Component):
    """One kind of data; members are frozen keyword-only dataclasses named like their file.

    Required are `extensions`, `unit`, `working`, `decode`, `collate` and `normaliser`; the other methods have defaults.
    """

    extensions: ClassVar[frozenset[str]]
    """Lower-case file endings that are read, with the dot."""
    unit: ClassVar[str]
    """What one example is called in messages: 'image', 'text', 'clip'."""
    by_length: ClassVar[bool] = False
    """Whether batches are made of examples of similar length."""
    carries_files: ClassVar[bool] = False
    """Whether content of its own travels with saved weights (a tokenizer): `files` and `with_files`."""
    baseline_words: ClassVar[str] = ""
    """What the classical features of its examples are, for people: 'colours and gradient orientations'. Empty where there are none:
    a run then has no classical baseline."""

    # --- what it is fitted to ----------------------------------------------------------------

    @classmethod
    def from_image(cls, image: Modality) -> Self | None:
        """Return the preprocessing that shows its examples to a network of another modality; None where that cannot be."""
        return None

    def fitted_to(self, rows: Sequence[Row]) -> tuple[Self, str]:
        """Return it with what it takes from the training rows before anything is decoded (a tokenizer), and a sentence, or ''."""
        return self, ""

    @property
    def most(self) -> int | None:
        """Length beyond which an example cannot be shown whole; None where there is no limit, or where all are cut."""
        return None

    def windowed(self, training: NDArray[np.int64], lengths: NDArray[np.int64], *, whole: bool = False) -> tuple[Self, str]:
        """Return it with what it takes from the lengths of decoded examples (a window), and a sentence, or ''.

        Args:
            training: of the training examples, which it is chosen by.
            lengths: of all examples.
            whole: nothing of an example may be cut off; those longer than `most` are gone.
        """
        return self, ""

    def files(self) -> dict[str, str]:
        """Return the files that travel with saved weights, name -> content; `with_files` reads them back."""
        return {}

    def with_files(self, files: dict[str, str]) -> Self:
        """Return the same preprocessing with the content of its files.

        Raises:
            WeightsError: a file is not what it should be.
        """
        return self

    # --- from a file to a batch --------------------------------------------------------------

    def working(self) -> dict[str, Any]:
        """Return what `decode` depends on, JSON-ready: part of the store's cache key."""
        raise TypeError(f"{type(self).__name__} must define working()")

    def decode(self, raw: bytes | tuple[str, ...]) -> Decoded:
        """Turn a file's bytes (or inline text) into one array at working size.

        Raises:
            BadItem: the example cannot be used; says why in words.
        """
        raise TypeError(f"{type(self).__name__} must define decode(raw) -> Decoded")

    def decode_whole(self, raw: bytes | tuple[str, ...]) -> Decoded:
        """Return what `decode` does, of an example of any length without anything cut off; what is too long for that is refused.

        Raises:
            BadItem: the example cannot be used; says why in words.
        """
        return self.decode(raw)

    def pieces(self, array: NDArray[Any]) -> list[tuple[int, int]]:
        """Return begin and end of the pieces that an example is shown in where it is longer than the window; all of it by default."""
        return [(0, len(array))]

    def view(self, array: NDArray[Any], crop: ViewAugmentation | None, rng: np.random.Generator | None) -> NDArray[Any]:
        """Return the part of a stored array that the model gets; deterministic where `crop` is None. All of it by default."""
        return array

    def geometry(
        self, array: NDArray[Any], info: Mapping[str, Any], crop: ViewAugmentation | None, rng: np.random.Generator | None
    ) -> NDArray[np.float64]:
        """Return where the file's coordinates lie in what `view` returns with the same arguments: (A, A + 1), see `Geometry`.

        Raises:
            TypeError: its examples have no coordinates, as is the default.
        """
        raise TypeError(f"examples of {type(self).__name__} have no coordinates")

    def collate(self, views: list[NDArray[Any]]) -> Features:
        """Stack (or pad, with a mask) views into one raw batch."""
        raise TypeError(f"{type(self).__name__} must define collate(views) -> Features")

    def normaliser(self) -> torch.nn.Module:
        """Return the module (Features -> Features) that makes a raw batch the backbone's input."""
        raise TypeError(f"{type(self).__name__} must define normaliser() -> nn.Module")

    # --- what is reported of examples --------------------------------------------------------

    def findings(self, infos: Sequence[dict[str, Any]]) -> list[Finding]:
        """Return what decoding these examples lost that is worth a sentence: truncated tokens, frequencies above the sample rate."""
        return []

    def content(self, row: Row, array: NDArray[Any]) -> Any:
        """Return what classical features are computed of: what is stored of an example, or something of its row."""
        return array

    def baseline_features(self, arrays: list[NDArray[Any]]) -> Any:
        """Return classical features (N, D) of examples, each alone; required where `baseline_words` are given and nothing is fitted."""
        raise TypeError(f"{type(self).__name__} must define baseline_features(arrays), as it has baseline_words")

    def fit_baseline_features(self, items: Sequence[Any]) -> tuple[BaselineFeatures, Any]:
        """Return the classical features fitted on the `content` of training examples, and the features (N, D) of these."""
        floor = _Described(modality=self)
        return floor, floor.features(items)

    def load_baseline_features(self, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> BaselineFeatures:
        """Return the classical features that `settings` and `arrays` saved.

        Raises:
            ValueError: they make no sense.
        """
        return _Described(modality=self)


@dataclass(frozen=True, kw_only=True)
class _Described(BaselineFeatures):
    """Classical features of each example on its own, as its modality computes them."""

    modality: Modality

    @property
    def words(self) -> str:
        return self.modality.baseline_words

    def features(self, items: Sequence[Any]) -> Any:
        return self.modality.baseline_features(list(items))
