"""A detector on maps of several sizes.

A dense one of ours (a neck, convolutions, and at each place class scores and distances to a box's sides), or what the backbone brings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from torch import Tensor

from pretune.architectures.layers.dense import DenseHead, DenseOutputs, DenseShape
from pretune.architectures.layers.detector import DetectionTargets, LibraryDetector, LibraryLayers
from pretune.backbones import Backbone
from pretune.config import Within
from pretune.errors import SettingError
from pretune.labels import Outputs, Ragged
from pretune.modalities.image import Image
from pretune.models.dense.kept import kept
from pretune.models.heads._base import Head, HeadModule
from pretune.models.pyramid import Level, maps
from pretune.types import Features

_SLOTS = 4
"""Classes of a pretrained head that can stand for one of the data's."""


class DetectorModule(HeadModule):
    """Standardises each channel of each map, and detects."""

    layers: DenseHead

    def __init__(self, levels: Sequence[Level], shape: DenseShape, classes: int) -> None:
        super().__init__(sum(level.channels for level in levels), DenseHead(shape, classes))
        self.levels = tuple(levels)

    @torch.no_grad()
    def fit(self, features_ND: Tensor) -> None:
        """Take mean and deviation of each channel from pyramids (N, P) of the training set."""
        moments = [torch.std_mean(one.transpose(0, 1).flatten(1), 1) for one in maps(features_ND.float(), self.levels)]
        deviation, mean = (torch.cat([one[at] for one in moments]) for at in (0, 1))
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(deviation > 1e-6 * (1 + mean.abs()), 1 / deviation.clamp(min=1e-12), 0.0))

    def forward(self, features: Features) -> DenseOutputs:
        """Return what is at each point."""
        return self.layers(self.standardised(features.tensor))

    def standardised(self, pyramid_BP: Tensor) -> list[Tensor]:
        """Return the maps as the layers take them."""
        widths = [level.channels for level in self.levels]
        moments = zip(self.mean.split(widths), self.scale.split(widths), strict=True)
        pairs = zip(maps(pyramid_BP.float(), self.levels), moments, strict=True)
        return [(one - mean[:, None, None]) * scale[:, None, None] for one, (mean, scale) in pairs]

    def predict(self, features: Features) -> Outputs:
        """Return each image's boxes (K_i, 6): x1, y1, x2, y2 in pixels of the input, score, class."""
        level = self.levels[0]
        return kept(self(features), level.size * level.stride)


class LibraryDetectorModule(HeadModule):
    """The layers of another library's detector, on the maps of its backbone as they are.

    They compute in float32 whatever the precision of the backbone: a box is a difference of large numbers.
    """

    layers: LibraryDetector

    def __init__(self, levels: Sequence[Level], layers: LibraryDetector) -> None:
        super().__init__(1, layers)
        self.levels = tuple(levels)

    def fit(self, features_ND: Tensor) -> None:
        """Leave the features as they are."""

    def losses(self, features: Features, targets: Sequence[DetectionTargets]) -> dict[str, Tensor]:
        """Return the losses of a batch by name, which are to be added."""
        with torch.autocast(features.tensor.device.type, enabled=False):
            return self.layers.losses(maps(features.tensor.float(), self.levels), targets)

    def forward(self, features: Features) -> list[Tensor]:
        """Return each image's boxes (K_i, 6): x1, y1, x2, y2 in pixels of the input, score, class."""
        with torch.autocast(features.tensor.device.type, enabled=False):
            return self.layers.found(maps(features.tensor.float(), self.levels))

    def predict(self, features: Features) -> Outputs:
        """Return the same as one."""
        return Ragged.of([one.detach() for one in self(features)])


@dataclass(frozen=True, kw_only=True)
class Detector(Head):
    """A dense detection head; that of a pretrained detector keeps its own sizes."""

    width: Annotated[int | None, Within(8, 1024)] = None
    """Channels of neck and convolutions; auto is 128."""
    depth: Annotated[int | None, Within(0, 8)] = None
    """3x3 convolutions before the outputs; auto is 2."""

    def build(self, width: int, outputs: int) -> HeadModule:
        """Refuse features without places.

        Raises:
            SettingError: always.
        """
        raise SettingError("head=detector takes maps of several sizes, so it is for task=detection only. Leave head out.")

    def build_dense(self, levels: Sequence[Level], backbone: Backbone, outputs: int) -> HeadModule:
        """Return a new head.

        Args:
            levels: the maps that it takes.
            backbone: it keeps the sizes, or the layers, of the head that it was pretrained with.
            outputs: classes.

        Raises:
            SettingError: sizes are given for a pretrained head, which has its own.
        """
        own = backbone.detector
        if own is not None and (self.width is not None or self.depth is not None):
            raise SettingError("head.width and head.depth do not apply: the backbone brings a detection head with sizes of its own.")
        if isinstance(own, LibraryLayers):
            assert isinstance(backbone.modality, Image)
            return LibraryDetectorModule(levels, own.build(outputs, backbone.modality.size))
        if own is not None:
            return DetectorModule(levels, replace(own, slots=_SLOTS), outputs)
        shape = DenseShape(
            channels=tuple(level.channels for level in levels),
            strides=tuple(level.stride for level in levels),
            width=self.width or 128,
            depth=2 if self.depth is None else self.depth,
        )
        return DetectorModule(levels, shape, outputs)
