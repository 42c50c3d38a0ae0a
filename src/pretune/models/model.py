"""A model as ordered stages, so that what is frozen can be computed once and cached."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from pretune.backbones import Backbone
from pretune.errors import SettingError
from pretune.labels import Outputs
from pretune.models.heads import Head, HeadModule
from pretune.models.pooling import NONE, OF_STAGES, POOLINGS, Collecting, Places, Pool, collected
from pretune.models.pyramid import Keeping, Level, Pyramid, levels_of
from pretune.types import Features, Layout

INPUT, POOL, HEAD = "input", "pool", "head"


class Model(nn.Module):
    """[input] + the backbone's stages + [pool] + [head].

    `input` normalises the raw batch, so preprocessing is part of the model. The *boundary* is the number
    of leading stages without a trainable parameter: those run in eval mode always, their output can be
    computed once, and `forward(features, start=boundary)` goes on from it.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: Head,
        outputs: int,
        pooling: str | None = None,
        layout: Layout = "pooled",
        width: int | None = None,
    ) -> None:
        """Put a head on a backbone.

        Args:
            backbone: its stages, in order.
            head: the kind of head.
            outputs: of the head.
            pooling: one of `POOLINGS` or `OF_STAGES`; None for the backbone's.
            layout: what the head takes: one vector an example (pooled), the backbone's sequence or map as it is, or the maps of several of
                its stages (pyramid).
            width: numbers the head takes; None where the backbone's width tells.

        Raises:
            SettingError: the backbone returns no such layout, or cannot be pooled so.
        """
        super().__init__()
        self.layout: Layout = layout
        self.pooling = (pooling or backbone.pooling) if layout == "pooled" else NONE
        """How a map or a sequence becomes one vector."""
        self.levels: tuple[Level, ...] = levels_of(backbone) if layout == "pyramid" else ()
        """The maps that a pyramid holds, the finest first."""
        if layout not in ("pooled", "pyramid", backbone.layout):
            raise SettingError(f"the head takes a {layout}, and {backbone.builder.id} returns features of the layout {backbone.layout}.")
        head = head.on(backbone)
        self._head, self._outputs = head, outputs
        stages = {INPUT: backbone.modality.normaliser(), **backbone.stages}
        self.stages = nn.ModuleDict(self._collecting(stages))
        self.stages[POOL] = Pyramid() if layout == "pyramid" else Pool(self.pooling) if layout == "pooled" else Places(layout)
        self.stages[HEAD] = (
            head.build_dense(self.levels, backbone, outputs)
            if layout == "pyramid"
            else head.build(width or _width(backbone, self.pooling), outputs)
        )
        self.freeze_norms = False
        """True keeps every normalisation's running statistics, wherever it stands."""

    def repool(self, pooling: str, width: int) -> None:
        """Take another pooling, and a new head for the `width` numbers that it gives."""
        device = self.head.mean.device
        plain = {name: stage.stage if isinstance(stage, Collecting) else stage for name, stage in self.stages.items()}
        self.pooling = pooling
        self.stages = nn.ModuleDict(self._collecting({name: stage for name, stage in plain.items() if name not in (POOL, HEAD)}))
        self.stages[POOL] = Pool(pooling)
        self.stages[HEAD] = self._head.build(width, self._outputs).to(device)

    def _collecting(self, stages: dict[str, nn.Module]) -> dict[str, nn.Module]:
        """Return the stages, those that the pooling or the pyramid takes wrapped."""
        if self.levels:
            kept = {level.stage for level in self.levels}
            return {name: Keeping(stage) if name in kept else stage for name, stage in stages.items()}
        if self.pooling not in OF_STAGES:
            return stages
        taken = set(collected([name for name in stages if name != INPUT], self.pooling))
        deviation = OF_STAGES[self.pooling].deviation
        return {name: Collecting(stage, deviation=deviation) if name in taken else stage for name, stage in stages.items()}

    @torch.no_grad()
    def widths(self, features: Features) -> dict[str, tuple[Layout, int]]:
        """Return layout and channels of the output of each of the backbone's stages, found by running them on a raw batch."""
        self.eval()
        found: dict[str, tuple[Layout, int]] = {}
        for name in [INPUT, *self.body]:
            features = self.stages[name](features)
            found[name] = features.layout, features.tensor.shape[1 if features.layout == "map" else -1]
        return {name: width for name, width in found.items() if name != INPUT}

    @property
    def head(self) -> HeadModule:
        """The last stage."""
        head = self.stages[HEAD]
        assert isinstance(head, HeadModule)
        return head

    @property
    def names(self) -> list[str]:
        """Names of all stages, in order."""
        return list(self.stages)

    @property
    def body(self) -> list[str]:
        """Names of the backbone's stages, in order: what strategies freeze, cut and scale."""
        return [name for name in self.stages if name not in (INPUT, POOL, HEAD)]

    @property
    def boundary(self) -> int:
        """Number of leading stages without a trainable parameter; recomputed at every call."""
        for position, stage in enumerate(self.stages.values()):
            if any(p.requires_grad for p in stage.parameters()):
                return position
        return len(self.stages) - 1  # nothing learns: everything but the head, which gives outputs and no features

    @property
    def cacheable(self) -> bool:
        """Whether what the stage at the boundary takes can be kept: it exists, and is one tensor an example."""
        several = self.pooling in OF_STAGES or self.layout == "pyramid"
        below = [module for stage in list(self.stages.values())[: self.boundary] for module in stage.modules()]
        owners = [module for module in below if next(module.parameters(recurse=False), None) is not None]
        if owners and all(isinstance(module, nn.Embedding) for module in owners):
            return False  # looking vectors up is quicker than reading them from a cache
        return self.boundary > 1 and (not several or self.boundary > self.names.index(POOL))

    def forward(self, features: Features, start: int = 0) -> Tensor:
        """Return outputs (B, outputs) from the features that stage number `start` takes."""
        return self.head(self.before_head(features, start))

    def predict(self, features: Features, start: int = 0) -> Outputs:
        """Return outputs (B, outputs); of a sequence those of its real positions, ragged; of a pyramid the boxes that are kept."""
        return self.head.predict(self.before_head(features, start))

    def before_head(self, features: Features, start: int = 0) -> Features:
        """Return what the head takes, from the features that stage number `start` takes."""
        for stage in list(self.stages.values())[start:-1]:
            features = stage(features)
        return features

    def train(self, mode: bool = True) -> Model:
        """Set training mode above the boundary only: frozen means frozen, norms and dropout included."""
        super().train(mode)
        if mode:
            for stage in list(self.stages.values())[: self.boundary]:
                stage.eval()
            if self.freeze_norms:
                for module in self.modules():
                    if isinstance(module, _NormBase):
                        module.eval()
        return self


def _width(backbone: Backbone, pooling: str) -> int:
    """Return the numbers that a pooling of a backbone's output gives."""
    if pooling not in OF_STAGES:
        return backbone.width * (1 if backbone.layout == "pooled" else POOLINGS.get(pooling, 1))
    if not backbone.layered:
        raise SettingError(f"pooling={pooling} needs a backbone of layers of one width, which {backbone.builder.id} is not.")
    each = 2 if OF_STAGES[pooling].deviation else 1
    return backbone.width * each * len(collected(list(backbone.stages), pooling))
