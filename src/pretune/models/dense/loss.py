"""What a dense detector loses: scores, overlap and distances (Li et al., "Generalized Focal Loss", 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from pretune.architectures.layers.dense import DenseOutputs
from pretune.architectures.layers.detector import DetectionTargets
from pretune.models.dense.assignment import Assignment, assign, inside

_OVERLAP, _DISTANCES = 2.0, 0.25
"""Weights of the losses of boxes, where that of scores is 1."""
_FOCUS = 2.0


def dense_loss(dense: DenseOutputs, wanted: Sequence[DetectionTargets]) -> Tensor:
    """Return the mean loss of a batch: quality focal loss of scores, GIoU and distribution focal loss of boxes."""
    from torchvision.ops import generalized_box_iou_loss

    found_BA4, scores_BAC = dense.boxes(), dense.logits.float()
    target_BAC = torch.zeros_like(scores_BAC)
    overlaps, distances, weights = [], [], []
    counts_BA1 = torch.ones_like(scores_BAC[..., :1])
    for at, image in enumerate(wanted):
        counts_BA1[at, inside(dense.points, image.ignored).any(0)] = 0
        if not len(image.boxes):
            continue
        chosen = assign(scores_BAC[at].sigmoid(), found_BA4[at], dense.points, image.boxes, image.classes)
        target_BAC[at, chosen.points, image.classes[chosen.boxes]] = chosen.quality
        counts_BA1[at, chosen.points] = 1
        boxes_P4 = image.boxes[chosen.boxes]
        overlaps.append(generalized_box_iou_loss(found_BA4[at, chosen.points], boxes_P4))
        distances.append(_distance_loss(dense, at, chosen, boxes_P4))
        weights.append(chosen.quality)
    total = target_BAC.sum().clamp(min=1.0)
    focus_BAC = (target_BAC - scores_BAC.sigmoid()).abs() ** _FOCUS * counts_BA1
    of_scores = (F.binary_cross_entropy_with_logits(scores_BAC, target_BAC, reduction="none") * focus_BAC).sum() / total
    if not weights:
        return of_scores + 0 * dense.sides.float().sum()
    weight = torch.cat(weights)
    of_boxes = (torch.cat(overlaps) * weight).sum() / total
    of_distances = (torch.cat(distances) * weight).sum() / total
    return of_scores + _OVERLAP * of_boxes + _DISTANCES * of_distances


def _distance_loss(dense: DenseOutputs, at: int, chosen: Assignment, wanted_P4: Tensor) -> Tensor:
    """Return (P,) the cross-entropy of the two whole distances on either side of each true one, mean over four sides."""
    logits_P4K = dense.sides[at, chosen.points].float()
    points_P2, strides_P1 = dense.points[chosen.points], dense.strides[chosen.points, None]
    distance_P4 = torch.cat([points_P2 - wanted_P4[:, :2], wanted_P4[:, 2:] - points_P2], 1) / strides_P1
    distance_P4 = distance_P4.clamp(0, logits_P4K.shape[-1] - 1.01)
    low_P4 = distance_P4.long()
    share_P4 = distance_P4 - low_P4
    log_P4K = logits_P4K.log_softmax(-1)
    near, far = (log_P4K.gather(-1, (low_P4 + step)[..., None])[..., 0] for step in (0, 1))
    return -(near * (1 - share_P4) + far * share_P4).mean(1)
