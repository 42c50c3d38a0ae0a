"""Optimizers take torch's own steps, with a rate and a weight decay for each group."""

from __future__ import annotations

import inspect
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from pretune.errors import SettingError
from pretune.strategies._base import groups
from pretune.training.muon import Muon, orthogonal, wide
from pretune.training.optim import Name, Optim, clip, load_named_state, named_state
from pretune.training.plan import Precision
from pretune.training.step import Stepper
from pretune.types import ParamGroup
from tests.test_loop import CPU, Toy, ToyLoader, plan

TORCHS = [name for name in get_args(Name) if name != "muon"]


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 3))


def descend(module: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 4) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        optimizer.zero_grad()
        module(torch.randn(5, 4, generator=generator)).square().sum().backward()
        optimizer.step()


def apart(ours: nn.Module, theirs: nn.Module) -> list[str]:
    """Return the names of the tensors that differ by more than rounding."""
    pairs = zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True)
    return [name for (name, a), b in pairs if not torch.allclose(a, b, rtol=1.3e-6, atol=1e-5)]


@pytest.mark.parametrize("name", TORCHS)
def test_every_name_takes_the_steps_of_its_class_in_torch(name: Any) -> None:
    cls = next(c for n, c in vars(torch.optim).items() if n.lower() == name and isinstance(c, type))
    options: dict[str, Any] = {"lr": 0.01}
    if "weight_decay" in inspect.signature(cls).parameters:
        options["weight_decay"] = 0.1
    if name == "sgd":
        options["momentum"] = 0.9
    mine, theirs = network(), network()
    group = ParamGroup(name="all", params=tuple(mine.named_parameters()))
    descend(mine, Optim(name=name).build([group], lr=0.01, weight_decay=0.1))
    descend(theirs, cls(theirs.parameters(), **options))
    assert apart(mine, theirs) == []
    assert not torch.equal(mine[0].weight, network()[0].weight)


@pytest.mark.parametrize(
    ("settings", "make"),
    [
        ({"name": "sgd", "momentum": 0.5}, lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.5)),
        ({"name": "sgd", "nesterov": True}, lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True)),
        ({"name": "rmsprop", "momentum": 0.3}, lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.3)),
        ({"name": "adamw", "beta1": 0.5}, lambda p: torch.optim.AdamW(p, lr=0.01, betas=(0.5, 0.999), weight_decay=0)),
        ({"name": "adam", "beta1": 0.8, "beta2": 0.9}, lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.8, 0.9))),
    ],
)
def test_settings_are_those_of_torch(settings: dict[str, Any], make: Any) -> None:
    mine, theirs = network(), network()
    descend(mine, Optim(**settings).build([ParamGroup(name="all", params=tuple(mine.named_parameters()))], lr=0.01, weight_decay=0.0))
    descend(theirs, make(theirs.parameters()))
    assert apart(mine, theirs) == []
    assert apart(mine, network()) == [*mine.state_dict()]


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "adamw", "momentum": 0.9},
        {"name": "adagrad", "beta1": 0.9},
        {"nesterov": True},
        {"name": "muon", "nesterov": True},
        {"name": "rmsprop", "nesterov": True},
    ],
)
def test_settings_that_an_optimizer_lacks_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=r"optim.* not used by optim="):
        Optim(**settings).build([ParamGroup(name="all", params=tuple(network().named_parameters()))], lr=0.01, weight_decay=0.0)


def test_biases_and_norms_do_not_decay() -> None:
    made = groups("all", network(), "net")
    decayed = {name for group in made if group.decay for name, _ in group}
    assert decayed == {"net.0.weight", "net.2.weight"}
    assert {name for group in made if not group.decay for name, _ in group} == {"net.0.bias", "net.1.weight", "net.1.bias", "net.2.bias"}
    module = network()
    optimizer = Optim().build(groups("all", module, ""), lr=0.1, weight_decay=0.5)
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(module[0].weight, network()[0].weight * (1 - 0.1 * 0.5))
    assert torch.equal(module[1].weight, network()[1].weight)
    assert torch.equal(module[0].bias, network()[0].bias)


