"""Self-attention from joined queries, keys and values; padding is never attended to.

torch's own attention falls back to its plainest form where attention weights are dropped out, as BERT was trained:
it copies queries, keys and values several times and draws a Bernoulli variable a weight. This form copies once and
draws bits; on short texts it takes half the time. Without dropout it serves where torch's gradient is slow.

Shapes: B texts, T positions, H heads, E channels a head, D = H * E.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from pretune.architectures._dropout import keep_mask


def attend(qkv_BTQ: Tensor, heads: int, mask_BT: Tensor | None, dropout: float, *, causal: bool = False) -> Tensor:
    """Return attention outputs (B, T, D).

    Args:
        qkv_BTQ: (B, T, 3 D) queries, keys and values side by side.
        heads: H.
        mask_BT: True on real positions; None where all are.
        dropout: share of attention weights that are dropped.
        causal: no position sees what comes after it.
    """
    parts = qkv_BTQ.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)  # (3, B, H, T, E)
    return attend_heads(parts, mask_BT, dropout, causal=causal)


def attend_heads(parts_3BHTE: Tensor, mask_BT: Tensor | None, dropout: float, *, causal: bool = False) -> Tensor:
    """Return attention outputs (B, T, D) of queries, keys and values by heads; see `attend`."""
    if dropout > 0 or _is_slow(parts_3BHTE):
        return _Attention.apply(parts_3BHTE.contiguous(), mask_BT, dropout, causal)
    q, k, v = parts_3BHTE.unbind(0)
    seen = None if mask_BT is None else mask_BT[:, None, None, :]
    if causal and seen is not None:
        seen = seen & causal_square(q)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, is_causal=causal and seen is None).transpose(1, 2).flatten(2)


def _is_slow(parts: Tensor) -> bool:
    """Tell whether torch's own attention is slow: its gradient in bfloat16 on a CPU takes six times as long (docs/log.md)."""
    return parts.device.type == "cpu" and parts.dtype is torch.bfloat16 and parts.requires_grad and torch.is_grad_enabled()


def causal_square(q_BHTE: Tensor) -> Tensor:
    """Return which position may see which, (T, T) bool."""
    length = q_BHTE.shape[-2]
    return torch.ones(length, length, dtype=torch.bool, device=q_BHTE.device).tril()


def causal_mask(q_BHTE: Tensor, k_BHSE: Tensor) -> Tensor | None:
    """Return which of S positions each of the last T may see, (T, S) bool; None where S = T, the plain causal case."""
    length, whole = q_BHTE.shape[2], k_BHSE.shape[2]
    if length == whole:
        return None
    return torch.ones(length, whole, dtype=torch.bool, device=q_BHTE.device).tril(whole - length)


class _Attention(Function):
    """Scaled dot-product attention with or without dropout, its gradient written out."""

    @staticmethod
    def forward(ctx: Any, parts: Tensor, mask_BT: Tensor | None, dropout: float, causal: bool) -> Tensor:
        _, batch, heads, length, width = parts.shape
        q, k, v = parts.flatten(1, 2).unbind(0)
        scores = torch.bmm(q, k.transpose(1, 2)).mul_(width**-0.5).view(batch, heads, length, length)
        if mask_BT is not None:
            scores.masked_fill_(~mask_BT[:, None, None, :], -torch.inf)
        if causal:
            scores.masked_fill_(~causal_square(q), -torch.inf)
        weights = scores.softmax(-1).flatten(0, 1)
        kept = keep_mask(weights.shape, dropout, weights.dtype, weights.device) if dropout else None
        dropped = weights if kept is None else weights * kept
        out = torch.bmm(dropped, v).view(batch, heads, length, -1)
        ctx.save_for_backward(parts, weights, kept, dropped)
        return out.transpose(1, 2).reshape(batch, length, -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        parts, weights, kept, dropped = ctx.saved_tensors
        _, batch, heads, length, width = parts.shape
        q, k, v = parts.flatten(1, 2).unbind(0)
        g = gradients[0].view(batch, length, heads, -1).transpose(1, 2).reshape(v.shape)
        out = torch.empty_like(parts)
        dq, dk, dv = out.flatten(1, 2).unbind(0)
        torch.bmm(dropped.transpose(1, 2), g, out=dv)
        dweights = torch.bmm(g, v.transpose(1, 2))
        if kept is not None:
            dweights.mul_(kept)
        dscores = torch._softmax_backward_data(dweights, weights, -1, weights.dtype).mul_(width**-0.5)
        torch.bmm(dscores, k, out=dq)
        torch.bmm(dscores.transpose(1, 2), q, out=dk)
        return out, None, None, None
