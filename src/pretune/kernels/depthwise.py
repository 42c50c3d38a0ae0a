"""Depthwise convolution whose backward pass is quick on CPUs.

oneDNN 3.12 has no good kernels for two gradients, and falls back to ones that treat sixteen channels as a dense
block: the input's in bfloat16 at stride 2 (measured 10 to 60 times slower than in float32), and the weight's
of kernels above 3x3 (5 to 12 times slower in bfloat16, 2 to 4 in float32). Here the first is put together from forward
convolutions (a step computing it in float32 takes 1.05 times as long), and the second is a forward convolution of each
input by its output's gradient. EfficientNet-Lite0 trains twice as fast.

Shapes: B examples, C channels, H, W input size, P, Q output size, K kernel size.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pretune.kernels._shortcut import Shortcut

Pair = tuple[int, int]


def depthwise_conv2d(x_BCHW: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: Pair, odd: Pair = (0, 0)) -> Tensor:
    """Return the convolution of each channel with its own kernel, (B, C, P, Q).

    Args:
        x_BCHW: the input.
        weight: (C, 1, K, K).
        bias: (C,) or None.
        stride: in both directions.
        padding: rows below, columns right.
        odd: by how many rows above, columns left, the padding is smaller there: 0 or 1.
    """
    if torch.is_autocast_enabled(x_BCHW.device.type):
        dtype = torch.get_autocast_dtype(x_BCHW.device.type)
        x_BCHW, weight, bias = x_BCHW.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    if _native_is_quick(x_BCHW, weight, odd):
        return F.conv2d(x_BCHW, shifted(weight, odd), bias, stride, padding, 1, x_BCHW.shape[1])
    return _Depthwise.apply(x_BCHW, weight, bias, stride, padding, odd)


def shifted(weight: Tensor, odd: Pair) -> Tensor:
    """Return the kernel with zeros above and left where the padding is smaller there.

    Padding the kernel by one and then the input evenly is the same as padding the input unevenly, without copying it.
    """
    return F.pad(weight, (odd[1], 0, odd[0], 0)) if any(odd) else weight


def _native_is_quick(x_BCHW: Tensor, weight: Tensor, odd: Pair) -> bool:
    learns = torch.is_grad_enabled() and (x_BCHW.requires_grad or weight.requires_grad)
    if not learns or x_BCHW.device.type != "cpu" or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return True
    if weight.shape[2] <= 3 and x_BCHW.dtype == torch.float32 and not any(odd):
        return True
    return not torch.backends.mkldnn.enabled or not written_out_depthwise.works(x_BCHW.dtype)


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BCHW: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: Pair, odd: Pair) -> Tensor:
        ctx.save_for_backward(x_BCHW, weight)
        ctx.geometry = (stride, padding, odd)
        return F.conv2d(x_BCHW, shifted(weight, odd), bias, stride, padding, 1, x_BCHW.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BCPQ: Tensor) -> tuple[Tensor | None, ...]:
        x_BCHW, weight = ctx.saved_tensors
        grad_BCPQ = grad_BCPQ.contiguous(memory_format=torch.channels_last)
        to_x, to_weight, to_bias, *_ = ctx.needs_input_grad
        return (
            _input_gradient(x_BCHW, weight, grad_BCPQ, *ctx.geometry) if to_x else None,
            _weight_gradient(x_BCHW, weight, grad_BCPQ, *ctx.geometry) if to_weight else None,
            grad_BCPQ.sum((0, 2, 3)) if to_bias else None,
            None,
            None,
            None,
        )


def _input_gradient(x_BCHW: Tensor, weight: Tensor, grad_BCPQ: Tensor, stride: int, padding: Pair, odd: Pair) -> Tensor:
    slow = stride > 1 and x_BCHW.dtype == torch.bfloat16
    even = all(size <= 2 * half for size, half in zip(x_BCHW.shape[2:], grad_BCPQ.shape[2:], strict=True))
    if slow and even and stride == 2 <= weight.shape[2]:
        return _by_parity(x_BCHW, weight, grad_BCPQ, (padding[0] - odd[0], padding[1] - odd[1]))
    dtype = torch.float32 if slow else x_BCHW.dtype
    like_x = torch.empty_like(x_BCHW, dtype=dtype)  # read for its shape only
    return _native(grad_BCPQ.to(dtype), like_x, shifted(weight, odd).to(dtype), stride, padding, 0).to(x_BCHW.dtype)


def _by_parity(x_BCHW: Tensor, weight: Tensor, grad_BCPQ: Tensor, before: Pair) -> Tensor:
    """Return the input's gradient at stride 2; `before` is the padding above and left.

    The input's row 2m + a met row k = 2d + c of the kernel, c = a + above, on the way to the output's row m - d. So the
    gradient of all rows of one parity is a convolution of the output's gradient with every second row of the kernel,
    turned around; and likewise for columns.
    """
    out = torch.empty_like(x_BCHW)
    reach = max(_reach(weight.shape[2], start + parity) for start in before for parity in (0, 1))
    for a in (0, 1):
        for b in (0, 1):
            part = _every_second(weight, a + before[0], b + before[1], reach)
            place = out[:, :, a::2, b::2]
            place.copy_(F.conv2d(grad_BCPQ, part, None, 1, reach, 1, weight.shape[0])[:, :, : place.shape[2], : place.shape[3]])
    return out


def _reach(kernel: int, c: int) -> int:
    """Return the largest |d| of k = 2d + c for rows k of a kernel."""
    return max(abs((k - c) // 2) for k in range(c % 2, kernel, 2))


def _every_second(weight: Tensor, row: int, column: int, reach: int) -> Tensor:
    """Return the kernel's rows 2d + row and columns 2d + column, d falling, in a kernel of 2 · reach + 1."""
    part = weight[:, :, row % 2 :: 2, column % 2 :: 2].flip(2, 3)
    pads = []
    for c, count in ((column, part.shape[3]), (row, part.shape[2])):
        first = reach - (c % 2 + 2 * (count - 1) - c) // 2
        pads += [first, 2 * reach + 1 - first - count]
    return F.pad(part, pads)


