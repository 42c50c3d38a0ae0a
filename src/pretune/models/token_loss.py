"""Cross-entropy of tokens from features and a table, without ever holding the scores of all tokens.

Shapes: N positions, n of one chunk, D channels, V tokens.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

CHUNK = 1 << 22
"""Logits held at a time."""


@torch.no_grad()
def token_scores(x_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, bias_V: Tensor | None = None) -> Tensor:
    """Return (N, 2) float32: the nats of each target under x W^T + b, and 1 where it is the likeliest token."""
    rows = max(1, CHUNK // weight_VD.shape[0])
    found = [x_ND.new_zeros((0, 2), dtype=torch.float32)]
    if torch.is_autocast_enabled(x_ND.device.type):  # once, rather than for every chunk
        weight_VD = weight_VD.to(torch.get_autocast_dtype(x_ND.device.type))
    for x_nD, t_n in zip(x_ND.split(rows), targets_N.split(rows), strict=True):
        logits = F.linear(x_nD, weight_VD, bias_V).float()
        found.append(torch.stack([F.cross_entropy(logits, t_n, reduction="none"), (logits.argmax(-1) == t_n).float()], 1))
    return torch.cat(found)


def token_nats(x_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, bias_V: Tensor | None = None) -> Tensor:
    """Return the nats of each target under x W^T + b, (N,) float32, with a gradient, for which scores are computed again."""
    if torch.is_autocast_enabled(x_ND.device.type):  # once, rather than for every chunk
        weight_VD = weight_VD.to(torch.get_autocast_dtype(x_ND.device.type))

    def of_chunk(x_nD: Tensor, t_n: Tensor) -> Tensor:
        return F.cross_entropy(F.linear(x_nD, weight_VD, bias_V).float(), t_n, reduction="none")

    rows = max(1, CHUNK // weight_VD.shape[0])
    chunks = zip(x_ND.split(rows), targets_N.split(rows), strict=True)
    found = [x_ND.new_zeros(0, dtype=torch.float32)]
    found += [checkpoint(of_chunk, *chunk, use_reentrant=False, preserve_rng_state=False) for chunk in chunks]
    return torch.cat(found)


def linear_cross_entropy(
    x_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, bias_V: Tensor | None = None, *, smoothing: float = 0.0
) -> Tensor:
    """Return the mean cross-entropy of x W^T + b in nats without ever holding all logits.

    Chunks of rows are scored one after the other, and their gradients are taken at once; the backward pass only scales
    them. B. Hsu et al., "Liger Kernel", 2024.

    Args:
        x_ND: features.
        weight_VD: the scores' weights.
        targets_N: what is to be predicted.
        bias_V: added to the scores.
        smoothing: share of each target that is spread over all V (C. Szegedy et al. 2016).
    """
    if x_ND.shape[0] * weight_VD.shape[0] <= CHUNK or not torch.is_grad_enabled():
        rows = max(1, CHUNK // weight_VD.shape[0])
        total = x_ND.new_zeros((), dtype=torch.float32)
        for x_nD, t_n in zip(x_ND.split(rows), targets_N.split(rows), strict=True):
            logits = F.linear(x_nD, weight_VD, bias_V).float()
            total = total + F.cross_entropy(logits, t_n, reduction="sum", label_smoothing=smoothing)
        return total / targets_N.shape[0]
    bias_V = torch.zeros(weight_VD.shape[0], device=x_ND.device) if bias_V is None else bias_V
    if torch.is_autocast_enabled(x_ND.device.type):
        x_ND = x_ND.to(torch.get_autocast_dtype(x_ND.device.type))
    return _LinearCrossEntropy.apply(x_ND, weight_VD, bias_V, targets_N, smoothing)


class _LinearCrossEntropy(Function):
    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, weight_VD: Tensor, bias_V: Tensor, targets_N: Tensor, smoothing: float) -> Tensor:
        size = weight_VD.shape[0]
        rows, count = max(1, CHUNK // size), targets_N.shape[0]
        matrix = weight_VD.to(x_ND.dtype)
        total = torch.zeros((), device=x_ND.device)
        learns = ctx.needs_input_grad[1]  # a frozen table needs no gradient, which is a third of the work
        dx, dw, db = torch.empty_like(x_ND), torch.zeros_like(weight_VD) if learns else None, torch.zeros_like(bias_V)
        for start in range(0, count, rows):
            x, targets = x_ND[start : start + rows], targets_N[start : start + rows]
            logits = torch.addmm(bias_V.to(x.dtype), x, matrix.t()).float()
            log_p = logits.log_softmax(-1)
            total += (1 - smoothing) * F.nll_loss(log_p, targets, reduction="sum")
            if smoothing:
                total -= smoothing * log_p.mean(-1).sum()
            slope = log_p.exp_()
            if smoothing:
                slope -= smoothing / size
            slope[torch.arange(len(targets), device=x.device), targets] -= 1 - smoothing
            slope = slope.div_(count)
            db += slope.sum(0)
            slope = slope.to(x.dtype)
            dx[start : start + rows] = slope @ matrix
            if dw is not None:
                dw += (slope.t() @ x).float()
        ctx.save_for_backward(dx, dw, db)
        return total / count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, Tensor, None, None]:
        dx, dw, db = ctx.saved_tensors
        scale = gradients[0]
        return dx * scale.to(dx.dtype), None if dw is None else dw * scale, db * scale, None, None