def test_each_group_has_its_own_rate() -> None:
    module = network()
    parts = [ParamGroup(name=str(i), params=((f"{i}.weight", module[i].weight),), lr_scale=scale) for i, scale in ((0, 0.1), (2, 1.0))]
    optimizer = Optim(name="sgd", momentum=0.0).build(parts, lr=0.5, weight_decay=0.0)
    for i in (0, 2):
        module[i].weight.grad = torch.ones_like(module[i].weight)
    optimizer.step()
    torch.testing.assert_close(network()[0].weight - module[0].weight, torch.full((6, 4), 0.05))
    torch.testing.assert_close(network()[2].weight - module[2].weight, torch.full((3, 6), 0.5))


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_gradients_below_the_bound_are_not_scaled(name: Any) -> None:
    mine, theirs = network(), network()
    for module in (mine, theirs):
        optimizer = Optim(name=name).build([ParamGroup(name="all", params=tuple(module.named_parameters()))], lr=0.1, weight_decay=0.0)
        (1e-3 * module(torch.ones(2, 4)).sum()).backward()
        if module is mine:
            clip(optimizer, 100.0)
        optimizer.step()
    assert apart(mine, theirs) == []


def test_state_is_kept_by_name_whatever_the_order_of_groups() -> None:
    module = network()
    params = tuple(module.named_parameters())
    first = Optim().build([ParamGroup(name="all", params=params)], lr=0.1, weight_decay=0.0)
    descend(module, first)
    saved = named_state(first)
    assert set(saved) == {name for name, _ in params}
    second = Optim().build([ParamGroup(name="back", params=params[::-1])], lr=0.1, weight_decay=0.0)
    load_named_state(second, saved)
    for _, parameter in params:
        assert torch.equal(second.state[parameter]["exp_avg"], first.state[parameter]["exp_avg"])


# --- Muon ----------------------------------------------------------------------------------------


