"""Inference copies: batch norms multiplied into kernels, activations done inside the convolution.

Images a second of one core with AMX, EfficientNet-Lite0, 224 px, 32 a batch, beside timm's own network channels last:
in bfloat16 179 instead of 83 (torch.jit.freeze: 99), in float32 75 instead of 46 (58).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from pretune.architectures._base import MapStage
from pretune.architectures.layers.conv import ConvNorm, SameConv2d
from pretune.kernels.convolution import FUSABLE, conv2d_act, norm_as_affine
from pretune.kernels.depthwise import Pair, shifted

_BLOCKS = {
    "torchvision.models.resnet.BasicBlock",
    "torchvision.models.resnet.Bottleneck",
    "timm.models.resnet.BasicBlock",
    "timm.models.resnet.Bottleneck",
}
"""Blocks whose conv1, conv2 … are each followed by their bn1, bn2 …, whatever else they do."""
_PLAIN = {nn.Sequential.forward, ConvNorm.forward, MapStage.forward}
"""Forwards that run the children one after the other."""


class FusedConv2d(nn.Module):
    """A convolution with a bias and an activation in one pass; no gradient."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d | None, act: nn.Module | None) -> None:
        super().__init__()
        weight, bias = conv.weight.detach(), None if conv.bias is None else conv.bias.detach()
        if norm is not None:
            scale, shift = (value.detach() for value in norm_as_affine(norm))
            weight, bias = weight * scale[:, None, None, None], shift if bias is None else shift + bias * scale
        self.register_buffer("weight", weight.contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", bias)
        self.act = act or nn.Identity()
        self.stride, self.dilation, self.groups = conv.stride, conv.dilation, conv.groups
        self.padding = _padding(conv)
        self.same = conv if isinstance(conv, SameConv2d) else None

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the activated convolution."""
        x_BCHW, weight = x_BCHW.to(self.weight.dtype), self.weight
        padding, odd = self.same.padding_of(x_BCHW) if self.same is not None else (self.padding, (0, 0))
        if any(odd):
            weight = shifted(weight, odd).contiguous(memory_format=torch.channels_last)
        geometry: Any = {"stride": self.stride, "padding": padding, "dilation": self.dilation, "groups": self.groups}
        return conv2d_act(x_BCHW, weight, self.bias, self.act, **geometry)


def _padding(conv: nn.Conv2d) -> Pair:
    assert not isinstance(conv.padding, str)
    return (conv.padding[0], conv.padding[1])


def fold(module: nn.Module) -> nn.Module:
    """Return the module with every convolution, norm and activation that follow one another made one; changes it."""
    kind = type(module)
    if kind.forward in _PLAIN:
        layers = list(module.named_children())
        folded = [(name, fold(layer)) for name, layer in _joined(layers)]
        if len(folded) < len(layers):
            return _in_row(kind, folded)
    if f"{kind.__module__}.{kind.__qualname__}" in _BLOCKS:
        _fold_numbered(module)
    for name, child in module.named_children():
        setattr(module, name, fold(child))
    return module


def _in_row(kind: type[nn.Module], layers: list[tuple[str, nn.Module]]) -> nn.Module:
    if kind is ConvNorm:
        return layers[0][1]
    row = MapStage() if kind is MapStage else nn.Sequential()
    for name, layer in layers:
        row.add_module(name, layer)
    return row


def _joined(layers: list[tuple[str, nn.Module]]) -> Iterator[tuple[str, nn.Module]]:
    """Yield layers in order, a convolution together with the norm and the activation right after it."""
    position = 0
    while position < len(layers):
        name, layer = layers[position]
        position += 1
        if not isinstance(layer, nn.Conv2d) or not _foldable(layer):
            yield name, layer
            continue
        following = [other for _, other in layers[position : position + 2]]
        norm = _norm_of(layer, following[0]) if following else None
        act = next((other for other in following[norm is not None :][:1] if type(other) in FUSABLE), None)
        position += (norm is not None) + (act is not None)
        yield name, FusedConv2d(layer, norm, act)


def _fold_numbered(block: nn.Module) -> None:
    for number in "123":
        conv, follower = getattr(block, f"conv{number}", None), getattr(block, f"bn{number}", None)
        if not isinstance(conv, nn.Conv2d) or not _foldable(conv) or follower is None:
            continue
        norm = _norm_of(conv, follower)
        if norm is not None:
            setattr(block, f"conv{number}", FusedConv2d(conv, norm, None))
            setattr(block, f"bn{number}", nn.Identity())


def _foldable(conv: nn.Conv2d) -> bool:
    plain = type(conv).__module__.startswith(("torch.", "pretune."))
    return plain and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)


def _norm_of(conv: nn.Conv2d, follower: nn.Module) -> nn.BatchNorm2d | None:
    """Return what follows a convolution if it is a plain batch norm of its output."""
    if type(follower) is not nn.BatchNorm2d or follower.running_mean is None or follower.num_features != conv.out_channels:
        return None
    return follower
