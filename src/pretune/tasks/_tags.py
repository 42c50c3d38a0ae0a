"""The tags of a text's words as outputs of a network: their space, what is true, what is predicted, what of it is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pretune.evaluation import entities, metrics
from pretune.evaluation.sums import CLASSES, cell_sums
from pretune.sources.tags import OUTSIDE, TaggedWords, entities_of
from pretune.tasks._base import Figures, Space
from pretune.tasks._words import WordPlaces

NONE = -100
"""Label of a position that begins no word: special tokens and the later tokens of a word."""


@dataclass(frozen=True, kw_only=True)
class TagSpace(Space):
    """The tags, one output each. `classes` are the types of entities; of plain tags the tags themselves."""

    tags: tuple[str, ...] = ()
    outside: float = 0.0
    """Added to the log-probability of O: below 0 more entities are found, above 0 fewer."""

    def check(self) -> None:
        """Raise ValueError unless the tags are those of the classes."""
        super().check()
        if self.tags not in (self.classes, iob2(self.classes)):
            raise ValueError("tags must be the classes, or O with B- and I- of each class")
        if not np.isfinite(float(self.outside)):
            raise ValueError("outside must be a finite number")

    @property
    def marks(self) -> bool:
        """Whether tags mark entities."""
        return self.tags != self.classes

    def likeliest(self, scores: Sequence[NDArray[Any]]) -> list[NDArray[np.int64]]:
        """Return the tags (W_i,) of each text's words, from their log-probabilities (W_i, C)."""
        if not self.marks:
            return [one.argmax(1) for one in scores]
        shift = np.array([self.outside if tag == OUTSIDE else 0.0 for tag in self.tags])
        return entities.likeliest([one + shift for one in scores], self.tags)


class TagTruth(NamedTuple):
    """What is true of one text."""

    tags: NDArray[np.int64]
    """(T,) of each position; NONE where no word begins, or one without a known tag."""
    words: NDArray[np.int64]
    """(T,) number of the word that begins at each position; what stands where none begins is not read."""
    lost: NDArray[np.float64]
    """(K,) how often each class occurs where no prediction can be right: behind the last token, or with a border inside a token."""


def iob2(types: Sequence[str]) -> tuple[str, ...]:
    return (OUTSIDE, *(f"{mark}-{name}" for name in types for mark in "BI"))


def known_tags(target: TaggedWords, places: WordPlaces, counts: Tensor, space: TagSpace) -> list[str]:
    """Return the tags of the words; what cannot be predicted is counted: an entity of which a word is not shown, or that shares a token.

    The words of such an entity have no tag: they are neither trained on nor scored.
    """
    words = list(target.tags)
    if (places.first >= 0).all() and not places.shared.any():
        return words
    class_of = {name: at for at, name in enumerate(space.classes)}
    if not space.marks:
        for at in np.flatnonzero((places.first < 0) | places.shared):
            if words[at] in class_of and (places.first[at] < 0 or words[at] != words[at - 1]):
                counts[class_of[words[at]]] += 1
        return words
    borders = np.append(places.shared, False)
    for one in entities_of(target.tags):
        if (places.first[one.start : one.end] < 0).any() or borders[one.start] or borders[one.end]:
            words[one.start : one.end] = [""] * (one.end - one.start)
            if one.type in class_of:
                counts[class_of[one.type]] += 1
    return words


def tagged(decoded: list[NDArray[Any]], truth: list[TagTruth], space: TagSpace) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """Return the true and the predicted tags (W_i,) of the words that have a known one."""
    there = [one.tags != NONE for one in truth]
    scores = [one[kept] for one, kept in zip(decoded, there, strict=True)]
    for one in scores:
        metrics.refuse_nan(one)
    return [one.tags[kept] for one, kept in zip(truth, there, strict=True)], space.likeliest(scores)


def counted(true: list[NDArray[Any]], predicted: list[NDArray[Any]], lost: NDArray[Any], space: TagSpace) -> NDArray[np.float64]:
    """Return what is right, true and predicted of each class in each text, (N, 3K), what is not shown among the true."""
    width = len(space.classes)
    if space.marks:
        counts = entities.counted(true, predicted, space.tags, space.classes)
    else:
        counts = np.zeros((len(true), 3 * width))
        text = np.repeat(np.arange(len(true)), [len(one) for one in true])
        np.add.at(counts, text, cell_sums(np.concatenate(true).astype(int), np.concatenate(predicted).astype(int), width))
    counts[:, width : 2 * width] += lost
    return counts


def figures_of_tags(true: list[NDArray[Any]], predicted: list[NDArray[Any]], lost: NDArray[Any], space: TagSpace) -> Figures:
    """Return the metrics of plain tags."""
    counts = counted(true, predicted, lost, space)
    matrix = metrics.confusion_matrix(np.concatenate(predicted).astype(int), np.concatenate(true).astype(int), len(space.classes))
    found = entities.figures(counts, space.classes)
    kept = {key: found[key] for key in ("macro_f1", "per_class")}
    return {**kept, "balanced_accuracy": float(CLASSES["balanced_accuracy"](counts.sum(0)[None])[0]), "confusion": matrix.tolist()}
