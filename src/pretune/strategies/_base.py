"""What a strategy must do, and how parameters become groups."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn
from torch.nn.modules.conv import _ConvNd

from pretune import registry
from pretune.registry import Component
from pretune.types import NotUsed, ParamGroup

if TYPE_CHECKING:
    from torch import Tensor

    from pretune.backbones import Backbone
    from pretune.models.model import Model
    from pretune.tasks import Space


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A span of training in which the frozen boundary does not move."""

    name: str
    open: int | None
    """How many of the backbone's last stages learn; None for all, 0 for the head only."""
    share: float
    """This phase's share of the epochs; phases of cached features have epochs of their own."""
    epochs: int | None = None
    """Epochs of its own, outside the share."""
    lr_scale: float = 1.0
    """Multiplies the run's learning rate."""
    lr: float | None = None
    """A learning rate of its own."""


PROBE = Phase(name="probe", open=0, share=0.0, epochs=30, lr=1e-3)
"""A probe on cached features before the backbone moves.

Kumar et al. 2022, "Fine-Tuning can Distort Pretrained Features": a head with a direction sends the backbone small,
meaningful gradients where a random one distorts what was learned.
"""


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What a strategy suggests where the person sets nothing."""

    lr: float
    epochs: int
    weight_decay: float
    augment: str
    """Name of an augmentation preset."""
    optim: str = "adamw"
    """Optimizer that `lr` is for."""
    least_steps: int = 0
    """Steps below which nothing much is learned: few examples get more epochs."""

    def epochs_over(self, steps: int) -> int:
        """Return the epochs, where each has so many steps."""
        return max(self.epochs, math.ceil(self.least_steps / max(1, steps)))


def suggested(strategy: Strategy, modality: str, others: Mapping[str, Any] = MappingProxyType({})) -> Defaults:
    """Return a strategy's defaults: those of its `by_modality` where it names this one, else its `defaults`; a task has others."""
    return replace(strategy.by_modality.get(modality, strategy.defaults), **others)


TRAINING = (
    *("time", "epochs", "batch_size", "micro_batch", "lr", "weight_decay", "clip", "ema", "patience", "label_smoothing", "class_weights"),
    *("optim", "schedule", "augment", "augmentations", "views", "head", "keep"),
)
"""Settings of a recipe that only training reads."""


def unread(strategy: Strategy) -> dict[str, NotUsed]:
    """Return the settings, as they are written from the recipe, that nothing reads under a strategy."""
    name = registry.name_of(strategy)
    out = {f"strategy.{key}": why for key, why in strategy.unread().items()}
    if not strategy.trains:
        out |= dict.fromkeys(TRAINING, NotUsed(f"strategy={name}, which trains nothing", "choose another strategy"))
    return out


@dataclass(frozen=True, kw_only=True)
class Strategy(Component):
    """How a pretrained model is used; members are frozen keyword-only dataclasses named like their file.

    Required are `defaults`, `phases` and `apply`; `solve` too where nothing is trained.
    """

    defaults: ClassVar[Defaults]
    by_modality: ClassVar[Mapping[str, Defaults]] = {}
    """Defaults for modalities that need others, by name."""
    trains: ClassVar[bool] = True
    """False where there is nothing to descend: the head is computed, not trained."""
    from_scratch: ClassVar[bool] = False
    """Whether the network starts from randomly initialised weights."""

    def phases(self, stages: int) -> tuple[Phase, ...]:
        """Return the phases for a backbone of so many stages."""
        raise TypeError(f"{type(self).__name__} must define phases(stages) -> (Phase, ...)")

    def unread(self) -> dict[str, NotUsed]:
        """Return those of its own settings that it does not read under the others."""
        return {}

    def learns(self, stage: nn.Module) -> bool:
        """Return whether something would learn in a stage that is open."""
        return any(True for _ in stage.parameters())

    def prepare(self, model: Model) -> None:
        """Change the network once, before weights are read or trained (adapters); usually nothing."""

    def finish(self, model: Model) -> None:
        """Undo what `prepare` did to the structure, keeping what was learned; usually nothing."""

    def solve(self, model: Model, backbone: Backbone, features_ND: Tensor, encoded: Tensor, space: Space) -> str:
        """Compute the head where nothing is trained (`trains` is False), and return a sentence on how."""
        raise TypeError(f"{type(self).__name__} must define solve(…), as it trains nothing")

    def apply(self, model: Model, phase: Phase) -> tuple[ParamGroup, ...]:
        """Set what learns in this phase and return it in groups."""
        raise TypeError(f"{type(self).__name__} must define apply(model, phase) -> (ParamGroup, ...)")


def open_last(model: Model, count: int | None) -> list[str]:
    """Let the last `count` backbone stages (None: all) and the head learn; return the open stages' names."""
    model.requires_grad_(False)
    body = model.body
    names = body if count is None else body[len(body) - count :] if count else []
    for name in names:
        model.stages[name].requires_grad_(True)
    model.head.requires_grad_(True)
    return names


def groups(name: str, module: nn.Module, prefix: str, lr_scale: float = 1.0, *, hidden: bool = False) -> list[ParamGroup]:
    """Return the trainable parameters of a module as groups that decay and one that does not.

    With `hidden`, the matrices of linear layers and convolutions are a group of their own, which Muon makes orthogonal;
    a head is not hidden, unless it has layers of its own.

    Biases and one-dimensional parameters (norm scales) are not decayed, as is usual since He et al. 2019
    ("Bag of Tricks for Image Classification").
    """
    params = [(f"{prefix}.{k}", p) for k, p in module.named_parameters() if p.requires_grad]
    matrices = {id(m.weight) for m in module.modules() if isinstance(m, nn.Linear | _ConvNd)} if hidden else set()
    between = tuple(item for item in params if id(item[1]) in matrices)
    decayed = tuple(item for item in params if item[1].ndim > 1 and id(item[1]) not in matrices)
    plain = tuple(item for item in params if item[1].ndim <= 1)
    made = (
        ParamGroup(name=name, params=between, lr_scale=lr_scale, hidden=True),
        ParamGroup(name=f"{name} (tables)" if between else name, params=decayed, lr_scale=lr_scale),
        ParamGroup(name=f"{name} (no decay)", params=plain, lr_scale=lr_scale, decay=False),
    )
    return [group for group in made if group.params]


def staged_groups(model: Model, names: Iterable[str], decay: float, head_scale: float) -> tuple[ParamGroup, ...]:
    """Return groups with the learning rate multiplied by `decay` a stage towards the input.

    Discriminative learning rates: Howard & Ruder 2018 (ULMFiT), layer-wise decay: Clark et al. 2020.
    """
    names = list(names)
    out: list[ParamGroup] = []
    for depth, name in enumerate(reversed(names)):
        out += groups(name, model.stages[name], f"stages.{name}", decay**depth, hidden=True)
    return (*out, *groups("head", model.head, "stages.head", head_scale, hidden=model.head.layered))
