"""EfficientNet-Lite: mobile image networks of relu6 and plain convolutions, 4.7 to 13 M parameters.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (2019), in the
variant without squeeze-and-excitation of github.com/tensorflow/tpu (efficientnet/lite). Weights that were
trained there expect TensorFlow's 'same' padding and a batch norm epsilon of 1e-3; both are kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from pretune.architectures._base import Architecture, MapStage, Network
from pretune.architectures.layers.conv import ConvNorm
from pretune.types import Features, Layout

_SCALING = {
    0: (1.0, 1.0, 224, 0.875),
    1: (1.0, 1.1, 240, 0.882),
    2: (1.1, 1.2, 260, 0.89),
    3: (1.2, 1.4, 300, 0.904),
    4: (1.4, 1.8, 380, 0.92),
}
"""Variant -> width factor, depth factor, image size in pixels, share of the resized image that is cropped."""
_STAGES = ((1, 16, 1, 3, 1), (6, 24, 2, 3, 2), (6, 40, 2, 5, 2), (6, 80, 3, 3, 2), (6, 112, 3, 5, 1), (6, 192, 4, 5, 2), (6, 320, 1, 3, 1))
"""Expansion, channels, repeats, kernel, stride of each stage at scale 1."""
_STEM, _HEAD = 32, 1280


@dataclass(frozen=True, kw_only=True)
class EfficientNetLite(Architecture):
    """An EfficientNet-Lite of one of the five published sizes."""

    modality: ClassVar[str] = "image"
    variant: Literal[0, 1, 2, 3, 4] = 0
    """The size: 0 has 4.7 M parameters and takes 224 px, 4 has 13 M and takes 380 px."""
    classes: int = 0
    """Outputs of the classifier; 0 builds none."""

    def preprocessing(self) -> dict[str, Any]:
        """Return the image settings the published weights were trained with."""
        size, crop = _SCALING[self.variant][2:]
        half = (0.5, 0.5, 0.5)
        return {"size": size, "resize": math.floor(size / crop), "mean": half, "std": half, "interpolation": "bicubic"}

    def build(self) -> EfficientNetLiteNetwork:
        """Return the network with randomly initialised weights."""
        return EfficientNetLiteNetwork(*_SCALING[self.variant][:2], classes=self.classes)


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; the input is added where shapes allow."""

    def __init__(self, inputs: int, outputs: int, *, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        middle = inputs * expansion
        self.layers = nn.Sequential()
        if expansion > 1:
            self.layers.add_module("expand", ConvNorm(inputs, middle))
        self.layers.add_module("filter", ConvNorm(middle, middle, kernel, stride=stride, groups=middle))
        self.layers.add_module("project", ConvNorm(middle, outputs, act=False))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the block's output, (B, outputs, H / stride, W / stride)."""
        y_BCHW = self.layers(x_BCHW)
        return y_BCHW + x_BCHW if self.residual else y_BCHW


class EfficientNetLiteNetwork(Network):
    """Stem, seven stages and a final 1x1 convolution, as ordered `stages`; then mean pooling and a classifier."""

    layout: Layout = "map"
    width: int = _HEAD

    def __init__(self, width_factor: float, depth_factor: float, *, classes: int = 0) -> None:
        super().__init__()
        self.stages = nn.ModuleDict({"stem": MapStage(ConvNorm(3, _STEM, 3, stride=2))})
        inputs = _STEM
        for position, (expansion, channels, repeats, kernel, stride) in enumerate(_STAGES):
            outputs = _round_channels(channels * width_factor)
            fixed = position in (0, len(_STAGES) - 1)
            count = repeats if fixed else math.ceil(repeats * depth_factor)
            self.stages[f"stage{position + 1}"] = _stage(inputs, outputs, count, expansion, kernel, stride)
            inputs = outputs
        self.stages["final"] = MapStage(ConvNorm(inputs, _HEAD))
        self.classifier = nn.Linear(_HEAD, classes) if classes else None

    def logits(self, x_BCHW: Tensor) -> Tensor:
        """Return logits (B, classes), or mean-pooled features (B, 1280) where there is no classifier."""
        pooled_BD = self(Features(tensor=x_BCHW, layout="map")).tensor.mean((2, 3))
        return self.classifier(pooled_BD) if self.classifier is not None else pooled_BD


def _stage(inputs: int, outputs: int, count: int, expansion: int, kernel: int, stride: int) -> MapStage:
    first = InvertedResidual(inputs, outputs, expansion=expansion, kernel=kernel, stride=stride)
    rest = [InvertedResidual(outputs, outputs, expansion=expansion, kernel=kernel, stride=1) for _ in range(count - 1)]
    return MapStage(first, *rest)


def _round_channels(channels: float, divisor: int = 8) -> int:
    """Return the nearest multiple of `divisor` that loses no more than a tenth."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded
