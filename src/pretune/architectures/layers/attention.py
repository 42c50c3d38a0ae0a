"""Self-attention from joined queries, keys and values, and what a position may attend to.

Shapes: B texts, T positions, S remembered ones with these, H heads, E channels a head, D = H * E.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pretune.architectures.layers.memory import extended
from pretune.kernels.attention import attention


def attend(qkv_BTQ: Tensor, heads: int, mask_BT: Tensor | None, dropout: float, *, causal: bool = False) -> Tensor:
    """Return attention outputs (B, T, D).

    Args:
        qkv_BTQ: (B, T, 3 D) queries, keys and values side by side.
        heads: H.
        mask_BT: True on real positions; None where all are.
        dropout: share of attention weights that are dropped.
        causal: no position attends to what comes after it.
    """
    qkv = qkv_BTQ.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)  # (3, B, H, T, E)
    return attention(qkv, mask_BT, dropout, causal=causal)


def causal_mask(q_BHTE: Tensor, k_BHSE: Tensor) -> Tensor | None:
    """Return which of S positions each of the last T may attend to, (T, S) bool; None where S = T, the plain causal case."""
    length, whole = q_BHTE.shape[2], k_BHSE.shape[2]
    if length == whole:
        return None
    return torch.ones(length, whole, dtype=torch.bool, device=q_BHTE.device).tril(whole - length)


def attend_to_memory(memory: dict[str, Any], q_BHTE: Tensor, k_BGTE: Tensor, v_BGTE: Tensor, real_BT: Tensor | None) -> Tensor:
    """Return the attention (B, T, H x E) of new positions to those that are remembered and to themselves, and remember them.

    Args:
        memory: of the layer.
        q_BHTE: queries.
        k_BGTE: keys of G groups of heads, G dividing H.
        v_BGTE: values likewise.
        real_BT: False on padding, which stands before texts; None where there is none. Padding attends to itself alone.
    """
    k, v = extended(memory, "k", k_BGTE, 2), extended(memory, "v", v_BGTE, 2)
    size, heads, length, _ = q_BHTE.shape
    groups, whole = k.shape[1:3]
    seen = causal_mask(q_BHTE, k)
    if real_BT is not None or "real" in memory:
        real_BT = torch.ones(size, length, dtype=torch.bool, device=k.device) if real_BT is None else real_BT
        real_BS = extended(memory, "real", real_BT, 1)
        before_TS = torch.ones(length, whole, dtype=torch.bool, device=k.device).tril(whole - length)
        itself_TS = before_TS & ~before_TS.tril(whole - length - 1)
        seen = (before_TS & real_BS[:, None, None]) | itself_TS
    if length == 1:  # the heads of a group stand in for positions, so that no key is copied for each of them
        return F.scaled_dot_product_attention(q_BHTE.reshape(size, groups, heads // groups, -1), k, v, attn_mask=seen).reshape(size, 1, -1)
    k, v = (part.repeat_interleave(heads // groups, 1) for part in (k, v))
    return F.scaled_dot_product_attention(q_BHTE, k, v, attn_mask=seen, is_causal=seen is None).transpose(1, 2).flatten(2)
