"""Attention whose gradient is written out, for CPUs.

PyTorch's own attention falls back to its plainest form where attention weights are dropped out, as BERT was trained:
it copies queries, keys and values several times and samples a Bernoulli variable for each weight. This form copies once
and samples bits; on short texts it takes half the time. Without dropout it serves where PyTorch's gradient is slow: in
bfloat16 on a CPU it takes six times as long (docs/log.md).

Shapes: B texts, T positions, H heads, E channels of a head, D = H * E.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from pretune.kernels._shortcut import Shortcut
from pretune.kernels.dropout import keep_mask


def attention(qkv_3BHTE: Tensor, mask_BT: Tensor | None, dropout: float, *, causal: bool = False) -> Tensor:
    """Return attention outputs (B, T, D).

    Args:
        qkv_3BHTE: queries, keys and values by heads.
        mask_BT: True on real positions, which alone are attended to; None where all are.
        dropout: share of attention weights that are dropped.
        causal: no position attends to what comes after it.
    """
    if _is_quicker(qkv_3BHTE, dropout) and written_out_attention.works(qkv_3BHTE.dtype):
        return _Attention.apply(qkv_3BHTE.contiguous(), mask_BT, dropout, causal)
    q, k, v = qkv_3BHTE.unbind(0)
    attended = None if mask_BT is None else mask_BT[:, None, None, :]
    if causal and attended is not None:
        attended = attended & causal_square(q)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=attended, dropout_p=dropout, is_causal=causal and attended is None)
    return out.transpose(1, 2).flatten(2)


def _is_quicker(qkv: Tensor, dropout: float) -> bool:
    learns = qkv.requires_grad and torch.is_grad_enabled()
    return qkv.device.type == "cpu" and (dropout > 0 or (learns and qkv.dtype is torch.bfloat16))


def causal_square(q_BHTE: Tensor) -> Tensor:
    """Return which position attends to which, (T, T) bool."""
    length = q_BHTE.shape[-2]
    return torch.ones(length, length, dtype=torch.bool, device=q_BHTE.device).tril()


class _Attention(Function):
    """Scaled dot-product attention with or without dropout, its gradient written out."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, mask_BT: Tensor | None, dropout: float, causal: bool) -> Tensor:
        _, batch, heads, length, width = qkv.shape
        q, k, v = qkv.flatten(1, 2).unbind(0)
        scores = torch.bmm(q, k.transpose(1, 2)).mul_(width**-0.5).view(batch, heads, length, length)
        if mask_BT is not None:
            scores.masked_fill_(~mask_BT[:, None, None, :], -torch.inf)
        if causal:
            scores.masked_fill_(~causal_square(q), -torch.inf)
        weights = scores.softmax(-1).flatten(0, 1)
        kept = keep_mask(weights.shape, dropout, weights.dtype, weights.device) if dropout else None
        dropped = weights if kept is None else weights * kept
        out = torch.bmm(dropped, v).view(batch, heads, length, -1)
        ctx.save_for_backward(qkv, weights, kept, dropped)
        return out.transpose(1, 2).reshape(batch, length, -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        qkv, weights, kept, dropped = ctx.saved_tensors
        _, batch, heads, length, width = qkv.shape
        q, k, v = qkv.flatten(1, 2).unbind(0)
        g = gradients[0].view(batch, length, heads, -1).transpose(1, 2).reshape(v.shape)
        out = torch.empty_like(qkv)
        dq, dk, dv = out.flatten(1, 2).unbind(0)
        torch.bmm(dropped.transpose(1, 2), g, out=dv)
        dweights = torch.bmm(g, v.transpose(1, 2))
        if kept is not None:
            dweights.mul_(kept)
        dscores = torch._softmax_backward_data(dweights, weights, -1, weights.dtype).mul_(width**-0.5)
        torch.bmm(dscores, k, out=dq)
        torch.bmm(dscores.transpose(1, 2), q, out=dk)
        return out, None, None, None


def _trial(dtype: torch.dtype) -> Iterator[tuple[Tensor, Tensor]]:
    """Compare outputs and gradients with PyTorch's own in float32: all positions, with padding, causal."""
    qkv = torch.randn(3, 2, 2, 6, 8).to(dtype)
    mask = torch.arange(6) < torch.tensor([[6], [4]])
    weights = torch.randn(2, 6, 16)
    for mask_BT, causal in ((None, False), (mask, False), (None, True)):
        short, reference = qkv.clone().requires_grad_(), qkv.float().requires_grad_()
        out = _Attention.apply(short, mask_BT, 0.0, causal)
        attended = None if mask_BT is None else mask_BT[:, None, None, :]
        q, k, v = reference.unbind(0)
        expected = F.scaled_dot_product_attention(q, k, v, attn_mask=attended, is_causal=causal).transpose(1, 2).flatten(2)
        yield out, expected
        (gradient,) = torch.autograd.grad((out.float() * weights).sum(), short)
        (exact,) = torch.autograd.grad((expected * weights).sum(), reference)
        yield gradient, exact


written_out_attention = Shortcut(name="attention with a written-out gradient", trial=_trial)
