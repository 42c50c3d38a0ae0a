"""Shortcuts: the same outputs and gradients, only where it is right, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretune.architectures.layers.conv import ConvNorm
from pretune.kernels.shortcuts import Shortcuts, find

X = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def unlike(network: nn.Module) -> nn.Module:
    """Give norms statistics and scales as training would, and freeze them in a network that trains."""
    torch.manual_seed(1)
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            if module.affine:
                nn.init.uniform_(module.weight, -2.0, 2.0)
                nn.init.normal_(module.bias)
            module.eval()
    return network


def block(*, bias: bool = False, groups: int = 1, affine: bool = True) -> nn.Sequential:
    conv = nn.Conv2d(8, 8, 3, padding=1, bias=bias, groups=groups)
    return nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU6(inplace=True), conv, nn.BatchNorm2d(8, affine=affine), nn.ReLU(inplace=True)
    )


class Activated(nn.BatchNorm2d):
    """A norm with its activation inside, as timm has them."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), nn.SiLU()

    def forward(self, input: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(input)))


class Standardised(nn.Conv2d):
    """A convolution that normalises its kernel: its output does not follow the kernel's scale."""

    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(input, F.normalize(self.weight.flatten(1)).view_as(self.weight), self.bias, padding=self.padding)


class Tapped(nn.Module):
    """Uses a convolution's output beside its norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.norm(y) + y.abs()


class Repeated(nn.Module):
    """Calls one pair twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(self.norm(self.conv(x))))


class Peeking(nn.Module):
    """Uses a convolution's kernel a second time, by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)) + F.conv2d(x, self.conv.weight)


def found(network: nn.Module) -> Shortcuts:
    return find(network, lambda: network(X))


def gradients(network: nn.Module, shortcuts: Shortcuts) -> tuple[Tensor, dict[str, Tensor]]:
    network.zero_grad()
    with shortcuts.taken():
        out = network(X)
    out.square().mean().backward()
    return out.detach(), {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    "build",
    [
        block,
        lambda: block(bias=True),
        lambda: block(groups=8),
        lambda: block(affine=False),
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), Activated(8)),
    ],
    ids=["plain", "bias", "depthwise", "no affine", "activation inside"],
)
def test_outputs_and_gradients_are_those_of_the_norms(build: Callable[[], nn.Module]) -> None:
    network = unlike(build())
    shortcuts = found(network)
    assert len(shortcuts.pairs) == sum(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    plain, folds = gradients(network, Shortcuts()), gradients(network, shortcuts)
    torch.testing.assert_close(folds[0], plain[0], rtol=1e-4, atol=1e-5)
    assert folds[1].keys() == plain[1].keys()
    for name, gradient in plain[1].items():
        torch.testing.assert_close(folds[1][name], gradient, rtol=1e-3, atol=1e-5, msg=name)


def test_folded_norms_are_not_computed_and_all_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    network = unlike(block())
    shortcuts, before = found(network), dict(network.state_dict())
    with monkeypatch.context() as patch, shortcuts.taken():
        patch.setattr(F, "batch_norm", lambda *_, **__: pytest.fail("a folded norm was computed"))
        network(X)
    after = network.state_dict()
    assert all(after[name].data_ptr() == tensor.data_ptr() for name, tensor in before.items())
    assert all(isinstance(p, nn.Parameter) and p.is_leaf for p in network.parameters())
    assert all(module.training != isinstance(module, nn.BatchNorm2d) for module in network.modules())
    monkeypatch.setattr(F, "batch_norm", lambda *_, **__: (_ for _ in ()).throw(LookupError))
    with pytest.raises(LookupError):
        network(X)


def test_a_norm_that_trains_is_left_alone() -> None:
    network = unlike(block())
    shortcuts = found(network)
    network.train()
    before = network[1].running_mean.clone()
    with shortcuts.taken():
        network(X)
    assert not torch.equal(network[1].running_mean, before)


@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.Sequential(Standardised(3, 3, 1), nn.BatchNorm2d(3)),
        Tapped,
        Repeated,
        Peeking,
        lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)),
    ],
    ids=["standardised", "tapped", "repeated", "peeking", "norm first"],
)
def test_what_is_no_pair_stays_as_it_is(build: Callable[[], nn.Module]) -> None:
    assert found(unlike(build())).pairs == ()


def test_layers_that_fold_their_norms_themselves_are_not_folded_twice() -> None:
    network = unlike(nn.Sequential(ConvNorm(3, 8, 3), nn.Conv2d(8, 4, 1), nn.BatchNorm2d(4)))
    assert [conv for conv, _ in found(network).pairs] == [network[1]]


def test_observing_finds_the_widest_map_and_draws_nothing() -> None:
    network, state = unlike(block()), torch.get_rng_state()
    assert found(network).widest == 2 * 8 * 12 * 12 * 4
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("kind", [nn.ReLU6, nn.Hardtanh, nn.SiLU, nn.Hardswish])
def test_activations_give_the_same_gradients_and_save_less(kind: type[nn.Module], inplace: bool) -> None:
    network = unlike(
        nn.Sequential(nn.Conv2d(3, 8, 3), kind(inplace=inplace), nn.Conv2d(8, 8, 3), kind(inplace=inplace), nn.Conv2d(8, 2, 3))
    )
    plain, short = gradients(network, Shortcuts()), gradients(network, found(network))
    assert torch.equal(short[0], plain[0])
    assert all(torch.equal(short[1][name], gradient) for name, gradient in plain[1].items())
    assert all(network[i].inplace is inplace and "forward" not in vars(network[i]) for i in (1, 3))


def test_relu6_saves_its_output_alone() -> None:
    network = unlike(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU6(inplace=True), nn.Conv2d(8, 8, 3)))

    def saved(shortcuts: Shortcuts) -> int:
        tensors: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            tensors[tensor.data_ptr()] = tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), shortcuts.taken():
            network(X)
        return sum(tensors.values())

    assert saved(Shortcuts()) - saved(found(network)) == 2 * 8 * 10 * 10 * 4
