"""EfficientNet-Lite as a backbone, and the names its published weights go by."""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor

from pretune import config
from pretune.architectures.efficientnet_lite import EfficientNetLite
from pretune.backbones._architectures import wrap
from pretune.backbones._base import Backbone, Classifier, load_matching
from pretune.backbones._imagenet import imagenet_classes
from pretune.backbones._states import read_state

_TOP = {
    "_conv_stem": "stages.stem.0.conv",
    "_bn0": "stages.stem.0.norm",
    "_conv_head": "stages.final.0.conv",
    "_bn1": "stages.final.0.norm",
    "_fc": "classifier",
}
_BLOCK = {
    "_expand_conv": "expand.conv",
    "_bn0": "expand.norm",
    "_depthwise_conv": "filter.conv",
    "_bn1": "filter.norm",
    "_project_conv": "project.conv",
    "_bn2": "project.norm",
}


def assemble(state: dict[str, Tensor] | None, origin: str, *, variant: int = 0) -> Backbone:
    """Return EfficientNet-Lite, its weights and ImageNet classifier from `state` where there is one.

    Args:
        state: tensors as `read_lite` returns them; None for randomly initialised weights.
        origin: where they come from, for messages.
        variant: 0 to 4.
    """
    sizes = config.build(EfficientNetLite, {"variant": variant, "classes": 1000})
    network = sizes.build()
    if state is None:
        return wrap(sizes, network)
    blocks = [
        f"stages.{name}.{i}" for name, stage in network.stages.items() if name.startswith("stage") for i, _ in enumerate(stage.children())
    ]
    renamed = {_renamed(name, blocks): tensor for name, tensor in state.items()}
    report = load_matching(network, renamed, source=origin)
    assert network.classifier is not None, "1000 classes were asked for"
    return wrap(sizes, network, classifier=Classifier(layer=network.classifier, classes=imagenet_classes), report=report)


def read_lite(shards: tuple[Path, ...]) -> dict[str, Tensor]:
    """Return the tensors of a published file, under their published names."""
    return read_state(shards[0]).tensors


def _renamed(name: str, blocks: list[str]) -> str:
    """Return our name of a tensor: '_blocks.3._bn1.bias' becomes 'stages.stage3.0.layers.filter.norm.bias'."""
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(.+)", name)
    if block and int(block[1]) < len(blocks) and block[2] in _BLOCK:
        return f"{blocks[int(block[1])]}.layers.{_BLOCK[block[2]]}.{block[3]}"
    first, _, rest = name.partition(".")
    return f"{_TOP[first]}.{rest}" if first in _TOP else name
