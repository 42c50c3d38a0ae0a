"""Weights in a file of yours for a named network, `FILE@torchvision:NAME`, or for your own, `FILE@my_module:make_model`."""

from __future__ import annotations

import importlib
import os
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pretune import config, registry
from pretune.backbones._base import Backbone, BackboneSource, Builder, TensorStage, load_matching
from pretune.backbones._prefixes import fit
from pretune.backbones._states import SUFFIXES, State, read_state
from pretune.errors import SettingError
from pretune.kernels.depthwise import quicken
from pretune.modalities.image import Image
from pretune.types import Layout

_LAYOUTS: dict[int, Layout] = {2: "pooled", 3: "sequence", 4: "map"}


@dataclass(frozen=True, kw_only=True)
class File(BackboneSource):
    """`file:PATH@NETWORK`: a state dict (.safetensors, .pth) and the network it belongs to.

    Where a file holds several sets of weights, `file:PATH@NETWORK,entry=NAME` takes one of them: a dictionary of the file
    (teacher, state_dict_ema) or a beginning of names (module.encoder_k).
    """

    def names(self, pattern: str = "") -> list[str]:
        """Return the weights files in the current folder."""
        return sorted(path.name for path in Path().iterdir() if path.suffix in SUFFIXES and pattern in path.name)

    def load(
        self, name: str, *, offline: bool = True, image_size: int | None = None, entry: str | None = None, **settings: Any
    ) -> Backbone:
        """Return the network with the file's tensors, all of them matched by name.

        Raises:
            SettingError: no network is named, or it cannot be found.
            WeightsError: the file is not there, holds code, or does not fit the network.
        """
        path, network = split_id(name)
        state = replace(read_state(Path(path).expanduser(), entry and str(entry)), id=f"file:{name}")
        backbone = _assemble(network, state, image_size, settings)
        backbone.builder = Builder(id=f"file:{name}", settings=backbone.builder.settings)
        return backbone

    def build(self, name: str, *, image_size: int | None = None, **settings: Any) -> Backbone:
        """Return the network with randomly initialised weights; the file is not read."""
        backbone = _assemble(split_id(name)[1], None, image_size, settings)
        backbone.builder = Builder(id=f"file:{name}", settings=backbone.builder.settings)
        return backbone


def split_id(name: str) -> tuple[str, str]:
    """Return path and network of 'PATH@NETWORK'; a network may itself hold an '@' (torchvision's choice of weights)."""
    sources = "|".join(registry.names("backbones"))
    match = re.fullmatch(rf"(.+?)@((?:{sources}):.+)", name) or re.fullmatch(r"(.+)@([\w.]+:\w+)", name)
    if match is None:
        raise SettingError(
            f"backbone=file:{name} does not say which network the file belongs to. "
            f"Write file:{name.partition('@')[0]}@torchvision:resnet18, @timm:NAME, @scratch:NAME, or @my_module:make_model for your own."
        )
    return match[1], match[2]


def _assemble(network: str, state: State | None, image_size: int | None, settings: dict[str, Any]) -> Backbone:
    kind, _, name = network.partition(":")
    if kind not in registry.names("backbones"):
        return _of_module(kind, name, state, image_size, settings)
    source: BackboneSource = registry.load("backbones", kind)()
    if state is None:
        return source.build(name, image_size=image_size, **settings)
    return source.from_state(name, state, image_size=image_size, **settings)


def _of_module(module: str, function: str, state: State | None, image_size: int | None, settings: dict[str, Any]) -> Backbone:
    """Return what a function of the person's own module makes: a Backbone, or an nn.Module as one stage."""
    made = _call(module, function, settings)
    if isinstance(made, Backbone):
        _load(made, made.stages, state)
        return made
    if not isinstance(made, nn.Module):
        raise SettingError(f"{module}:{function} returned {type(made).__name__}; it must return an nn.Module or a pretune Backbone.")
    image = _preprocessing(made, image_size, f"{module}:{function}")
    layout, width = _probe(made, image.size, f"{module}:{function}")
    quicken(made)
    stages = [("network", TensorStage(made, layout))]
    backbone = Backbone(stages=stages, modality=image, layout=layout, width=width, builder=Builder(id="", settings=settings))
    _load(backbone, made, state)
    return backbone


def _load(backbone: Backbone, network: nn.Module, state: State | None) -> None:
    if state is None:
        return
    state = fit(state, network.state_dict())
    backbone.report = load_matching(network, state.tensors, source=state.source)


def _call(module: str, function: str, settings: dict[str, Any]) -> Any:
    """Call a function of the person's module."""
    make = imported(module, function)
    try:
        return make(**settings)
    except AttributeError as error:
        raise SettingError(f"{module}:{function}: {error}.") from None
    except TypeError as error:
        raise SettingError(f"{module}:{function} does not take these settings: {error}.") from None


def imported(module: str, function: str) -> Any:
    """Import the person's module, from the current folder too, and return its function.

    Raises:
        SettingError: there is no such module, or it has no such function.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        where = f"Start pretune in the folder of {module}.py, or install it."
        raise SettingError(f"{module}:{function}: cannot import {error.name!r}. {where}") from None
    except AttributeError as error:
        raise SettingError(f"{module}:{function}: {error}.") from None


def _preprocessing(network: nn.Module, image_size: int | None, what: str) -> Image:
    """Return the network's own `preprocessing` (an Image, or a dict of its settings), or ImageNet's."""
    named = getattr(network, "preprocessing", None)
    if named is not None and not isinstance(named, Image | dict):
        raise SettingError(f"{what}: its `preprocessing` must be an Image or a dict of an Image's settings; it is {type(named).__name__}.")
    image = named if isinstance(named, Image) else config.build(Image, named or {}, f"{what}.preprocessing")
    if image_size is None:
        return image
    return replace(image, size=image_size, resize=max(image_size, round(image_size * image.resize / image.size)))


def _probe(network: nn.Module, size: int, what: str) -> tuple[Layout, int]:
    """Return layout and width of what the network gives for an image of its size."""
    network.eval()
    try:
        with torch.no_grad():
            out = network(torch.zeros(1, 3, size, size))
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise SettingError(f"{what} does not take a picture (1, 3, {size}, {size}): {str(error).splitlines()[0]}") from None
    if not isinstance(out, Tensor) or out.ndim not in _LAYOUTS:
        got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise SettingError(f"{what} must return one tensor (B, D), (B, T, D) or (B, C, H, W); it returned {got}.")
    return _LAYOUTS[out.ndim], out.shape[1] if out.ndim == 4 else out.shape[-1]
