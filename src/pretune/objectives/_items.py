"""What objectives over single examples share: features of raw batches, and numbers that show collapse.

Shapes: N examples, D channels, V views.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from pretune.backbones import Backbone
from pretune.models.pooling import Pool
from pretune.objectives._base import PretextLearner
from pretune.types import Batch, Features

FEW = 5
"""Examples below which rank and spread say nothing: N examples have a rank of at most N - 1."""


class ItemLearner(PretextLearner):
    """A backbone over single examples, which takes raw batches."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        self.normaliser = backbone.modality.normaliser()
        self.pool = Pool("mean")

    def begin(self, phase: str) -> None:
        """Let everything learn but a pretrained classifier, which is not asked."""
        super().begin(phase)
        if self.backbone.classifier is not None:
            self.backbone.classifier.requires_grad_(False)

    def features(self, raw: Features) -> Features:
        """Return the backbone's features of a raw batch."""
        return self.backbone(self.normaliser(raw))

    def pooled(self, raw: Features) -> Tensor:
        """Return one float32 vector an example, (N, D)."""
        return self.pool(self.features(raw)).tensor

    def predict(self, batch: Batch) -> Tensor:
        """Return the backbone's features of a batch."""
        return self.features(batch.inputs).tensor


def unstacked(stacked: Features) -> Features:
    """Return raw views (N V, …) of a batch of stacked ones (N, V, …), an example's views side by side."""
    views = stacked.tensor.shape[1]
    mask = None if stacked.mask is None else stacked.mask.repeat_interleave(views, 0)
    return replace(stacked, tensor=stacked.tensor.flatten(0, 1), mask=mask)


def effective_rank(x_ND: Tensor) -> float:
    """Return how many directions the features use, from 1 to min(N - 1, D): the exponential of their spectrum's entropy.

    Q. Garrido et al., "RankMe: Assessing the Downstream Performance of Pretrained Self-Supervised Representations by
    Their Rank", 2023; here of centred features.
    """
    x_ND = x_ND.detach().float()
    sizes = torch.linalg.svdvals(x_ND - x_ND.mean(0))
    share = sizes / sizes.sum().clamp(min=1e-12)
    return float(torch.special.entr(share).sum().exp())


def spread(x_ND: Tensor) -> float:
    """Return how far directions differ: 1 where they point everywhere, 0 where all examples give the same one.

    The root mean square over channels of the standard deviations of normalised features, times sqrt(D). X. Chen and
    K. He, "Exploring Simple Siamese Representation Learning", 2021.
    """
    unit_ND = torch.nn.functional.normalize(x_ND.detach().float(), dim=1)
    return float(unit_ND.std(0, correction=0).square().sum().sqrt())


def health(x_ND: Tensor, compared_ND: Tensor | None = None) -> dict[str, float]:
    """Return rank and spread of features (the spread of `compared_ND` where given); nothing of a few examples, which tell neither."""
    if len(x_ND) < FEW:
        return {}
    return {"spread": spread(x_ND if compared_ND is None else compared_ND), "rank": effective_rank(x_ND)}


def collapse(metrics: dict[str, float]) -> list[str]:
    """Return a sentence where `spread` and `rank` of the last evaluation say that features have collapsed, or are not known."""
    if "spread" not in metrics:
        return [f"Fewer than {FEW} held-out items cannot tell whether features have collapsed: add data, or raise held."]
    if metrics["spread"] >= 0.05 and metrics["rank"] >= 2:
        return []
    return [
        f"The features have collapsed: their spread is {metrics['spread']:.3f} of 1 and they use {metrics['rank']:.1f} directions. "
        "Train longer if there were few steps; else take a lower lr, a larger batch_size, a stronger augment, or more varied data."
    ]
