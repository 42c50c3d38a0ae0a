"""Which classes of a pretrained detector stand for those of the data: by name, else by what it finds on training boxes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pretune.architectures.layers.dense import DenseHead, DenseOutputs
from pretune.architectures.layers.detector import LibraryDetector
from pretune.evaluation.boxes import TrueBoxes, matches, overlap
from pretune.labels import Labels, Ragged
from pretune.models.dense.kept import OVERLAP

IMAGES = 100
"""Training images at most that the choice is made on."""
_POINTS = 300
"""Points of an image that are looked at: those with the highest scores."""
_TRIED, _MOST = 6, 4
"""Classes that are tried for each of the data's, and how many can stand for it together."""
_LEAST = 0.05
"""Average precision at an overlap of 0.5 below which nothing stands for a class."""
_GAIN = 0.005
"""Average precision that one more class must add."""
_HALF = np.array([0.5])


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a pretrained detector finds in one image, and what is there."""

    scores: NDArray[np.float32]
    """(P, K) of each of its classes."""
    boxes: NDArray[np.float32]
    """(P, 4) in pixels of the input."""
    truth: TrueBoxes


@torch.inference_mode()
def seen(head: DenseHead, batches: Iterable[tuple[Sequence[Tensor], Labels]]) -> list[Seen]:
    """Return what a pretrained head finds in images, as maps with labels in pixels of the input."""
    out: list[Seen] = []
    for maps, labels in batches:
        dense: DenseOutputs = head(maps)
        scores_BAK, boxes_BA4 = dense.logits.float().sigmoid(), dense.boxes()
        for scores_AK, boxes_A4, truth in zip(scores_BAK, boxes_BA4, _truth(labels), strict=True):
            best = scores_AK.amax(1).topk(min(_POINTS, len(scores_AK))).indices
            out.append(Seen(scores=scores_AK[best].numpy(), boxes=boxes_A4[best].numpy(), truth=truth))
        if len(out) >= IMAGES:
            break
    return out


@torch.inference_mode()
def seen_kept(detector: LibraryDetector, batches: Iterable[tuple[Sequence[Tensor], Labels]], known: int) -> list[Seen]:
    """Return the same of a detector that chooses which boxes are kept, each with the score of one of its `known` classes."""
    out: list[Seen] = []
    for maps, labels in batches:
        for found_K6, truth in zip(detector.found(maps), _truth(labels), strict=True):
            scores_PK = np.zeros((len(found_K6), known), np.float32)
            scores_PK[np.arange(len(found_K6)), found_K6[:, 5].long().numpy()] = found_K6[:, 4].numpy()
            out.append(Seen(scores=scores_PK, boxes=found_K6[:, :4].numpy(), truth=truth))
        if len(out) >= IMAGES:
            break
    return out


def _truth(labels: Labels) -> list[TrueBoxes]:
    """Return the boxes that are in each image, in pixels of the input."""
    parts = (labels[name] for name in ("boxes", "classes", "ignored"))
    images = zip(*(part.split() for part in parts if isinstance(part, Ragged)), strict=True)
    return [
        TrueBoxes(boxes=boxes.numpy(), classes=classes.numpy(), ignored=ignored.numpy().astype(bool)) for boxes, classes, ignored in images
    ]


def stand_ins(images: Sequence[Seen], classes: Sequence[str], known: Sequence[str], most: int = _MOST) -> list[tuple[int, ...]]:
    """Return for each class which of the known classes stand for it: the one of its name, else those that find it best together.

    Args:
        images: training images as the detector sees them.
        classes: names of the data's classes.
        known: names of the detector's classes.
        most: how many can stand for one together.
    """
    by_name = {name.casefold(): at for at, name in enumerate(known)}
    out: list[tuple[int, ...]] = []
    for at, name in enumerate(classes):
        same = by_name.get(name.casefold().replace("_", " "))
        out.append((same,) if same is not None else _found(images, at, most))
    return out


def _found(images: Sequence[Seen], name: int, most: int) -> tuple[int, ...]:
    """Return the classes that find the boxes of one class best, added one at a time while they help."""
    chosen: tuple[int, ...] = ()
    best = _LEAST
    tried = _candidates(images, name)
    while len(chosen) < most:
        values = {one: _precision(images, name, (*chosen, one)) for one in tried if one not in chosen}
        if not values:
            break
        one = max(values, key=lambda key: values[key])
        if values[one] < best + (_GAIN if chosen else 0):
            break
        chosen, best = (*chosen, one), values[one]
    return chosen


def _candidates(images: Sequence[Seen], name: int) -> list[int]:
    """Return the known classes with the highest scores on a class's true boxes, less those elsewhere."""
    total = np.zeros(images[0].scores.shape[1]) if images else np.zeros(0)
    for one in images:
        boxes = one.truth.boxes[one.truth.classes == name]
        if len(boxes):
            near = overlap(one.boxes, boxes) >= 0.5
            for column in near.T:
                total += one.scores[column].max(0) if column.any() else 0
    return [int(at) for at in np.argsort(-total)[:_TRIED] if total[at] > 0]


def _precision(images: Sequence[Seen], name: int, chosen: Sequence[int]) -> float:
    """Return the average precision of a class where the highest score of some known classes counts."""
    from torchvision.ops import nms

    found = []
    for one in images:
        scores = one.scores[:, list(chosen)].max(1)
        kept = nms(torch.from_numpy(one.boxes), torch.from_numpy(scores), OVERLAP).numpy()
        classes = np.full(len(kept), name, np.float32)
        found.append(np.column_stack([one.boxes[kept], scores[kept], classes]))
    value = matches(found, [one.truth for one in images], name, _HALF).average_precision(np.ones(len(images)))[0]
    return 0.0 if np.isnan(value) else float(value)


def sentence(classes: Sequence[str], sources: Sequence[Sequence[int]], known: Sequence[str]) -> str:
    """Return which classes stand for which, in words."""
    pairs = zip(classes, sources, strict=True)
    messages = [f"{name} ← {', '.join(known[at] for at in mine) or 'nothing that it knows'}" for name, mine in pairs]
    more = f"; and {len(messages) - 12} more" if len(messages) > 12 else ""
    unknown = sum(not mine for mine in sources)
    untrained = f" The scores of {unknown} of {len(classes)} classes begin at random." if unknown else ""
    shown = "; ".join(messages[:12])
    return f"the pretrained detector's classes stand for those of the data, chosen on training boxes: {shown}{more}.{untrained}"
