"""The state of a fine-tuning run: the network, its data, and what the present phase trains on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pretune import registry
from pretune.augmentations import Augmentation, BatchAugmentation, ViewAugmentation
from pretune.backbones import Backbone
from pretune.data.augmented import training_view
from pretune.data.dataset import StoreView, View
from pretune.evaluation.probe import Solution
from pretune.features.frozen import FrozenFeatures
from pretune.features.passes import FeatureCache
from pretune.models import Model, SupervisedLearner
from pretune.recipe import Recipe
from pretune.runner.baselines import Fitted, FittedOwn
from pretune.runner.job import JobState
from pretune.runner.prepare import Prepared
from pretune.strategies import Defaults, Phase, Strategy, suggested
from pretune.training.optim import Optim
from pretune.types import Layout, ParamGroup


@dataclass(kw_only=True)
class FineTuningState(JobState[SupervisedLearner]):
    """What fine-tuning shares between its phases and its record."""

    recipe: Recipe
    data: Prepared
    """Decoded and split, with the target space."""
    strategy: Strategy
    optim: Optim
    backbone: Backbone
    model: Model
    features: FeatureCache
    augmentations: Sequence[Augmentation]
    """Those that cut views and those that act on batches."""
    baseline: Fitted | None = None
    """The classical model, where it was fitted before training."""
    own: FittedOwn | None = None
    """The task's own baseline."""
    own_loss: bool = False
    """Whether the caller brought a loss."""
    start: dict[str, float] | None = None
    """Figures of the score before training, where they were measured."""
    groups: Sequence[ParamGroup] = ()
    """Parameters that learn in the present phase."""
    frozen: FrozenFeatures | None = None
    """Features below the boundary of the present phase, where they are cached."""
    solved: bool = False
    """Whether the head was solved, not trained in steps."""
    solution: Solution | None = None
    """How, where it was."""
    widths: dict[str, tuple[Layout, int]] | None = None
    """Layout and channels of each stage, while it is not yet chosen which of them the head takes."""

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The strategy's phases."""
        return self.strategy.phases(len(self.model.body))

    @property
    def defaults(self) -> Defaults:
        """What the task or the strategy suggests for this modality and network."""
        others = self.data.task.suggested(registry.name_of(self.strategy), self.backbone)
        if self.optim.name != others.get("optim", Optim().name):
            others = {key: value for key, value in others.items() if key != "lr"}  # a rate for another optimizer
        return suggested(self.strategy, registry.name_of(self.data.modality), others)

    @property
    def measures_start(self) -> bool:
        """Whether the network predicts before it is trained: the task says so, and the weights are pretrained."""
        return self.data.task.measures(self.model.head) and not self.strategy.from_scratch and not self.backbone.is_untrained

    @property
    def crop(self) -> ViewAugmentation | None:
        """The augmentation that cuts views, if any."""
        return next((one for one in self.augmentations if isinstance(one, ViewAugmentation)), None)

    @property
    def mixing(self) -> tuple[BatchAugmentation, ...]:
        """The augmentations that act on batches."""
        return tuple(one for one in self.augmentations if isinstance(one, BatchAugmentation))

    def view(self, positions: np.ndarray, *, training: bool = False) -> View:
        """Return examples as the learner takes them in the present phase: cached features or raw."""
        data, seed = self.data, self.recipe.training.seed
        labels = data.labels_at(positions)
        if self.frozen is not None:
            return self.frozen.view(positions, labels, self.frozen.views if training else 1)
        store, modality = data.ingested.store, data.modality
        if not training:
            return StoreView(store, positions, modality, labels, seed=seed)
        classes = len(data.space.classes) or None
        return training_view(store, positions, modality, labels, self.augmentations, classes=classes, seed=seed)
