"""Self-attention from joined queries, keys and values; padding is never attended to.

torch's own attention falls back to its plainest form where attention weights are dropped out, as BERT was trained:
it copies queries, keys and values several times and draws a Bernoulli variable a weight. This form copies once and
draws bits; on short texts it takes half the time.

Shapes: B texts, T positions, H heads, E channels a head, D = H * E.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from pretune.architectures._dropout import keep_mask


def attend(qkv_BTQ: Tensor, heads: int, mask_BT: Tensor | None, dropout: float) -> Tensor:
    """Return attention outputs (B, T, D).

    Args:
        qkv_BTQ: (B, T, 3 D) queries, keys and values side by side.
        heads: H.
        mask_BT: True on real positions; None where all are.
        dropout: share of attention weights that are dropped.
    """
    if dropout > 0:
        return _DroppedAttention.apply(qkv_BTQ, heads, mask_BT, dropout)
    q, k, v = (part.transpose(1, 2) for part in qkv_BTQ.unflatten(-1, (3, heads, -1)).unbind(2))
    seen = None if mask_BT is None else mask_BT[:, None, None, :]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2).flatten(2)


def causal_mask(q_BHTE: Tensor, k_BHSE: Tensor) -> Tensor | None:
    """Return which of S positions each of the last T may see, (T, S) bool; None where S = T, the plain causal case."""
    length, whole = q_BHTE.shape[2], k_BHSE.shape[2]
    if length == whole:
        return None
    return torch.ones(length, whole, dtype=torch.bool, device=q_BHTE.device).tril(whole - length)


class _DroppedAttention(Function):
    """Scaled dot-product attention with dropout, its gradient written out."""

    @staticmethod
    def forward(ctx: Any, qkv_BTQ: Tensor, heads: int, mask_BT: Tensor | None, dropout: float) -> Tensor:
        batch, length, _ = qkv_BTQ.shape
        parts = qkv_BTQ.view(batch, length, 3, heads, -1).permute(2, 0, 3, 1, 4).contiguous()  # (3, B, H, T, E)
        q, k, v = parts.flatten(1, 2).unbind(0)
        scale = q.shape[-1] ** -0.5
        scores = torch.bmm(q, k.transpose(1, 2)).mul_(scale).view(batch, heads, length, length)
        if mask_BT is not None:
            scores.masked_fill_(~mask_BT[:, None, None, :], -torch.inf)
        weights = scores.softmax(-1).flatten(0, 1)
        kept = keep_mask(weights.shape, dropout, weights.dtype, weights.device)
        dropped = weights * kept
        out = torch.bmm(dropped, v).view(batch, heads, length, -1)
        ctx.save_for_backward(parts, weights, kept, dropped)
        return out.transpose(1, 2).reshape(batch, length, -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        parts, weights, kept, dropped = ctx.saved_tensors
        _, batch, heads, length, _ = parts.shape
        q, k, v = parts.flatten(1, 2).unbind(0)
        g = gradients[0].view(batch, length, heads, -1).transpose(1, 2).reshape(v.shape)
        out = torch.empty_like(parts)
        dq, dk, dv = out.flatten(1, 2).unbind(0)
        torch.bmm(dropped.transpose(1, 2), g, out=dv)
        dweights = torch.bmm(g, v.transpose(1, 2)).mul_(kept)
        dscores = torch._softmax_backward_data(dweights, weights, -1, weights.dtype).mul_(q.shape[-1] ** -0.5)
        torch.bmm(dscores, k, out=dq)
        torch.bmm(dscores.transpose(1, 2), q, out=dk)
        return out.permute(1, 3, 0, 2, 4).reshape(batch, length, -1), None, None, None
