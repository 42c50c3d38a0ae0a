"""From a map or a sequence to one vector an example; padding never leaks in."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from pretune.errors import SettingError, did_you_mean
from pretune.types import Features, Layout

POOLINGS = {"mean": 1, "mean_std": 2, "first": 1, "last": 1, "max": 1}
"""How many times each pooling multiplies the width."""
LAYERS = "layers"

NONE = "none"
"""What stands for the pooling of a head that takes every position."""


@dataclass(frozen=True, kw_only=True)
class OfStages:
    """A pooling of several stages side by side: what a late layer has traded away for its own task, an earlier one still holds.

    Evci et al. 2022, "Head2Toe: Utilizing Intermediate Representations for Better Transfer Learning".
    """

    last: int | None = None
    """How many stages, counted from the last; None for all, or of many the last and others at equal distances before it."""
    deviation: bool = False
    """Whether the deviation over positions stands beside the mean."""


OF_STAGES = {
    "last4_mean_std": OfStages(last=4, deviation=True),
    LAYERS: OfStages(),
    "layers_mean_std": OfStages(deviation=True),
}
"""By name; `layers` is the means of all stages."""
WIDEST = "layers_mean_std"
"""The pooling whose output holds that of the others in `CHOICES`: of all, where there are few enough stages."""
CHOICES: dict[Layout, tuple[str, ...]] = {
    "map": ("mean", "mean_std", "last4_mean_std", "layers_mean_std"),
    "sequence": ("mean", "mean_std", LAYERS, "layers_mean_std"),
}
"""What a solved head is tried on, the simplest first, by the layout of the network's output (docs/log.md has the comparison)."""
_CACHED = 1 << 18
"""Numbers of float32 that a core's cache holds."""
MOST_LAYERS = 8
"""Stages that are pooled at most: more make the head wide and tell little that their neighbours do not."""


@dataclass(frozen=True, kw_only=True)
class PooledColumns:
    """Columns of a pooled output that are one statistic of one stage."""

    stage: str
    deviation: bool
    start: int
    stop: int


class Pool(nn.Module):
    """Reduces map (B, C, H, W) or sequence (B, T, D) features to pooled (B, k·D) ones.

    Shapes: B examples, T positions, D channels; the mask (B, T) is True on real positions.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        if kind not in POOLINGS and kind not in OF_STAGES:
            raise SettingError(f"no pooling is called {kind!r}. {did_you_mean(kind, [*POOLINGS, *OF_STAGES])}")
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
        return Features(tensor=self._reduce(x_BTD, mask_BT), layout="pooled")

    def _reduce(self, x_BTD: Tensor, mask_BT: Tensor | None) -> Tensor:
        if mask_BT is None:
            mask_BT = torch.ones(x_BTD.shape[:2], dtype=torch.bool, device=x_BTD.device)
        if self.kind == "first":
            return x_BTD[:, 0].float()
        if self.kind == "last":
            last_B = mask_BT.int().cumsum(1).argmax(1)
            return x_BTD[torch.arange(len(x_BTD), device=x_BTD.device), last_B].float()
        if self.kind == "max":
            return x_BTD.masked_fill(~mask_BT[..., None], -torch.inf).amax(1).float()
        weight_B1T = (mask_BT / mask_BT.sum(1, keepdim=True).clamp(min=1))[:, None]
        few = max(1, _CACHED // x_BTD[0].numel())  # at once, so that what a large map is cast to stays in the processor's cache
        pieces = zip(x_BTD.split(few), weight_B1T.split(few), strict=True)
        with torch.autocast(x_BTD.device.type, enabled=False):
            return torch.cat([self._moments(x.float(), weight) for x, weight in pieces])

    def _moments(self, x_BTD: Tensor, weight_B1T: Tensor) -> Tensor:
        mean_B1D = weight_B1T @ x_BTD
        if self.kind == "mean":
            return mean_B1D[:, 0]
        variance_B1D = weight_B1T @ (x_BTD - mean_B1D).square()
        return torch.cat([mean_B1D, (variance_B1D + 1e-6).sqrt()], 2)[:, 0]


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


def collected(stages: list[str], pooling: str) -> list[str]:
    """Return which stages a pooling takes, in order; of many the last and others at equal distances before it."""
    wanted, count = OF_STAGES[pooling], len(stages)
    if wanted.last is None and count > MOST_LAYERS:
        return [stages[count - 1 - i * count // MOST_LAYERS] for i in reversed(range(MOST_LAYERS))]
    return stages if wanted.last is None else stages[-wanted.last :]


class Collecting(nn.Module):
    """A stage that also adds the mean of its output, and the deviation where it is wanted, to what the pooling takes."""

    def __init__(self, stage: nn.Module, *, deviation: bool = False) -> None:
        super().__init__()
        self.stage = stage
        self.pool = Pool("mean_std" if deviation else "mean")

    def forward(self, features: Features) -> Features:
        """Run the stage; its output is pooled where it is a map or a sequence, and taken as it is where it is a vector."""
        out = self.stage(features)
        pooled_BD = self.pool(replace(out, collected=None)).tensor
        collected = pooled_BD if features.collected is None else torch.cat([features.collected, pooled_BD], 1)
        return replace(out, collected=collected)


def blocks(widths: Mapping[str, tuple[Layout, int]], pooling: str) -> list[PooledColumns]:
    """Return the columns of a pooling of stages, by stage and statistic.

    Args:
        widths: layout and channels of the output of each stage, in order.
        pooling: one of `OF_STAGES`, or mean or mean_std, which take the last stage.
    """
    stages = list(widths)
    of_many = pooling in OF_STAGES
    taken = collected(stages, pooling) if of_many else stages[-1:]
    deviation = OF_STAGES[pooling].deviation if of_many else pooling == "mean_std"
    found: list[PooledColumns] = []
    for stage in taken:
        layout, width = widths[stage]
        for of_deviation in (False, True) if deviation and layout != "pooled" else (False,):
            start = found[-1].stop if found else 0
            found.append(PooledColumns(stage=stage, deviation=of_deviation, start=start, stop=start + width))
    return found


def columns_of(pooling: str, widths: Mapping[str, tuple[Layout, int]]) -> list[PooledColumns]:
    """Return the blocks of the widest pooling that another one consists of, in its order."""
    wanted = [(block.stage, block.deviation) for block in blocks(widths, pooling)]
    whole = {(block.stage, block.deviation): block for block in blocks(widths, WIDEST)}
    return [whole[key] for key in wanted if key in whole]


def choices(layout: Layout, widths: Mapping[str, tuple[Layout, int]]) -> dict[str, list[PooledColumns]]:
    """Return the poolings of `CHOICES` whose output the widest one holds whole, each with its blocks there.

    Of many stages the widest pooling takes some: the last four are not all among them.
    """
    found = {name: columns_of(name, widths) for name in CHOICES.get(layout, ())}
    return {name: columns for name, columns in found.items() if len(columns) == len(blocks(widths, name))}
