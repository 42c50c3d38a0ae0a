"""Networks of other libraries as ordered stages."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pretune.backbones._base import Backbone, Builder, Classes, Classifier, LoadReport, Readout, TensorStage
from pretune.kernels.depthwise import quicken
from pretune.modalities.image import Image
from pretune.types import Layout

Stage = tuple[str, nn.Module, Layout]
"""Name, module (Tensor -> Tensor), layout of its output."""


@dataclass(frozen=True, kw_only=True)
class Cut:
    """An image network as stages whose composition, pooled and classified, equals its own forward pass."""

    stages: tuple[Stage, ...]
    width: int
    pooling: str = "mean"
    classifier: nn.Linear | None = None
    """Pooled (B, D) -> logits; None where the network has none of that form."""

    def backbone(self, *, image: Image, builder: Builder, classes: Classes = None, report: LoadReport | None = None) -> Backbone:
        """Return the backbone; its depthwise convolutions become ones that learn quickly. `classes` are the classifier's, if it has one."""
        out = Backbone(
            stages=[(name, TensorStage(module, layout)) for name, module, layout in self.stages],
            modality=image,
            layout=self.stages[-1][2],
            width=self.width,
            builder=builder,
            readout=Readout(pooling=self.pooling),
            classifier=None if self.classifier is None else Classifier(layer=self.classifier, classes=classes),
        )
        out.report = report
        quicken(out.stages)
        return out


class Part(nn.Module):
    """What runs a part of a network that is not one of its modules; holds only the children and parameters named."""

    def __init__(self, network: nn.Module, run: Callable[..., Tensor], keep: Iterable[str]) -> None:
        super().__init__()
        self.network = copy.copy(network)  # shallow: what it keeps is shared with the network
        kept = set(keep)
        for kind in ("_modules", "_parameters", "_buffers"):
            setattr(self.network, kind, {name: value for name, value in getattr(network, kind).items() if name in kept})
        self.run = run

    def forward(self, x: Tensor) -> Tensor:
        """Return `run(network, x)`."""
        return self.run(self.network, x)


class Uninitialised(TorchFunctionMode):
    """Within it, networks are built without drawing random weights, for those that are loaded next: up to twice as fast."""

    _DRAWS = (torch.Tensor.normal_, torch.Tensor.uniform_, torch.nn.init.trunc_normal_)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if func in self._DRAWS else func(*args, **(kwargs or {}))


def row(*modules: nn.Module) -> nn.Sequential:
    """Return modules in a row."""
    return nn.Sequential(*modules)


def after_each(layers: Iterable[nn.Module], *kinds: type[nn.Module]) -> list[nn.Sequential]:
    """Cut layers in a row after every one of some kinds."""
    parts: list[list[nn.Module]] = [[]]
    for layer in layers:
        parts[-1].append(layer)
        if isinstance(layer, kinds):
            parts.append([])
    return [row(*part) for part in parts if part]


def numbered(name: str, modules: Iterable[nn.Module], layout: Layout = "map") -> list[Stage]:
    """Return stages called name1, name2 and so on."""
    return [(f"{name}{i + 1}", module, layout) for i, module in enumerate(modules)]


def channels_first(*modules: nn.Module) -> nn.Sequential:
    """Return modules that work on (B, H, W, C) in a row, taking and giving (B, C, H, W); nothing is copied."""
    return row(Permute(0, 2, 3, 1), *modules, Permute(0, 3, 1, 2))


class Permute(nn.Module):
    """Permutes dimensions."""

    def __init__(self, *order: int) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        """Return a view."""
        return x.permute(self.order)
