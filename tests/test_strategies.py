"""Every strategy on every packaged backbone, and every pooling: applied, one step, saved, read back, equal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pretune import backbones, registry
from pretune.architectures.layers.conv import SameConv2d
from pretune.backbones import Backbone
from pretune.backbones._packages import TABLE
from pretune.errors import SettingError
from pretune.labels import Labels
from pretune.modalities.audio import Audio
from pretune.modalities.text import Text
from pretune.models import Model, SupervisedLearner
from pretune.models.heads.linear import Linear
from pretune.models.model import HEAD
from pretune.models.pooling import LAYERS, POOLINGS
from pretune.strategies.lora import LoRA, _adaptable
from pretune.tasks._base import LossSettings, Space
from pretune.tasks.classification import Classification
from pretune.training.checkpoint import load_by_name
from pretune.types import Batch, Features

SMALL: dict[str, dict[str, Any]] = {
    "smollm2": {"layers": 2, "vocabulary": 300},
    "minilm": {"layers": 2, "vocabulary": 300},
    "whisper_base": {"layers": 2},
    "crepe": {"capacity": 4},
}
"""Packaged networks of the same build with fewer or smaller layers, so that each takes a fraction of a second."""
NAMES = sorted(TABLE)
IMAGES = [name for name in NAMES if TABLE[name].modality == "image"]
SPACE = Space(classes=("a", "b"))
TARGETS = torch.tensor([0, 1, 0, 1])


def packaged(name: str) -> Backbone:
    """Return a packaged network with randomly initialised weights: the package need not be installed."""
    torch.manual_seed(0)
    backbone = registry.load("backbones", "package")().build(name, **SMALL.get(name, {}))
    kind = registry.name_of(backbone.modality)
    if kind == "image":
        backbone.modality = replace(backbone.modality, size=64, resize=64)
    if kind == "audio":
        backbone.modality = replace(backbone.modality, seconds=0.4, shortest=0.0)
    return backbone


def raw(backbone: Backbone) -> Features:
    """Return four items as they are collated: of unequal length where they may be."""
    rng, modality = np.random.default_rng(0), backbone.modality
    if isinstance(modality, Text):
        mask = torch.arange(7) < torch.tensor([7, 4, 6, 3])[:, None]
        return Features(tensor=torch.from_numpy(rng.integers(1, 300, (4, 7))) * mask, layout="raw", mask=mask)
    if isinstance(modality, Audio):
        sounds = [rng.normal(0, 0.1, int(modality.window * share)).astype(np.float16) for share in (1, 0.5, 0.8, 0.6)]
        return modality.collate(sounds)
    return modality.collate([rng.integers(0, 255, (64, 64, 3)).astype(np.uint8) for _ in range(4)])


def step(backbone: Backbone, strategy: Any, model: Model) -> None:
    """Apply every phase and take one step of each; strategies without a gradient compute their head."""
    strategy.prepare(model)
    batch = Batch(inputs=raw(backbone), labels=Labels.of(TARGETS), index=torch.arange(4))
    learner = SupervisedLearner(model, Classification().loss(SPACE, Labels.of(TARGETS), LossSettings()))
    for phase in strategy.phases(len(model.body)):
        groups = strategy.apply(model, phase)
        model.train()
        if not strategy.trains:
            features = batch.inputs
            with torch.no_grad():
                for stage in list(model.stages.values())[:-1]:
                    features = stage(features)
            model.head.fit(features.tensor)
            strategy.solve(model, backbone, features.tensor, TARGETS, SPACE)
            continue
        params = [p for group in groups for _, p in group]
        loss = learner(batch).loss
        loss.backward()
        assert torch.isfinite(loss)
        reached = [p for p in params if p.grad is not None and p.grad.abs().sum() > 0]
        assert reached, "something learns"
        torch.optim.SGD(params, lr=1e-2).step()
        model.zero_grad()


def read_back(backbone: Backbone, model: Model, folder: Path) -> Model:
    """Save as a run does and return what a run's reader makes of it."""
    backbones.save(backbone, folder / "backbone")
    save_file({k: v.contiguous() for k, v in model.state_dict().items() if k.startswith(f"stages.{HEAD}.")}, folder / "head.safetensors")
    again = Model(backbones.read(folder / "backbone"), Linear(), 2, model.pooling)
    load_by_name(again, load_file(folder / "head.safetensors"))
    return again.eval()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("strategy", registry.names("strategies"))
