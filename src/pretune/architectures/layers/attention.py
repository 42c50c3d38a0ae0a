"""Self-attention from joined queries, keys and values, and what a position may attend to.

Shapes: B texts, T positions, H heads, E channels a head, D = H * E.
"""

from __future__ import annotations

import torch
from torch import Tensor

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
