"""Learn the classes of a large labelled set, then move on to another task."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from pretune.backbones import Backbone
from pretune.config import Within
from pretune.errors import DataError
from pretune.modalities.text import Text
from pretune.objectives._base import Objective, Suggested
from pretune.objectives._items import ItemLearner, health
from pretune.objectives._labels import KnowsClasses
from pretune.types import Batch, StepOutput


@dataclass(frozen=True, kw_only=True)
class Supervised(Objective):
    """Classification, whose head is left behind."""

    suggested: ClassVar = {
        "text": Suggested(backbone="scratch:transformer", lr=2e-3, batch_size=32, epochs=8, weight_decay=0.05, continued_heads=10),
        "image": Suggested(
            backbone="scratch:cnn", lr=2e-3, batch_size=64, epochs=30, weight_decay=0.05, augment="medium", continued_heads=10
        ),
        "audio": Suggested(
            backbone="scratch:audiocnn", lr=2e-3, batch_size=32, epochs=30, weight_decay=0.05, augment="medium", continued_heads=10
        ),
    }
    requires_targets: ClassVar[bool] = True

    smoothing: Annotated[float, Within(0, 0.5)] = 0.1
    """Label smoothing: fraction of each target that is spread over all classes."""

    def learner(self, backbone: Backbone) -> SupervisedPretextLearner:
        """Return the learner."""
        return SupervisedPretextLearner(backbone, self.smoothing)


class SupervisedPretextLearner(ItemLearner, KnowsClasses):
    """Backbone, mean over places, a linear layer; it has outputs once its `classes` are set."""

    def __init__(self, backbone: Backbone, smoothing: float) -> None:
        super().__init__(backbone)
        self.smoothing = smoothing
        self.head: nn.Module = nn.Identity()

    def make_for(self, names: tuple[str, ...]) -> None:
        """Make the outputs."""
        if len(names) < 2:
            raise DataError(
                "objective=supervised needs items of at least two classes, each with one label. Name the labels' column with label=…, "
                f"or learn without labels: objective={'causal' if isinstance(self.backbone.modality, Text) else 'contrastive'}."
            )
        device = next(self.backbone.parameters()).device
        self.head = nn.Linear(self.backbone.width, len(names)).to(device)

    def forward(self, batch: Batch) -> StepOutput:
        """Return the cross-entropy in nats; in eval mode also the accuracy."""
        target_B = batch.target
        assert target_B is not None, "the runner gives targets to objectives that want them"
        pooled_BD = self.pooled(batch.inputs)
        logits_BC = self.head(pooled_BD).float()
        if self.training:
            loss = F.cross_entropy(logits_BC, target_B, label_smoothing=self.smoothing)
            return StepOutput(loss=loss, size=batch.size)
        right = (logits_BC.argmax(1) == target_B).float().mean()
        logs = {"accuracy": float(right)} | health(pooled_BD)
        chance = {"floor_chance": math.log(len(self.classes)), "floor_majority": self._majority(target_B)}
        return StepOutput(loss=F.cross_entropy(logits_BC, target_B), size=batch.size, logs=logs | chance)

    def _majority(self, targets_B: torch.Tensor) -> float:
        """Return the share of a batch's commonest class."""
        return float(targets_B.bincount(minlength=len(self.classes)).max()) / len(targets_B)

    def verdict(self, metrics: dict[str, float], floors: dict[str, float]) -> list[str]:
        """Report where the classes were not learned."""
        if metrics["accuracy"] > floors["majority"] and metrics["loss"] < floors["chance"]:
            return []
        return [
            f"The classes are not told apart: held-out accuracy {metrics['accuracy']:.3f} (commonest class {floors['majority']:.3f}), "
            f"loss {metrics['loss']:.2f} (chance {floors['chance']:.2f}). This backbone is no better than fresh weights."
        ]
