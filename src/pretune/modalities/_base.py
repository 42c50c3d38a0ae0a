"""What a modality must do: decode a raw item once, cut views from it, collate them, describe it.

A modality is a frozen dataclass that also *is* the preprocessing a set of weights carries
(size, mean, std; sample rate; tokenizer): it travels with every backbone and every saved run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from pretune.augmentations import Augmentation
    from pretune.types import Decoded, Features


class Modality(Protocol):
    """One kind of datum; members are frozen keyword-only dataclasses named like their file."""

    component: ClassVar[bool] = True
    extensions: ClassVar[frozenset[str]]
    """Lower-case file endings that are read, with the dot."""
    unit: ClassVar[str]
    """What one item is called in messages: 'image', 'text', 'clip'."""
    # A modality may also have
    #   by_length = True                    batches are made of items of like length
    #   files(), with_files(files)          what travels with saved weights besides the settings: a tokenizer
    #   fitted_to(rows) -> (self, said)     what is made from the training rows before anything is decoded
    #   windowed(lengths) -> (self, said)   what is made from the training items' lengths once they are decoded
    #   around(modality) -> self or None    a class method: how its items are shown to a network of another modality
    #   decode_batch(raws)                  several items at once, where that is quicker
    #   findings(infos) -> [Finding]        what decoding cost
    #   fitted_floor(train, held)           in place of floor_features, where these are fitted: (N, D), (M, D), what they are

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

    def floor_features(self, arrays: list[NDArray[Any]]) -> Any:
        """Return classical features, (N, D), for the floor's linear model."""
        ...
