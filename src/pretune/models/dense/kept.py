"""Which boxes of a dense detector are kept: the likely ones, none twice."""

from __future__ import annotations

import torch
from torch import Tensor

from pretune.architectures.layers.dense import DenseOutputs
from pretune.labels import Ragged

LEAST, MOST, OVERLAP = 0.01, 100, 0.6
"""Score below which nothing is kept, boxes of an image that are kept at most, and the overlap at which two of a class are one."""
_CANDIDATES = 1000


def kept(dense: DenseOutputs, size: int) -> Ragged:
    """Return each image's boxes (K_i, 6): x1, y1, x2, y2 in pixels of the input, score, class; the likeliest first.

    Args:
        dense: of B images.
        size: height and width of the input in pixels.
    """
    scores_BAC, boxes_BA4 = dense.logits.detach().float().sigmoid(), dense.boxes().detach().clamp(0, size)
    return Ragged.of([_of_one(scores_AC, boxes_A4) for scores_AC, boxes_A4 in zip(scores_BAC, boxes_BA4, strict=True)])


def _of_one(scores_AC: Tensor, boxes_A4: Tensor) -> Tensor:
    from torchvision.ops import batched_nms

    best, place = scores_AC.flatten().topk(min(_CANDIDATES, scores_AC.numel()))
    place = place[best > LEAST]
    best = best[best > LEAST]
    boxes, classes = boxes_A4[place // scores_AC.shape[1]], place % scores_AC.shape[1]
    chosen = batched_nms(boxes, best, classes, OVERLAP)[:MOST]
    return torch.cat([boxes[chosen], best[chosen, None], classes[chosen, None].to(boxes)], 1)
