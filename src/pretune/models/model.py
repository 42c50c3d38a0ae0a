"""A model as ordered stages, so that what is frozen can be computed once and cached."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from pretune.backbones import Backbone
from pretune.errors import SettingError
from pretune.labels import Outputs, Ragged
from pretune.models.heads import Head, HeadModule
from pretune.models.pooling import LAYERS, NONE, POOLINGS, Collecting, Places, Pool, collected
from pretune.types import Features, Layout

INPUT, POOL, HEAD = "input", "pool", "head"


class Model(nn.Module):
    """[input] + the backbone's stages + [pool] + [head].

    `input` normalises the raw batch, so preprocessing is part of the model. The *boundary* is the number
    of leading stages without a trainable parameter: those run in eval mode always, their output can be
    computed once, and `forward(features, start=boundary)` goes on from it.
    """

    def __init__(self, backbone: Backbone, head: Head, outputs: int, pooling: str | None = None, layout: Layout = "pooled") -> None:
        """Put a head on a backbone.

        Args:
            backbone: its stages, in order.
            head: the kind of head.
            outputs: of the head.
            pooling: how a map or a sequence becomes one vector; None for the backbone's.
            layout: what the head takes: one vector an example (pooled), or the backbone's sequence or map as it is.

        Raises:
            SettingError: the backbone returns no such layout, or cannot be pooled so.
        """
        super().__init__()
        self.layout: Layout = layout
        self.pooling = kind = (pooling or backbone.pooling) if layout == "pooled" else NONE
        """How a map or a sequence becomes one vector."""
        if layout not in ("pooled", backbone.layout):
            raise SettingError(f"the head takes a {layout}, and {backbone.builder.id} returns features of the layout {backbone.layout}.")
        stages, factor = dict(backbone.stages.items()), 1 if backbone.layout == "pooled" else POOLINGS.get(kind, 1)
        if kind == LAYERS:
            if not backbone.layered:
                raise SettingError(f"pooling=layers needs a backbone of layers of one width, which {backbone.builder.id} is not.")
            taken = collected(list(stages))
            stages = {name: Collecting(stage) if name in taken else stage for name, stage in stages.items()}
            factor = len(taken)
        self.stages = nn.ModuleDict({INPUT: backbone.modality.normaliser(), **stages})
        self.stages[POOL] = Pool(kind) if layout == "pooled" else Places(layout)
        self.stages[HEAD] = head.build(backbone.width * factor, outputs)
        self.freeze_norms = False
        """True keeps every normalisation's running statistics, wherever it stands."""

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
        """Whether what the stage at the boundary takes can be kept: it exists, and is one tensor an item."""
        return self.boundary > 1 and (self.pooling != LAYERS or self.boundary > self.names.index(POOL))

    def forward(self, features: Features, start: int = 0) -> Tensor:
        """Return outputs (B, outputs) from the features that stage number `start` takes."""
        return self.head(self.before_head(features, start))

    def predict(self, features: Features, start: int = 0) -> Outputs:
        """Return outputs (B, outputs); of a sequence those of its real positions, ragged."""
        features = self.before_head(features, start)
        out = self.head(features)
        if self.layout != "sequence":
            return out
        mask = features.mask
        return Ragged.unpadded(out, out.new_ones(out.shape[:2], dtype=torch.bool) if mask is None else mask)

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
