"""Which points of a pyramid learn which boxes: those that already do best at it (Feng et al., "TOOD", 2021)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

TOP = 10
"""Points that learn a box, at most."""
_SCORE, _OVERLAP = 0.5, 4.0
"""Exponents of a point's score and of its box's overlap in how well it does."""


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """What the points of one image learn."""

    points: Tensor
    """(P,) int64, those that learn a box."""
    boxes: Tensor
    """(P,) int64, which of the image's boxes each learns."""
    quality: Tensor
    """(P,) in [0, 1]: the score that each is to give."""


@torch.no_grad()
def assign(scores_AC: Tensor, found_A4: Tensor, points_A2: Tensor, boxes_N4: Tensor, classes_N: Tensor) -> Assignment:
    """Return which points of one image learn which of its boxes.

    A point lies inside its box, or is the nearest one of a box that holds no point. The `TOP` points that do best, by score and overlap
    together, learn a box; a point that does well for several learns the one it overlaps most.

    Args:
        scores_AC: probabilities of each class at each point.
        found_A4: the box of each point, x1, y1, x2, y2 in pixels.
        points_A2: x and y of each point.
        boxes_N4: the true boxes, N >= 1.
        classes_N: their classes.
    """
    from torchvision.ops import box_iou

    overlap_NA = box_iou(boxes_N4, found_A4)
    how_well_NA = scores_AC[:, classes_N].T.clamp(min=1e-6) ** _SCORE * overlap_NA.clamp(min=1e-6) ** _OVERLAP
    can_NA = _candidates(points_A2, boxes_N4)
    how_well_NA = torch.where(can_NA, how_well_NA, -1.0)
    best_NK, chosen_NK = how_well_NA.topk(min(TOP, len(points_A2)), dim=1)
    learns_NA = torch.zeros_like(can_NA).scatter_(1, chosen_NK, best_NK > 0)
    among_NA = torch.where(learns_NA, overlap_NA + 1e-6, 0.0)
    boxes_A = among_NA.argmax(0)
    points = learns_NA.any(0).nonzero()[:, 0]
    boxes = boxes_A[points]
    mine_NA = torch.zeros_like(learns_NA)
    mine_NA[boxes, points] = True
    best_N = torch.where(mine_NA, how_well_NA, 0.0).amax(1).clamp(min=1e-12)
    overlapped_N = torch.where(mine_NA, overlap_NA, 0.0).amax(1)
    quality = how_well_NA[boxes, points] / best_N[boxes] * overlapped_N[boxes]
    return Assignment(points=points, boxes=boxes, quality=quality.clamp(0, 1))


def inside(points_A2: Tensor, boxes_N4: Tensor) -> Tensor:
    """Return (N, A) which points lie in which boxes."""
    low_NA2, high_NA2 = points_A2 - boxes_N4[:, None, :2], boxes_N4[:, None, 2:] - points_A2
    return torch.cat([low_NA2, high_NA2], -1).amin(-1) > 0


def _candidates(points_A2: Tensor, boxes_N4: Tensor) -> Tensor:
    """Return (N, A) which points can learn which boxes: those inside; of a box without any, its nearest."""
    inside_NA = inside(points_A2, boxes_N4)
    centres_N2 = (boxes_N4[:, :2] + boxes_N4[:, 2:]) / 2
    nearest_N = torch.cdist(centres_N2, points_A2).argmin(1)
    alone_N = ~inside_NA.any(1)
    inside_NA[alone_N, nearest_N[alone_N]] = True
    return inside_NA
