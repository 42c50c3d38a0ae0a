"""Convolution, norm and activation as one layer; a norm that does not learn costs nothing."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from pretune.kernels.convolution import norm_as_affine
from pretune.kernels.depthwise import Pair, depthwise_conv2d, shifted

Size = int | Pair


class SameConv2d(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow's 'same': where the padding is odd, the extra pixel goes right and below.

    It is built like nn.Conv2d, as adapters build more of what they find; `padding` and `bias` are not the caller's to choose.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: Size, stride: Size = 1, padding: Size = 0, *, groups: int = 1, bias: bool = False
    ) -> None:
        if bias or padding not in (0, (0, 0)):
            raise ValueError("a 'same' convolution computes its own padding and has no bias")
        super().__init__(inputs, outputs, kernel, stride, padding=0, groups=groups, bias=False)

    def reset_parameters(self) -> None:
        """Draw weights scaled by fan-out over groups."""
        fan_out = self.kernel_size[0] * self.kernel_size[1] * self.out_channels // self.groups
        nn.init.normal_(self.weight, 0.0, math.sqrt(2.0 / fan_out))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return (B, outputs, ceil(H / stride), ceil(W / stride))."""
        return self.convolve(x_BCHW, self.weight, None)

    def convolve(self, x_BCHW: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the same with another kernel and a bias."""
        padding, odd = self.padding_of(x_BCHW)
        if 1 < self.groups == self.in_channels == self.out_channels:
            return depthwise_conv2d(x_BCHW, weight, bias, self.stride[0], padding, odd)
        return F.conv2d(x_BCHW, shifted(weight, odd), bias, self.stride, padding, 1, self.groups)

    def padding_of(self, x_BCHW: Tensor) -> tuple[Pair, Pair]:
        """Return the padding below and right, and by how much it is smaller above and left."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        high, wide = (max(0, (math.ceil(size / stride) - 1) * stride + kernel - size) for size in x_BCHW.shape[2:])
        return (high - high // 2, wide - wide // 2), (high % 2, wide % 2)


class ConvNorm(nn.Sequential):
    """Convolution, batch norm and, unless `act` is False, relu6.

    While the norm is in eval mode (inference, and training with frozen norms) its scale is multiplied into the kernel
    at each call: one pass over the output less. Its own scale and shift still receive their gradients.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, *, stride: int = 1, groups: int = 1, act: bool = True) -> None:
        super().__init__()
        self.conv = SameConv2d(inputs, outputs, kernel, stride, groups=groups)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3)
        self.act = nn.ReLU6(inplace=True) if act else nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return (B, outputs, ceil(H / stride), ceil(W / stride))."""
        conv, norm = self.conv, self.norm
        if norm.training or not _is_plain(conv, SameConv2d) or not _is_plain(norm, nn.BatchNorm2d):
            return super().forward(x_BCHW)
        scale, shift = norm_as_affine(norm)
        return self.act(conv.convolve(x_BCHW, conv.weight * scale[:, None, None, None], shift))


def _is_plain(module: nn.Module, kind: type) -> bool:
    """Whether a module is what was built here: no adapter in its place, no hook that needs its output."""
    return type(module) is kind and not module._forward_hooks and not module._forward_pre_hooks
