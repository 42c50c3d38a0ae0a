"""From a map or a sequence to one vector an item; padding never leaks in."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from pretune.errors import SettingError, did_you_mean
from pretune.types import Features, Layout

POOLINGS = {"mean": 1, "mean_std": 2, "first": 1, "last": 1, "max": 1}
"""How many times each pooling multiplies the width."""
LAYERS = "layers"
"""The means of all stages side by side: what a late layer has traded away for its own task, an earlier one still holds.

Evci et al. 2022, "Head2Toe: Utilizing Intermediate Representations for Better Transfer Learning".
"""
NONE = "none"
"""What stands for the pooling of a head that takes every position."""
MOST_LAYERS = 8
"""Stages that `layers` pools at most: more make the head wide and tell little that their neighbours do not."""


class Pool(nn.Module):
    """Reduces map (B, C, H, W) or sequence (B, T, D) features to pooled (B, k·D) ones.

    Shapes: B items, T positions, D channels; the mask (B, T) is True on real positions.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        if kind not in POOLINGS and kind != LAYERS:
            raise SettingError(f"no pooling is called {kind!r}. {did_you_mean(kind, [*POOLINGS, LAYERS])}")
        self.kind = kind

    def forward(self, features: Features) -> Features:
        """Pool in float32; features that are pooled already pass."""
        if features.layout == "pooled":
            return Features(tensor=features.tensor.float(), layout="pooled")
        if features.collected is not None:
            return Features(tensor=features.collected, layout="pooled")
        x_BTD, mask_BT = features.tensor, features.mask
        if features.layout == "map":
            x_BTD = x_BTD.flatten(2).transpose(1, 2)
        return Features(tensor=self._reduce(x_BTD.float(), mask_BT), layout="pooled")

    def _reduce(self, x_BTD: Tensor, mask_BT: Tensor | None) -> Tensor:
        if mask_BT is None:
            mask_BT = torch.ones(x_BTD.shape[:2], dtype=torch.bool, device=x_BTD.device)
        if self.kind == "first":
            return x_BTD[:, 0]
        if self.kind == "last":
            last_B = mask_BT.int().cumsum(1).argmax(1)
            return x_BTD[torch.arange(len(x_BTD), device=x_BTD.device), last_B]
        if self.kind == "max":
            return x_BTD.masked_fill(~mask_BT[..., None], -torch.inf).amax(1)
        weight_BT1 = (mask_BT / mask_BT.sum(1, keepdim=True).clamp(min=1))[..., None]
        mean_BD = (x_BTD * weight_BT1).sum(1)
        if self.kind == "mean":
            return mean_BD
        variance_BD = ((x_BTD - mean_BD[:, None]).square() * weight_BT1).sum(1)
        return torch.cat([mean_BD, (variance_BD + 1e-6).sqrt()], 1)


class Places(nn.Module):
    """Hands on every position of a sequence, or every place of a map, channels last: what a head that predicts one for each takes."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout

    def forward(self, features: Features) -> Features:
        """Return float32 (B, T, D), or (B, H, W, D) of a map."""
        if features.layout != self.layout:
            raise SettingError(f"the head takes features of the layout {self.layout}; the backbone returns {features.layout}.")
        x = features.tensor.float()
        return features.with_tensor(x.permute(0, 2, 3, 1) if self.layout == "map" else x)


def positions(features: Features) -> Tensor:
    """Return what a head takes of a batch as (N, D): a row an example, or for each of its real positions."""
    x = features.tensor.float()
    return x[features.mask] if features.mask is not None and features.layout == "sequence" else x.flatten(0, -2)


def collected(stages: list[str]) -> set[str]:
    """Return which stages `layers` pools: all, or of many the last and others at equal distances before it."""
    return (
        {stages[round(i * (len(stages) - 1) / (MOST_LAYERS - 1))] for i in range(MOST_LAYERS)} if len(stages) > MOST_LAYERS else set(stages)
    )


class Collecting(nn.Module):
    """A stage that also adds the mean of its output to what `layers` pools."""

    def __init__(self, stage: nn.Module) -> None:
        super().__init__()
        self.stage = stage
        self.mean = Pool("mean")

    def forward(self, features: Features) -> Features:
        """Run the stage."""
        out = self.stage(features)
        mean_BD = self.mean(replace(out, collected=None)).tensor
        collected = mean_BD if features.collected is None else torch.cat([features.collected, mean_BD], 1)
        return replace(out, collected=collected)
