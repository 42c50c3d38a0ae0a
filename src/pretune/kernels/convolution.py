"""Convolution, bias and activation in one pass, by oneDNN: the activation is computed before the output leaves the cache."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretune.kernels._shortcut import Shortcut

_ACTIVATIONS: dict[type[nn.Module], tuple[str, list[float]]] = {
    nn.Identity: ("none", []),
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
    nn.Hardswish: ("hardswish", []),
    nn.SiLU: ("swish", []),
}
"""What oneDNN calls them, and with which numbers."""
FUSABLE = tuple(_ACTIVATIONS)
"""Activations that can be computed with the convolution."""

Pair = tuple[int, int]


def conv2d_act(
    x_BCHW: Tensor, weight: Tensor, bias: Tensor | None, act: nn.Module, *, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Tensor:
    """Return act(convolution), (B, C, P, Q); no gradient.

    Args:
        x_BCHW: the input, of the weight's dtype.
        weight: (C, C_in / groups, K, K).
        bias: (C,) or None.
        act: one of `FUSABLE`.
        stride: rows, columns.
        padding: rows above and below, columns left and right.
        dilation: rows, columns.
        groups: of channels.
    """
    if x_BCHW.device.type != "cpu" or not fused_convolution.works(x_BCHW.dtype):
        return act(F.conv2d(x_BCHW, weight, bias, stride, padding, dilation, groups))
    return _fused(x_BCHW, weight, bias, act, (padding, stride, dilation, groups))


def _fused(x_BCHW: Tensor, weight: Tensor, bias: Tensor | None, act: nn.Module, geometry: tuple[Any, ...]) -> Tensor:
    name, numbers = _ACTIVATIONS[type(act)]
    return torch.ops.mkldnn._convolution_pointwise(x_BCHW, weight, bias, *geometry, name, numbers, "")


def _trial(dtype: torch.dtype) -> Iterator[tuple[Tensor, Tensor]]:
    """Try every activation on dense, pointwise, depthwise and strided convolutions, with and without a bias."""
    channels = 16
    x = torch.randn(2, channels, 9, 9).to(dtype).contiguous(memory_format=torch.channels_last)
    for kernel, stride, groups in ((3, 1, 1), (1, 1, 1), (3, 1, channels), (5, 2, channels)):
        weight = torch.randn(channels, channels // groups, kernel, kernel).to(dtype).contiguous(memory_format=torch.channels_last)
        bias = torch.randn(channels).to(dtype)
        geometry = ([kernel // 2] * 2, [stride] * 2, [1, 1], groups)
        for kind in FUSABLE:
            plain = F.conv2d(x.float(), weight.float(), bias.float(), stride, kernel // 2, 1, groups)
            yield _fused(x, weight, bias, kind(), geometry), kind()(plain)
        yield _fused(x, weight, None, nn.Identity(), geometry), F.conv2d(x.float(), weight.float(), None, stride, kernel // 2, 1, groups)


fused_convolution = Shortcut(name="convolution with its activation", trial=_trial)


def norm_as_affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return scale and shift (C,) by which a batch norm in eval mode acts on its input."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = torch.rsqrt(norm.running_var + norm.eps)
    if norm.affine:
        scale = scale * norm.weight
    shift = -norm.running_mean * scale
    return scale, shift + norm.bias if norm.affine else shift