def test_every_strategy_on_every_packaged_backbone(tmp_path: Path, name: str, strategy: str) -> None:
    backbone = packaged(name)
    settings = {"last": 1} if strategy == "partial" else {}
    component = registry.load("strategies", strategy)(**settings)
    model = Model(backbone, Linear(), 2)
    step(backbone, component, model)
    model.eval()
    with torch.no_grad():
        before = model(raw(backbone))
        component.finish(model)
        after = model(raw(backbone))
        told = read_back(backbone, model, tmp_path)(raw(backbone))
    assert torch.allclose(before, after, atol=1e-4), "what is served computes what was trained"
    assert torch.allclose(after, told, atol=1e-5)


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("strategy", ["linear_probe", "full", "lora"])
def test_image_networks_look_at_spectrograms(tmp_path: Path, name: str, strategy: str) -> None:
    backbone = packaged(name)
    context = Audio.from_image(backbone.modality)
    assert context is not None
    backbone.modality = replace(context, seconds=0.4)
    component, model = registry.load("strategies", strategy)(), Model(backbone, Linear(), 2)
    step(backbone, component, model)
    component.finish(model)
    with torch.no_grad():
        assert torch.allclose(model.eval()(raw(backbone)), read_back(backbone, model, tmp_path)(raw(backbone)), atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_every_pooling_that_applies(name: str) -> None:
    backbone = packaged(name)
    for pooling in (*POOLINGS, LAYERS):
        if pooling == LAYERS and not backbone.layered:
            with pytest.raises(SettingError, match="layers of one width"):
                Model(backbone, Linear(), 2, pooling)
            continue
        model = Model(backbone, Linear(), 2, pooling)
        with torch.no_grad():
            assert torch.isfinite(model.eval()(raw(backbone))).all(), pooling


@pytest.mark.parametrize("name", [*(f"package:{name}" for name in NAMES), *(f"scratch:{name}" for name in registry.names("architectures"))])
def test_what_is_of_one_width_is_called_layered(name: str) -> None:
    """`pooling=layers` is refused exactly where a stage gives something else than a sequence of the network's width."""
    backbone = packaged(name.removeprefix("package:")) if name.startswith("package:") else fresh(name)
    features, widths = backbone.modality.normaliser()(raw(backbone)), []
    backbone.eval()
    with torch.no_grad():
        for stage in backbone.stages.values():
            features = stage(features)
            widths.append(features.tensor.shape[-1] if features.layout == "sequence" else None)
    assert backbone.layered == (len(widths) > 2 and set(widths) == {backbone.width}), widths


def fresh(name: str) -> Backbone:
    """Return a small network of an architecture of our own."""
    torch.manual_seed(0)
    small = {"vocabulary": 300} if "vocabulary" in _keys(name) else {}
    backbone = backbones.build(backbones.Builder(id=name, settings=small))
    kind = registry.name_of(backbone.modality)
    if kind == "image":
        backbone.modality = replace(backbone.modality, size=64, resize=64)
    if kind == "audio":
        backbone.modality = replace(backbone.modality, seconds=0.4, shortest=0.0)
    return backbone


class Standardised(nn.Conv2d):
    """A convolution that computes with its weights divided by their deviation, as timm's StdConv2d."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve."""
        return torch.nn.functional.conv2d(x, self.weight / self.weight.std(), self.bias, self.stride, self.padding)


class Sized(nn.Conv2d):
    """A convolution with a constructor of its own."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width, 3)


@pytest.mark.parametrize(
    ("layer", "adapted"),
    [
        (nn.Linear(4, 4), True),
        (nn.Conv1d(4, 4, 3, stride=2, padding=1), True),
        (nn.Conv2d(4, 4, 3, padding=1), True),
        (SameConv2d(4, 4, 3), True),
        (nn.Conv2d(4, 4, 3, groups=4), False),
        (nn.Conv2d(4, 4, 3, dilation=2), False),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), False),
        (Standardised(4, 4, 3), False),
        (Sized(4), False),
        (nn.MultiheadAttention(4, 2).out_proj, False),
    ],
)
def test_lora_adapts_what_it_can_merge_and_nothing_else(layer: nn.Module, adapted: bool) -> None:
    """peft leaves out dilation and padding_mode, builds from the layer's class, and merges weights as they are."""
    assert _adaptable(layer) == adapted


@pytest.mark.parametrize("network", ["resnet18", "vit_b_16", "efficientnet_b0"])
def test_lora_reaches_every_adapter_of_a_torchvision_network(network: str) -> None:
    """An adapter that nothing calls would have no gradient."""
    torch.manual_seed(0)
    backbone = backbones.build(backbones.Builder(id=f"torchvision:{network}", settings={}))
    model, component = Model(backbone, Linear(), 2), LoRA(last=2)
    component.prepare(model)
    component.apply(model, component.phases(len(model.body))[-1])
    for module in model.modules():
        if hasattr(module, "lora_B"):
            nn.init.normal_(module.lora_B["default"].weight, std=0.01)
    size = 224 if network.startswith("vit") else 64
    images = Features(tensor=torch.randint(0, 255, (2, 3, size, size), dtype=torch.uint8), layout="raw")
    head = model.head.layers
    assert isinstance(head, nn.Linear)
    nn.init.normal_(head.weight)
    model(images).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for n, p in model.named_parameters() if "lora_" in n)
    with torch.no_grad():
        before = model.eval()(images)
        component.finish(model)
        assert torch.allclose(before, model(images), atol=1e-4)


def _keys(name: str) -> list[str]:
    from pretune import config

    return config.keys(registry.load("architectures", name.removeprefix("scratch:")))
