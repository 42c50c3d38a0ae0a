"""The quickest way to run frozen stages: a folded copy in the precision that was measured to be faster."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import nn

from pretune.architectures.layers.fold import FusedConv2d, fold
from pretune.modalities.image import Normaliser
from pretune.types import Features


class InferenceCopy(nn.Module):
    """A chain of stages that only infers."""

    def __init__(self, stages: Iterable[nn.Module], bfloat16: bool) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.rounded = bfloat16

    @torch.no_grad()
    def forward(self, features: Features) -> Features:
        """Run all stages; maps and sequences come out in the copy's precision."""
        tensor = features.tensor
        if tensor.ndim == 4:
            features = features.with_tensor(tensor.contiguous(memory_format=torch.channels_last))
        with torch.autocast(tensor.device.type, torch.bfloat16, enabled=self.rounded):
            for stage in self.stages:
                features = stage(features)
        return features


def inference_copy(stages: Iterable[nn.Module], bfloat16: bool) -> InferenceCopy:
    """Return a copy of some stages (Features -> Features) for one pass over the data, without gradients.

    Batch norms and simple activations are folded into the convolutions before them, images run channels last, and with
    `bfloat16` the weights of convolutions and linear layers are rounded once instead of at every call.

    In float32 the result differs by rounding only (relative error about 1e-6). In bfloat16 the features of
    EfficientNet-Lite0 on photographs are 4 % from float32's in norm (cosine at least 0.994), and bit for bit those of
    the same network run under autocast.
    """
    copied = [fold(copy.deepcopy(stage).eval().requires_grad_(False)) for stage in stages]
    for stage in copied:
        if bfloat16 and isinstance(stage, Normaliser):
            stage.dtype = torch.bfloat16
        for module in stage.modules():
            if isinstance(module, nn.Conv2d):
                module.to(memory_format=torch.channels_last)
            if bfloat16 and isinstance(module, FusedConv2d | nn.Conv2d | nn.Conv1d | nn.Linear):
                module.to(torch.bfloat16)
    return InferenceCopy(copied, bfloat16)
