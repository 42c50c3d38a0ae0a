"""Where torchvision's classification networks are cut, family by family.

A stage is the stem, each residual stage or group of blocks between two changes of resolution or width, and what
follows them; of a ViT each block. Whatever stands between pooling and the last linear layer belongs to a
last stage whose output is pooled, so that `classifier` is linear and a head on the features sees all of the network.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pretune.backbones._cut import Cut, Permute, Stage, after_each, channels_first, numbered, row


def cut(network: nn.Module) -> Cut:
    """Return the stages of a torchvision classification network; they share its modules."""
    family = type(network).__module__.rpartition(".")[2]
    return _FAMILIES[family](network)


def _alexnet(network: Any) -> Cut:
    blocks = after_each(network.features, nn.MaxPool2d)
    *hidden, last = network.classifier
    return _pooled([*numbered("block", blocks)], "fc", row(network.avgpool, nn.Flatten(1), *hidden), last)


def _vgg(network: Any) -> Cut:
    blocks = after_each(network.features, nn.MaxPool2d)
    first, second = network.classifier[:3], network.classifier[3:6]
    stages: list[Stage] = [*numbered("block", blocks), ("fc1", row(network.avgpool, nn.Flatten(1), *first), "pooled")]
    return Cut(stages=(*stages, ("fc2", second, "pooled")), width=network.classifier[6].in_features, classifier=network.classifier[6])


def _resnet(network: Any) -> Cut:
    stem = row(network.conv1, network.bn1, network.relu, network.maxpool)
    layers = [network.layer1, network.layer2, network.layer3, network.layer4]
    return _mapped([("stem", stem, "map"), *numbered("layer", layers)], network.fc)


def _densenet(network: Any) -> Cut:
    layers = dict(network.features.named_children())
    stem = row(layers["conv0"], layers["norm0"], layers["relu0"], layers["pool0"])
    blocks = [row(layers[f"denseblock{i}"], layers[f"transition{i}"]) for i in (1, 2, 3)]
    last = row(layers["denseblock4"], layers["norm5"], nn.ReLU(inplace=True))
    return _mapped([("stem", stem, "map"), *numbered("block", [*blocks, last])], network.classifier)


def _googlenet(network: Any) -> Cut:
    n = network
    stem = row(Recoloured(n.transform_input), n.conv1, n.maxpool1, n.conv2, n.conv3, n.maxpool2)
    third = row(n.inception3a, n.inception3b, n.maxpool3)
    fourth = row(n.inception4a, n.inception4b, n.inception4c, n.inception4d, n.inception4e, n.maxpool4)
    fifth = row(n.inception5a, n.inception5b)
    return _mapped([("stem", stem, "map"), ("inception3", third, "map"), ("inception4", fourth, "map"), ("inception5", fifth, "map")], n.fc)


def _inception(network: Any) -> Cut:
    n = network
    first = (n.Conv2d_1a_3x3, n.Conv2d_2a_3x3, n.Conv2d_2b_3x3, n.maxpool1, n.Conv2d_3b_1x1, n.Conv2d_4a_3x3, n.maxpool2)
    fifth = row(n.Mixed_5b, n.Mixed_5c, n.Mixed_5d)
    sixth = row(n.Mixed_6a, n.Mixed_6b, n.Mixed_6c, n.Mixed_6d, n.Mixed_6e)
    seventh = row(n.Mixed_7a, n.Mixed_7b, n.Mixed_7c)
    stem = row(Recoloured(n.transform_input), *first)
    return _mapped([("stem", stem, "map"), ("mixed5", fifth, "map"), ("mixed6", sixth, "map"), ("mixed7", seventh, "map")], n.fc)


def _squeezenet(network: Any) -> Cut:
    """Its classifier is a convolution before pooling, which is not of the form pooled -> logits: it is left out."""
    blocks = after_each(network.features, nn.MaxPool2d)
    return Cut(stages=tuple(numbered("block", blocks)), width=512)


def _mobilenet_v2(network: Any) -> Cut:
    stem, *blocks, final = network.features
    stages = numbered("stage", _grouped(blocks))
    return _mapped([("stem", stem, "map"), *stages, ("final", final, "map")], network.classifier[1])


def _mobilenet_v3(network: Any) -> Cut:
    stem, *blocks, final = network.features
    stages: list[Stage] = [("stem", stem, "map"), *numbered("stage", _grouped(blocks)), ("final", final, "map")]
    *hidden, last = network.classifier
    return _pooled(stages, "fc", row(network.avgpool, nn.Flatten(1), *hidden), last)


def _grouped(blocks: list[Any]) -> list[nn.Sequential]:
    return [row(*group) for _, group in itertools.groupby(blocks, key=lambda block: block.out_channels)]


def _shufflenet(network: Any) -> Cut:
    stages: list[Stage] = [("stage2", network.stage2, "map"), ("stage3", network.stage3, "map"), ("stage4", network.stage4, "map")]
    return _mapped([("stem", row(network.conv1, network.maxpool), "map"), *stages, ("final", network.conv5, "map")], network.fc)


def _mnasnet(network: Any) -> Cut:
    layers = list(network.layers)
    stages = numbered("stage", layers[8:14])
    return _mapped([("stem", row(*layers[:8]), "map"), *stages, ("final", row(*layers[14:]), "map")], network.classifier[1])


def _efficientnet(network: Any) -> Cut:
    stem, *stages, final = network.features
    return _mapped([("stem", stem, "map"), *numbered("stage", stages), ("final", final, "map")], network.classifier[-1])


def _convnext(network: Any) -> Cut:
    stem, *rest = network.features
    norm, flatten, last = network.classifier
    return _pooled([("stem", stem, "map"), *numbered("stage", _downsampled(rest))], "norm", row(network.avgpool, norm, flatten), last)


def _downsampled(layers: list[nn.Module]) -> list[nn.Module]:
    """Return the first stage, then each reduction of resolution together with the stage after it."""
    return [layers[0], *(row(down, stage) for down, stage in zip(layers[1::2], layers[2::2], strict=True))]


def _regnet(network: Any) -> Cut:
    return _mapped([("stem", network.stem, "map"), *numbered("block", network.trunk_output)], network.fc)


def _vit(network: Any) -> Cut:
    encoder = network.encoder
    embed = Embedded(network.conv_proj, network.class_token, encoder.pos_embedding, encoder.dropout)
    stages: list[Stage] = [("embed", embed, "sequence"), *numbered("block", encoder.layers, "sequence"), ("norm", encoder.ln, "sequence")]
    last = network.heads[-1]
    if len(network.heads) > 1:
        return _pooled(stages, "fc", row(First(), *network.heads[:-1]), last)
    return Cut(stages=tuple(stages), width=last.in_features, pooling="first", classifier=last)


def _swin(network: Any) -> Cut:
    stem, *rest = network.features
    stages = [channels_first(stage) for stage in _downsampled(rest)]
    embed, norm = row(stem, Permute(0, 3, 1, 2)), channels_first(network.norm)
    return _mapped([("stem", embed, "map"), *numbered("stage", stages), ("norm", norm, "map")], network.head)


def _maxvit(network: Any) -> Cut:
    *hidden, last = network.classifier
    return _pooled([("stem", network.stem, "map"), *numbered("block", network.blocks)], "fc", row(*hidden), last)


def _mapped(stages: list[Stage], last: nn.Linear) -> Cut:
    return Cut(stages=tuple(stages), width=last.in_features, classifier=last)


def _pooled(stages: list[Stage], name: str, module: nn.Module, last: nn.Linear) -> Cut:
    return Cut(stages=(*stages, (name, module, "pooled")), width=last.in_features, classifier=last)


class Recoloured(nn.Module):
    """From ImageNet's mean and deviation to -1..1, which GoogLeNet and Inception were trained on."""

    def __init__(self, active: bool) -> None:
        super().__init__()
        self.active = active

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return (B, 3, H, W)."""
        if not self.active:
            return x_BCHW
        scale, shift = (torch.tensor(v, dtype=x_BCHW.dtype, device=x_BCHW.device).view(1, 3, 1, 1) for v in (_SCALE, _SHIFT))
        return x_BCHW * scale + shift


_SCALE = (0.229 / 0.5, 0.224 / 0.5, 0.225 / 0.5)
_SHIFT = ((0.485 - 0.5) / 0.5, (0.456 - 0.5) / 0.5, (0.406 - 0.5) / 0.5)


class Embedded(nn.Module):
    """Patches, a class token in front, positions added."""

    def __init__(self, patches: nn.Module, token: nn.Parameter, positions: nn.Parameter, dropout: nn.Module) -> None:
        super().__init__()
        self.patches, self.token, self.positions, self.dropout = patches, token, positions, dropout

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return tokens (B, 1 + H·W / patch², D)."""
        x_BTD = self.patches(x_BCHW).flatten(2).transpose(1, 2)
        x_BTD = torch.cat([self.token.to(x_BTD.dtype).expand(len(x_BTD), -1, -1), x_BTD], 1)
        return self.dropout(x_BTD + self.positions)


class First(nn.Module):
    """The first token."""

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Return (B, D)."""
        return x_BTD[:, 0]


_FAMILIES: dict[str, Callable[[Any], Cut]] = {
    "alexnet": _alexnet,
    "vgg": _vgg,
    "resnet": _resnet,
    "densenet": _densenet,
    "googlenet": _googlenet,
    "inception": _inception,
    "squeezenet": _squeezenet,
    "mobilenetv2": _mobilenet_v2,
    "mobilenetv3": _mobilenet_v3,
    "shufflenetv2": _shufflenet,
    "mnasnet": _mnasnet,
    "efficientnet": _efficientnet,
    "convnext": _convnext,
    "regnet": _regnet,
    "vision_transformer": _vit,
    "swin_transformer": _swin,
    "maxvit": _maxvit,
}
"""Module of torchvision.models -> how its networks are cut."""
