"""What an objective must do: build the Learner that pretrains a backbone, and say what healthy training looks like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from pretune.backbones import Backbone
from pretune.errors import SettingError
from pretune.models.learner import Learner
from pretune.objectives._sampling import Sample, Wanted
from pretune.registry import Component
from pretune.types import Batch, ParamGroup


@dataclass(frozen=True, kw_only=True)
class Suggested:
    """What an objective suggests for a modality where the person sets nothing."""

    backbone: str
    """Id of a network with randomly initialised weights."""
    lr: float
    batch_size: int
    epochs: int
    width: int | None = None
    """Channels of the network that `lr` was measured with; other untrained networks take lr * sqrt(width / theirs), as orthogonal and
    AdamW's steps of one size move wider layers further (G. Yang et al., "A Spectral Condition for Feature Learning", 2023)."""
    weight_decay: float = 0.1
    optim: str = "adamw"
    augment: str = "none"
    """Name of an augmentation preset."""

    def rate(self, backbone: Backbone) -> float:
        """Return the learning rate for a network: scaled by its width where it is new."""
        if self.width is None or not backbone.builder.id.startswith("scratch:"):
            return self.lr
        return self.lr * (self.width / backbone.width) ** 0.5

    continued_lr: float = 1e-4
    """AdamW's, where training goes on from weights that are there: new ones can be moved much faster than these may be."""
    continued_heads: float = 1.0
    """Multiplies it for what the objective adds to the network, which is new and, at so careful a rate, would learn next to nothing."""
    continued_batch_size: int | None = None
    """There; auto is `batch_size`. Networks with weights are larger than new ones."""

    def for_weights(self) -> Suggested:
        """Return what is suggested where the network comes with its weights."""
        return replace(self, lr=self.continued_lr, optim="adamw", batch_size=self.continued_batch_size or self.batch_size)


class PretextLearner(Learner):
    """A backbone and what the objective needs beside it, all of it in modules and buffers.

    In eval mode `forward` also logs what shows collapse: rank and variance of features, use of a codebook.
    """

    phases: ClassVar[tuple[str, ...]] = ("pretrain",)
    """What happens one after the other, e.g. an autoencoder, then a prior over its codes."""
    pace: float = 1.0
    """Multiplies the learning rate of all that is not the backbone; the runner sets it."""
    generates: ClassVar[bool] = False
    """Whether it makes something new: `generate`."""
    fills_in: ClassVar[bool] = False
    """Whether it fills in what is hidden of held-out examples: `reconstructions`, which are shown instead of something new."""
    heads: ClassVar[tuple[str, ...]] = ("head",)
    """Name prefixes of what only the pretext task needs and Muon must not touch: it ends in outputs."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def begin(self, phase: str) -> None:
        """Set what learns in a phase; all of it by default."""
        self.requires_grad_(True)

    def predict(self, batch: Batch) -> Tensor:
        """Return the backbone's features of a raw batch."""
        normaliser = self.backbone.modality.normaliser().to(batch.inputs.tensor.device)
        return self.backbone(normaliser(batch.inputs)).tensor

    def generate(self, wanted: Wanted) -> list[Sample]:
        """Return what is made of a request; the same for the same request."""
        raise TypeError(f"{type(self).__name__} must define generate(wanted) -> [Sample], as it generates")

    def reconstructions(self, batch: Batch) -> list[tuple[str, list[Any]]]:
        """Return rows of what is seen, hidden and filled in of a few raw examples: (heading, images or texts)."""
        raise TypeError(f"{type(self).__name__} must define reconstructions(batch), as it fills in")

    def groups(self) -> tuple[ParamGroup, ...]:
        """Return the parameters that learn: hidden matrices, other matrices and tables, and vectors, which do not decay."""
        hidden = {
            id(module.weight)
            for name, module in self.named_modules()
            if isinstance(module, nn.Linear | _ConvNd) and not name.startswith(self.heads)
        }
        tables = {id(module.weight) for module in self.modules() if isinstance(module, nn.Embedding)}
        params = [(name, p) for name, p in self.named_parameters() if p.requires_grad]
        matrices = [(n, p) for n, p in params if id(p) in hidden and id(p) not in tables]
        vectors = [(n, p) for n, p in params if p.ndim <= 1]
        taken = {id(p) for _, p in matrices + vectors}
        others = [(n, p) for n, p in params if id(p) not in taken]
        made = (
            ParamGroup(name="hidden", params=tuple(matrices), hidden=True),
            ParamGroup(name="tables and heads", params=tuple(others)),
            ParamGroup(name="vectors", params=tuple(vectors), decay=False),
        )
        paced = made if self.pace == 1 else [part for group in made for part in self._split(group)]
        return tuple(group for group in paced if group.params)

    def _split(self, group: ParamGroup) -> tuple[ParamGroup, ParamGroup]:
        """Return a group's parameters of the backbone, and the others at their own pace."""
        own = tuple((name, p) for name, p in group if name.startswith("backbone."))
        beside = tuple((name, p) for name, p in group if not name.startswith("backbone."))
        return replace(group, params=own), replace(group, name=f"{group.name}, fresh", params=beside, lr_scale=self.pace)

    def verdict(self, metrics: dict[str, float], floors: dict[str, float]) -> list[str]:
        """Return sentences on what the last evaluation shows: collapse, a floor that was not cleared; usually none."""
        return []


@dataclass(frozen=True, kw_only=True)
class Objective(Component):
    """What is learned without labels; members are frozen keyword-only dataclasses named like their file.

    Required are `suggested` and `learner`, and `block` of one that `streams`.
    """

    suggested: ClassVar[Mapping[str, Suggested]]
    """By the public name of a modality; the objective serves no others."""
    views: ClassVar[int] = 1
    """How many augmented views of an example a batch holds, stacked behind the items: (B, V, …)."""
    requires_targets: ClassVar[bool] = False
    """Whether labels are learned from, or conditioned on, where the data have them."""
    streams: ClassVar[bool] = False
    """Whether texts are learned from as one stream of tokens that `block` cuts; else each text is an example."""
    verbatim: ClassVar[bool] = True
    """Of texts: whether it writes them, so that every token is predicted and a tokenizer that is made here keeps all of a text."""

    def learner(self, backbone: Backbone) -> PretextLearner:
        """Return what the loop trains.

        Raises:
            SettingError: the objective does not fit this network, and why.
        """
        raise TypeError(f"{type(self).__name__} must define learner(backbone) -> PretextLearner")

    def check(self, backbone: Backbone) -> None:
        """Raise a SettingError, before any data are read, where a network does not suit; all do by default."""

    def fitted(self, backbone: Backbone) -> Backbone:
        """Return the network, over another tokenizer where the objective changes how it reads texts, before any are tokenized."""
        return backbone

    def block(self, text: Any) -> tuple[int, int]:
        """Return how many ids a block of a stream of tokens has, and how many lie between the beginnings of two blocks."""
        raise TypeError(f"{type(self).__name__} must define block(text) -> (length, stride), as it streams")


def suggestion(objective: Objective, name: str, modality: str) -> Suggested:
    """Return what an objective suggests for a modality.

    Raises:
        SettingError: it does not serve it.
    """
    if modality not in objective.suggested:
        raise SettingError(f"objective={name} is for {', '.join(objective.suggested)}, not for {modality}.")
    return objective.suggested[modality]
