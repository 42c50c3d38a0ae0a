"""Return which two views show the same item: SimCLR, or VICReg's decorrelation without negatives.

T. Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", 2020;
A. Bardes et al., "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning", 2022.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretune.backbones import Backbone
from pretune.config import Within
from pretune.errors import SettingError
from pretune.objectives._base import Objective, Suggested
from pretune.objectives._items import ItemLearner, collapse, health, unstacked
from pretune.types import Batch, StepOutput

_FAST: dict[str, Any] = {
    "lr": 1e-2,
    "optim": "muon",
    "batch_size": 128,
    "weight_decay": 0.01,
    "augment": "views",
    "continued_lr": 3e-4,
    "continued_batch_size": 32,  # two views of 224 pixels through an EfficientNet take 100 MB an example
}
"""On small images Muon is as far after 160 steps as AdamW after 300."""


@dataclass(frozen=True, kw_only=True)
class Contrastive(Objective):
    """Features of two augmented views of an example agree, those of different examples do not."""

    suggested: ClassVar = {
        "image": Suggested(backbone="scratch:cnn", epochs=20, **_FAST),
        "audio": Suggested(backbone="scratch:audiocnn", epochs=40, **_FAST),
    }
    views: ClassVar[int] = 2

    loss: Literal["simclr", "vicreg"] = "simclr"
    """simclr: identify an example's other view among all others of the batch; vicreg: agreeing, decorrelated channels without
    negatives."""
    temperature: Annotated[float, Within(0, 2, above=True)] = 0.2
    """simclr: temperature of the similarities."""
    hidden: Annotated[int, Within(8)] = 512
    """Hidden units of the projector, which is discarded after pretraining."""
    outputs: Annotated[int, Within(2)] = 128
    """Output dimension of the projector, in which views are compared."""

    def __post_init__(self) -> None:
        if self.loss == "vicreg" and self.temperature != type(self).temperature:
            raise SettingError("objective.temperature is for loss=simclr; vicreg has none. Leave it out.")

    def learner(self, backbone: Backbone) -> ContrastiveLearner:
        """Return the learner."""
        return ContrastiveLearner(backbone, self)


class ContrastiveLearner(ItemLearner):
    """Backbone, mean over places, projector; shapes: B examples, 2 views, D channels.

    On several ranks each compares the views of its own share of a batch.
    """

    compares: ClassVar[bool] = True

    def __init__(self, backbone: Backbone, objective: Contrastive) -> None:
        super().__init__(backbone)
        self.objective = objective
        self.head = nn.Sequential(
            nn.Linear(backbone.width, objective.hidden, bias=False),
            nn.BatchNorm1d(objective.hidden),
            nn.ReLU(inplace=True),
            nn.Linear(objective.hidden, objective.outputs),
        )

    def forward(self, batch: Batch) -> StepOutput:
        """Return the loss of raw views (B, 2, …); in eval mode also how the features are spread."""
        pooled_ND = self.pooled(unstacked(batch.inputs))
        views_B2D = self.head(pooled_ND).float().unflatten(0, (-1, 2))
        one_BD, other_BD = views_B2D.unbind(1)
        plain = self.objective.loss == "vicreg"
        loss = vicreg(one_BD, other_BD) if plain else simclr(one_BD, other_BD, self.objective.temperature)
        logs = {} if self.training else self._health(pooled_ND, one_BD, other_BD)
        return StepOutput(loss=loss, size=batch.size, logs=logs)

    def predict(self, batch: Batch) -> Tensor:
        """Return the backbone's features of all views."""
        return self.features(unstacked(batch.inputs)).tensor

    def _health(self, pooled_ND: Tensor, one_BD: Tensor, other_BD: Tensor) -> dict[str, float]:
        nearest_B = (F.normalize(one_BD, dim=1) @ F.normalize(other_BD, dim=1).T).argmax(1)
        matched = (nearest_B == torch.arange(len(one_BD), device=nearest_B.device)).float().mean()
        logs = {"matched": float(matched)} | health(pooled_ND, one_BD)
        return logs | ({"floor_chance": math.log(2 * len(one_BD) - 1)} if self.objective.loss == "simclr" and len(one_BD) > 1 else {})

    def verdict(self, metrics: dict[str, float], floors: dict[str, float]) -> list[str]:
        """Report where features collapsed, or views are not distinguished better than by chance."""
        messages = collapse(metrics)
        if not messages and metrics["loss"] > 0.9 * floors.get("chance", math.inf):
            messages.append(
                "The model barely distinguishes positive from negative pairs: "
                f"the loss is {metrics['loss']:.2f}, chance {floors['chance']:.2f}. "
                "Train longer, raise lr, or add examples: near-identical examples cannot be contrasted."
            )
        return messages


def simclr(one_BD: Tensor, other_BD: Tensor, temperature: float) -> Tensor:
    """Return the mean cross-entropy, in nats, of finding each view's partner among the 2 B - 1 other views."""
    unit_ND = F.normalize(torch.cat([one_BD, other_BD]), dim=1)
    items = len(one_BD)
    logits_NN = unit_ND @ unit_ND.T / temperature
    logits_NN = logits_NN.masked_fill(torch.eye(2 * items, dtype=torch.bool, device=logits_NN.device), -torch.inf)
    partner_N = torch.arange(2 * items, device=logits_NN.device).roll(items)
    return F.cross_entropy(logits_NN, partner_N)


def vicreg(one_BD: Tensor, other_BD: Tensor) -> Tensor:
    """Return 25 parts disagreement, 25 parts lack of variance and 1 part correlation between channels."""
    lack, correlation = (sum(parts) for parts in zip(_variance(one_BD), _variance(other_BD), strict=True))
    return 25 * F.mse_loss(one_BD, other_BD) + 25 * lack / 2 + correlation


def _variance(x_BD: Tensor) -> tuple[Tensor, Tensor]:
    """Return by how much standard deviations fall short of 1, and the mean squared covariance off the diagonal, times D."""
    centred_BD = x_BD - x_BD.mean(0)
    covariance_DD = centred_BD.T @ centred_BD / max(1, len(x_BD) - 1)
    variance_D = covariance_DD.diagonal()
    lack = F.relu(1 - (variance_D + 1e-4).sqrt()).mean()
    return lack, (covariance_DD.square().sum() - variance_D.square().sum()) / x_BD.shape[1]
