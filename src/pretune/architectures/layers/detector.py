"""A detector's layers as another library has them: they own their loss and choose which boxes are kept."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class DetectionTargets:
    """What is to be found in one image."""

    boxes: Tensor
    """(N, 4) x1, y1, x2, y2 in pixels of the input."""
    classes: Tensor
    """(N,) int64."""
    ignored: Tensor
    """(M, 4) boxes within which nothing that is found is wrong."""


class Supplied(nn.Module):
    """Takes the place of a backbone within a network, and returns what was computed before."""

    def __init__(self, returns: Callable[[Sequence[Tensor]], object]) -> None:
        super().__init__()
        self.returns = returns
        self._maps: Sequence[Tensor] = ()

    def hold(self, maps: Sequence[Tensor]) -> None:
        """Keep what the next call returns."""
        self._maps = maps

    def forward(self, *images: object, **settings: object) -> object:
        """Return what is kept, in the form that the network reads, and forget it."""
        maps, self._maps = self._maps, ()
        return self.returns(maps)


class LibraryDetector(nn.Module):
    """What follows the backbone in a detector of another library, for some classes."""

    background: str = ""
    """Where scores of class tensors have a row of no class: first, last, or nowhere ('')."""
    per_class: tuple[str, ...] = ()
    """Parts of the names of tensors that have several rows for each class, one class after the other."""

    def __init__(self, classes: int, size: int) -> None:
        super().__init__()
        self.classes, self.size = classes, size
        """Size: height and width of the input in pixels."""

    @abstractmethod
    def losses(self, maps: Sequence[Tensor], targets: Sequence[DetectionTargets]) -> dict[str, Tensor]:
        """Return the losses of B images by name, which are to be added; in training mode."""

    @abstractmethod
    def found(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return each image's boxes (K_i, 6): x1, y1, x2, y2 in pixels of the input, score, class; in eval mode."""

    @abstractmethod
    def rebuilt(self, classes: int) -> LibraryDetector:
        """Return the same layers for another number of classes, randomly initialised."""

    @torch.no_grad()
    def take(self, other: LibraryDetector, sources: Sequence[Sequence[int]]) -> None:
        """Begin as another detector of the same layers: class c is the other's class sources[c][0], if it has any.

        Args:
            other: the pretrained one.
            sources: for each class the other's that stands for it; where there is none, its scores begin at random.
        """
        mine, theirs = self.state_dict(), other.state_dict()
        sized = (other if other.classes != self.classes else self.rebuilt(self.classes + 1)).state_dict()
        for name, tensor in theirs.items():
            if mine[name].shape == sized[name].shape:
                mine[name].copy_(tensor)
                continue
            here, there = self._by_class(name, mine[name], self.classes), self._by_class(name, tensor, other.classes)
            first = int(here.shape[1] > self.classes and self.background == "first")
            for at, stand_ins in enumerate(sources):
                if stand_ins:
                    here[:, at + first] = there[:, stand_ins[0] + first]
            if here.shape[1] > self.classes:
                at = 0 if first else -1
                here[:, at] = there[:, at]

    def width(self, rows: int, classes: int) -> int:
        """Return how many of a class tensor's rows are one group: its classes, and the background where that has one."""
        return classes + bool(self.background)

    def _by_class(self, name: str, tensor: Tensor, classes: int) -> Tensor:
        """Return a view (groups, classes and background, …) of a tensor whose first axis has rows of each class."""
        rows = len(tensor)
        width = self.width(rows, classes)
        if any(part in name for part in self.per_class):
            return tensor.view(1, width, rows // width, *tensor.shape[1:])
        return tensor.view(rows // width, width, *tensor.shape[1:])


@dataclass(frozen=True, kw_only=True)
class LibraryLayers:
    """How the layers after a backbone are built, for the classes of the data."""

    stages: tuple[str, ...]
    """The backbone's stages whose maps they take, in order; empty where its last stage keeps them itself."""
    build: Callable[[int, int], LibraryDetector]
    """(classes, height and width of the input in pixels) -> the layers, randomly initialised."""