def test_orthogonal_turns_singular_values_into_about_one_and_keeps_their_directions() -> None:
    torch.manual_seed(0)
    matrices = torch.randn(3, 4, 9)
    u, s, v = torch.linalg.svd(matrices, full_matrices=False)
    out = orthogonal(matrices).float()
    inner = u.transpose(1, 2) @ out @ v.transpose(1, 2)
    values = torch.diagonal(inner, dim1=1, dim2=2)
    assert ((values > 0.6) & (values < 1.3)).all(), "Newton-Schulz reaches about [0.7, 1.2]"
    assert (inner - torch.diag_embed(values)).abs().max() < 0.1
    assert s.max() > 2 * s.min()


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
def test_muon_is_torchs_scaled_to_adamws_size(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    start, gradients = torch.randn(shape), torch.randn(3, *shape)
    mine, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    table = {"params": [mine], "hidden": True, "lr": 0.05, "weight_decay": 0.2}
    ours = Muon([table], lr=0.05, momentum=0.9, betas=(0.9, 0.95), rest=torch.optim.AdamW)
    torchs = torch.optim.Muon([theirs], lr=0.05, momentum=0.9, weight_decay=0.2, nesterov=True, adjust_lr_fn="match_rms_adamw")
    for gradient in gradients:
        mine.grad, theirs.grad = gradient.clone(), gradient.clone()
        ours.step()
        torchs.step()
    moved = (theirs - start).norm()
    assert (mine - theirs).norm() < 0.03 * moved, "both iterate in bfloat16"


def test_kernels_are_taken_as_matrices_and_alike_shapes_together() -> None:
    assert wide(torch.zeros(8, 2, 3)).shape == (6, 8)
    assert wide(torch.zeros(4, 2, 3)).shape == (4, 6)
    torch.manual_seed(0)
    kernel, tall, other = nn.Parameter(torch.randn(8, 2, 3)), nn.Parameter(torch.randn(8, 6)), nn.Parameter(torch.randn(6, 8))
    gradient = torch.randn(8, 6)
    kernel.grad, tall.grad, other.grad = gradient.clone().view(8, 2, 3), gradient.clone(), gradient.t().clone()
    before = [p.detach().clone() for p in (kernel, tall, other)]
    table = {"params": [kernel, tall, other], "hidden": True, "lr": 0.1, "weight_decay": 0.0}
    Muon([table], lr=0.1, momentum=0.95, betas=(0.9, 0.95), rest=torch.optim.AdamW).step()
    steps = [(p.detach() - b).flatten(1) for p, b in zip((kernel, tall, other), before, strict=True)]
    torch.testing.assert_close(steps[0], steps[1])
    torch.testing.assert_close(steps[2].t(), steps[1])


def test_muon_leaves_the_rest_to_adamw() -> None:
    mine, theirs = network(), network()
    parts = [
        ParamGroup(name="hidden", params=(("0.weight", mine[0].weight),), hidden=True),
        ParamGroup(name="rest", params=(("2.weight", mine[2].weight), ("2.bias", mine[2].bias))),
    ]
    ours = Optim(name="muon").build(parts, lr=0.01, weight_decay=0.1)
    adamw = torch.optim.AdamW([theirs[2].weight, theirs[2].bias], lr=0.01, betas=(0.9, 0.95), weight_decay=0.1)
    gradients: list[Tensor] = [torch.randn(p.shape, generator=torch.Generator().manual_seed(2)) for p in mine.parameters()]
    for _ in range(3):
        for module in (mine, theirs):
            for parameter, gradient in zip(module.parameters(), gradients, strict=True):
                parameter.grad = gradient.clone()
        ours.step()
        adamw.step()
    torch.testing.assert_close(mine[2].weight, theirs[2].weight)
    torch.testing.assert_close(mine[2].bias, theirs[2].bias)
    assert not torch.equal(mine[0].weight, theirs[0].weight)


# --- a step --------------------------------------------------------------------------------------


def test_the_step_clips_the_gradient_of_the_whole_batch() -> None:
    stepped = {}
    for clipped in (None, 0.25):
        learner = Toy().eval()
        before = torch.cat([p.detach().flatten() for p in learner.parameters()])
        optimizer = Optim(name="sgd", momentum=0.0).build(groups("all", learner.net, "net"), lr=1.0, weight_decay=0.0)
        Stepper(learner, optimizer, plan(clip=clipped, precision=Precision(micro_batch=2)), CPU.device)(next(ToyLoader().iterate(0)))
        stepped[clipped] = torch.cat([p.detach().flatten() for p in learner.parameters()]) - before
    assert float(stepped[None].norm()) > 0.5
    assert float(stepped[0.25].norm()) == pytest.approx(0.25, rel=1e-4)
    torch.testing.assert_close(stepped[0.25] / 0.25, stepped[None] / stepped[None].norm(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("micro_batch", [None, 1, 2, 4, 6])
def test_the_step_is_that_of_the_whole_batchs_mean_loss(micro_batch: int | None) -> None:
    """Six items, in parts of equal and of unequal size."""
    batch = next(ToyLoader().iterate(0))
    plain, learner = Toy().eval(), Toy().eval()
    plain(batch).loss.backward()
    optimizer = Optim(name="sgd", momentum=0.0).build(groups("all", learner.net, "net"), lr=1.0, weight_decay=0.0)
    out = Stepper(learner, optimizer, plan(clip=None, precision=Precision(micro_batch=micro_batch)), CPU.device)(batch)
    assert float(out.loss) == pytest.approx(float(plain(batch).loss.detach()), rel=1e-5)
    for parameter, reference in zip(learner.parameters(), plain.parameters(), strict=True):
        assert reference.grad is not None
        torch.testing.assert_close(parameter.detach(), reference.detach() - reference.grad, atol=1e-5, rtol=1e-5)