def _weight_gradient(x_BCHW: Tensor, weight: Tensor, grad_BCPQ: Tensor, stride: int, padding: Pair, odd: Pair) -> Tensor:
    if weight.shape[2] > 3:
        return _correlate(x_BCHW, grad_BCPQ, weight.shape[2], stride, padding, odd).to(weight.dtype)
    if any(odd):
        (below, right), (above, left) = padding, (padding[0] - odd[0], padding[1] - odd[1])
        x_BCHW, padding = F.pad(x_BCHW, (left, right, above, below)), (0, 0)
    return _native(grad_BCPQ, x_BCHW, weight, stride, padding, 1)


def _correlate(x_BCHW: Tensor, grad_BCPQ: Tensor, size: int, stride: int, padding: Pair, odd: Pair) -> Tensor:
    """Return the weight's gradient: the sum over examples of the input correlated with the output's gradient."""
    channels = x_BCHW.shape[1]
    total = x_BCHW.new_zeros((channels, size, size), dtype=torch.promote_types(x_BCHW.dtype, torch.float32))
    rows, columns = (slice(skip, skip + size) for skip in odd)
    for x_CHW, grad_CPQ in zip(x_BCHW, grad_BCPQ, strict=True):
        total += F.conv2d(x_CHW[None], grad_CPQ[:, None], None, 1, padding, stride, channels)[0, :, rows, columns]
    return total[:, None]


def _native(grad_BCPQ: Tensor, x_BCHW: Tensor, weight: Tensor, stride: int, padding: Pair, which: int) -> Tensor:
    """Return PyTorch's own gradient of the input (which = 0) or of the weight (1)."""
    wanted = [which == 0, which == 1, False]
    stride_, ones, zeros = [stride] * 2, [1, 1], [0, 0]
    out = torch.ops.aten.convolution_backward(
        grad_BCPQ, x_BCHW, weight, None, stride_, list(padding), ones, False, zeros, x_BCHW.shape[1], wanted
    )
    return out[which]


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise nn.Conv2d that learns quickly on CPUs; same parameters, same result."""

    def forward(self, input: Tensor) -> Tensor:
        """Return (B, C, P, Q)."""
        return depthwise_conv2d(input, self.weight, self.bias, self.stride[0], (int(self.padding[0]), int(self.padding[1])))


def quicken(network: nn.Module) -> int:
    """Turn every depthwise nn.Conv2d of a network into a DepthwiseConv2d, in place; return how many there were."""
    found = [module for module in network.modules() if type(module) is nn.Conv2d and _is_depthwise(module)]
    for module in found:
        module.__class__ = DepthwiseConv2d
    return len(found)


def _is_depthwise(conv: nn.Conv2d) -> bool:
    square = conv.kernel_size[0] == conv.kernel_size[1] and conv.stride[0] == conv.stride[1]
    plain = square and conv.dilation == (1, 1) and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    return plain and 1 < conv.groups == conv.in_channels == conv.out_channels


def _trial(dtype: torch.dtype) -> Iterator[tuple[Tensor, Tensor]]:
    """Compare outputs and all gradients with PyTorch's own in float32, at even and odd sizes and paddings."""
    for kernel, stride, size, odd in ((3, 1, 7, (0, 0)), (3, 2, 8, (1, 1)), (5, 1, 9, (0, 0)), (5, 2, 8, (1, 0)), (5, 2, 9, (0, 0))):
        x = torch.randn(2, 16, size, size).to(dtype).contiguous(memory_format=torch.channels_last)
        weight, bias, padding = torch.randn(16, 1, kernel, kernel).to(dtype), torch.randn(16).to(dtype), (kernel // 2, kernel // 2)
        short = [tensor.clone().requires_grad_() for tensor in (x, weight, bias)]
        plain = [tensor.float().requires_grad_() for tensor in (x, weight, bias)]
        out = _Depthwise.apply(*short, stride, padding, odd)
        expected = F.conv2d(plain[0], shifted(plain[1], odd), plain[2], stride, padding, 1, 16)
        yield out, expected
        factors = torch.randn(expected.shape)
        gradients = torch.autograd.grad((out.float() * factors).sum(), short)
        yield from zip(gradients, torch.autograd.grad((expected * factors).sum(), plain), strict=True)


written_out_depthwise = Shortcut(name="depthwise convolution with a written-out gradient", trial=_trial)
