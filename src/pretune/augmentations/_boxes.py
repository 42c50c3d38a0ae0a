"""Random boxes, one an image, as masks."""

from __future__ import annotations

import torch
from torch import Tensor


def box_mask(top_B: Tensor, left_B: Tensor, height_B: Tensor, width_B: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return (B, 1, H, W) bool, True inside the box [top, top + height) x [left, left + width), cut off at the border."""
    row_1H, column_1W = torch.arange(shape[0])[None], torch.arange(shape[1])[None]
    in_row_BH = (row_1H >= top_B[:, None]) & (row_1H < (top_B + height_B)[:, None])
    in_column_BW = (column_1W >= left_B[:, None]) & (column_1W < (left_B + width_B)[:, None])
    return (in_row_BH[:, :, None] & in_column_BW[:, None, :]).unsqueeze(1)
