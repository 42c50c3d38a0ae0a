"""Models: the boundary, frozen means frozen, pooling that padding cannot reach."""

import pytest
import torch

from pretune import registry
from pretune.errors import SettingError
from pretune.models import Model
from pretune.models.heads.linear import Linear
from pretune.models.heads.mlp import MLP
from pretune.models.pooling import POOLINGS, Pool
from pretune.types import Features
from tests.conftest import tiny_backbone


def tiny_model() -> Model:
    return Model(tiny_backbone(dropout=0.5), Linear(), 3)


def raw(items: int = 8) -> Features:
    return Features(tensor=torch.randn(items, 4, generator=torch.Generator().manual_seed(1)), layout="raw")


@pytest.mark.parametrize("strategy", registry.names("strategies"))
def test_every_strategy_gives_phases_and_groups_that_are_exactly_what_learns(strategy: str) -> None:
    model = tiny_model()
    component = registry.load("strategies", strategy)()
    component.prepare(model)
    phases = component.phases(len(model.body))
    assert phases
    for phase in phases:
        groups = component.apply(model, phase)
        grouped = [id(p) for group in groups for _, p in group]
        learning = [id(p) for p in model.parameters() if p.requires_grad]
        assert len(grouped) == len(set(grouped)), "no parameter is in two groups"
        assert set(grouped) == set(learning)
        assert bool(learning) == component.trains
        names = dict(model.named_parameters())
        assert all(names[name] is p for group in groups for name, p in group), "groups carry the model's own names"


def test_the_boundary_is_where_the_first_trainable_parameter_is() -> None:
    model = tiny_model()
    expected = {"linear_probe": "head", "full": "stem", "partial": "middle"}
    for name, first in expected.items():
        strategy = registry.load("strategies", name)()
        strategy.apply(model, strategy.phases(3)[-1])
        assert model.names[model.boundary] == first


def test_frozen_stages_stay_in_eval_mode_and_give_the_same_output_twice() -> None:
    model = tiny_model()
    probe = registry.load("strategies", "linear_probe")()
    probe.apply(model, probe.phases(3)[0])
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert torch.equal(model(raw()), model(raw()))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items()), "norm statistics do not move"


def test_going_on_from_the_boundary_equals_running_it_all() -> None:
    model = tiny_model().eval()
    features = raw()
    for stage in list(model.stages.values())[:3]:
        features = stage(features)
    assert torch.allclose(model(features, start=3), model(raw()))


def test_freeze_norms_keeps_statistics_of_open_stages() -> None:
    model = tiny_model()
    model.requires_grad_(True)
    model.freeze_norms = True
    model.train()
    norm = model.stages["middle"].module[0]
    before = norm.running_mean.clone()
    model(raw())
    assert torch.equal(norm.running_mean, before)


@pytest.mark.parametrize("kind", POOLINGS)
def test_padding_never_leaks_into_pooling(kind: str) -> None:
    x = torch.randn(2, 5, 3)
    mask = torch.tensor([[True] * 5, [True, True, True, False, False]])
    garbage = x.clone()
    garbage[1, 3:] = 1e6
    pooled = [Pool(kind)(Features(tensor=t, layout="sequence", mask=mask)).tensor for t in (x, garbage)]
    assert torch.equal(*pooled)
    short = Pool(kind)(Features(tensor=x[1:, :3], layout="sequence")).tensor
    assert torch.allclose(pooled[0][1:], short, atol=1e-6)


def test_unknown_pooling_names_the_nearest() -> None:
    with pytest.raises(SettingError, match="Did you mean 'mean'"):
        Pool("maen")


@pytest.mark.parametrize("head", [Linear(), MLP(hidden=4)])
def test_heads_start_at_the_prior_and_standardise(head: Linear | MLP) -> None:
    module = head.build(5, 2)
    x = torch.randn(40, 5) * torch.tensor([1e3, 1.0, 1e-3, 0.0, 5.0]) + 7
    module.fit(x)
    assert torch.equal(module(Features(tensor=x, layout="pooled")), torch.zeros(40, 2))
    z = (x - module.mean) * module.scale
    assert torch.allclose(z.std(0, correction=0), torch.tensor([1.0, 1.0, 1.0, 0.0, 1.0]), atol=1e-3)
