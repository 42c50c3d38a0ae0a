"""Average precision of boxes as COCO defines it (Lin et al. 2014), computed by faster-coco-eval; intervals by resampled images."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

OVERLAPS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0, 1, 101)
_REPLICATES, _SEED = 200, 0


@dataclass(frozen=True, kw_only=True)
class TrueBoxes:
    """The boxes of one image."""

    boxes: Array
    """(N, 4) x1, y1, x2, y2 in pixels of the image."""
    classes: Array
    """(N,) int64."""
    ignored: Array
    """(N,) bool: crowds and difficult objects, in which nothing that is found counts as wrong."""


def average_precision(found: Sequence[Array], truth: Sequence[TrueBoxes], classes: Sequence[str]) -> dict[str, Any]:
    """Return `map` (mean over overlaps 0.50 to 0.95), `ap50`, `ap75`, `ar100`, and `per_class`; None where no image has boxes.

    Args:
        found: each image's (K, 6) boxes in pixels, score, class.
        truth: each image's boxes.
        classes: names in the order of class numbers.
    """
    support = [sum(int(((one.classes == at) & ~one.ignored).sum()) for one in truth) for at in range(len(classes))]
    if not any(support):
        empty = {name: {"ap": None, "ap50": None, "support": 0} for name in classes}
        return {"map": None, "ap50": None, "ap75": None, "ar100": None, "per_class": empty}
    evaluation = _evaluated(found, truth, classes)
    precision = evaluation.eval["precision"][:, :, :, 0, 2]  # overlaps, recalls, classes; all sizes, 100 boxes
    per_class = {}
    for at, name in enumerate(classes):
        known = support[at] > 0
        per_class[name] = {
            "ap": float(precision[:, :, at].mean()) if known else None,
            "ap50": float(precision[0, :, at].mean()) if known else None,
            "support": support[at],
        }
    stats = [float(value) for value in evaluation.stats]
    return {"map": stats[0], "ap50": stats[1], "ap75": stats[2], "ar100": stats[8], "per_class": per_class}


def _evaluated(found: Sequence[Array], truth: Sequence[TrueBoxes], classes: Sequence[str]) -> Any:
    from faster_coco_eval import COCO, COCOeval_faster

    images = [{"id": at + 1, "width": 1, "height": 1} for at in range(len(truth))]
    categories = [{"id": at + 1, "name": name} for at, name in enumerate(classes)]
    results = _results(found) or [{"image_id": 1, "category_id": 1, "bbox": [0.0, 0.0, 0.0, 0.0], "score": 0.0}]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO({"images": images, "annotations": _annotations(truth), "categories": categories})
        evaluation = COCOeval_faster(coco, coco.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def _annotations(truth: Sequence[TrueBoxes]) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    for at, one in enumerate(truth):
        for box, name, ignored in zip(one.boxes, one.classes, one.ignored, strict=True):
            sides = _xywh(box)
            entry = {"id": len(out) + 1, "image_id": at + 1, "category_id": int(name) + 1, "bbox": sides, "area": sides[2] * sides[3]}
            out.append({**entry, "iscrowd": int(ignored)})
    return out


def _results(found: Sequence[Array]) -> list[dict[str, Any]]:
    return [
        {"image_id": at + 1, "category_id": int(row[5]) + 1, "bbox": _xywh(row), "score": float(row[4])}
        for at, rows in enumerate(found)
        for row in rows
    ]


def _xywh(box: Array) -> list[float]:
    x1, y1, x2, y2 = (float(value) for value in box[:4])
    return [x1, y1, x2 - x1, y2 - y1]


# --- matches, for intervals ----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Matches:
    """Which found boxes of one class are right, the likeliest first."""

    right: Array
    """(D, T) bool at each overlap."""
    ignored: Array
    """(D, T) bool: neither right nor wrong."""
    image: Array
    """(D,) int64."""
    wanted: Array
    """(images,) true boxes of each image."""

    def average_precision(self, weights: Array) -> Array:
        """Return AP (T,) at each overlap where image i counts weights[i] times; NaN without true boxes."""
        total = float(weights @ self.wanted)
        if total == 0:
            return np.full(self.right.shape[1], np.nan)
        counted = weights[self.image][:, None] * ~self.ignored
        right, all_found = (counted * self.right).cumsum(0), counted.cumsum(0)
        recall, precision = right / total, right / np.maximum(all_found, 1e-12)
        precision = np.maximum.accumulate(precision[::-1], 0)[::-1]
        out = np.zeros(self.right.shape[1])
        for at in range(len(out)):
            places = np.searchsorted(recall[:, at], _RECALLS, side="left")
            inside = places < len(precision)
            out[at] = precision[places[inside], at].sum() / len(_RECALLS)
        return out


def matches(found: Sequence[Array], truth: Sequence[TrueBoxes], name: int, overlaps: Array = OVERLAPS) -> Matches:
    """Return the matches of one class, as COCO finds them: each box, the likeliest first, takes the true box it overlaps most."""
    rows, scores, images = [], [], []
    for at, (boxes, true) in enumerate(zip(found, truth, strict=True)):
        mine = boxes[boxes[:, 5] == name]
        mine = mine[np.argsort(-mine[:, 4], kind="stable")][:100]
        theirs = true.classes == name
        rows.append(_matched(mine[:, :4], true.boxes[theirs], true.ignored[theirs], overlaps))
        scores.append(mine[:, 4])
        images.append(np.full(len(mine), at))
    order = np.argsort(-np.concatenate(scores), kind="stable")
    right, ignored = (np.concatenate([row[at] for row in rows])[order] for at in (0, 1))
    wanted = np.array([int(((one.classes == name) & ~one.ignored).sum()) for one in truth])
    return Matches(right=right, ignored=ignored, image=np.concatenate(images)[order], wanted=wanted)


def _matched(boxes: Array, true: Array, ignored: Array, overlaps: Array) -> tuple[Array, Array]:
    right, excluded = (np.zeros((len(boxes), len(overlaps)), bool) for _ in range(2))
    if not len(true):
        return right, excluded
    shared = overlap(boxes, true, ignored)
    order = np.argsort(ignored, kind="stable")  # what counts comes first
    for at, least in enumerate(overlaps):
        taken = np.zeros(len(true), bool)
        for row in range(len(boxes)):
            free = [j for j in order if (not taken[j] or ignored[j]) and shared[row, j] >= least]
            counted = [j for j in free if not ignored[j]]
            if counted:
                taken[max(counted, key=lambda j: shared[row, j])] = right[row, at] = True
            elif free:
                excluded[row, at] = True
    return right, excluded


def overlap(boxes: Array, others: Array, crowd: Array | None = None) -> Array:
    """Return intersection over union (N, M); over the first one's area alone where the other is a crowd."""
    low, high = np.maximum(boxes[:, None, :2], others[None, :, :2]), np.minimum(boxes[:, None, 2:4], others[None, :, 2:4])
    shared = np.clip(high - low, 0, None).prod(-1)
    areas, theirs = (np.clip(one[:, 2:4] - one[:, :2], 0, None).prod(-1) for one in (boxes, others))
    union = areas[:, None] + theirs[None] - shared
    if crowd is not None:
        union = np.where(crowd[None], areas[:, None], union)
    return shared / np.maximum(union, 1e-12)


def intervals(
    found: Sequence[Array], truth: Sequence[TrueBoxes], classes: Sequence[str], groups: Array | None = None
) -> dict[str, tuple[float, float]]:
    """Return 95 % intervals of map, ap50 and ap75: percentiles over resampled images, those of one group together."""
    if not any(len(one.boxes) for one in truth):
        return {}
    of_class = [matches(found, truth, at) for at in range(len(classes))]
    units = np.arange(len(truth)) if groups is None else np.unique(groups, return_inverse=True)[1]
    count = int(units.max()) + 1
    rng = np.random.default_rng(_SEED)
    values = []
    for _ in range(_REPLICATES):
        times = np.bincount(rng.integers(count, size=count), minlength=count)
        if (means := _means(of_class, times[units])) is not None:
            values.append(means)
    if not values:
        return {}
    whole = _means(of_class, np.ones(len(truth)))
    assert whole is not None
    low, high = np.percentile(np.array(values), (2.5, 97.5), axis=0)
    low, high = np.minimum(low, whole), np.maximum(high, whole)
    return {name: (float(low[at]), float(high[at])) for at, name in enumerate(("map", "ap50", "ap75"))}


def _means(of_class: Sequence[Matches], weights: Array) -> Array | None:
    """Return mAP, AP50 and AP75 (3,) where image i counts weights[i] times; None where no image with boxes counts."""
    each = np.stack([one.average_precision(weights) for one in of_class])
    each = each[~np.isnan(each[:, 0])]
    return np.array([each.mean(), each[:, 0].mean(), each[:, 5].mean()]) if len(each) else None
