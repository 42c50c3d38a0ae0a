"""What strategies change, open and compute: low-rank updates, rates of stages, heads without training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pretune.backbones._base import Classifier
from pretune.errors import SettingError
from pretune.models import Model
from pretune.models.heads.linear import Linear
from pretune.models.heads.mlp import MLP
from pretune.strategies._base import Defaults, suggested
from pretune.strategies.direct import Direct
from pretune.strategies.full import Full
from pretune.strategies.linear_probe import LinearProbe
from pretune.strategies.lora import LoRA
from pretune.strategies.partial import Partial
from pretune.strategies.scratch import Scratch
from pretune.tasks import Space
from pretune.training.optim import Optim
from pretune.types import Features
from tests.conftest import WIDTH, tiny_backbone

X = torch.randn(5, 4, generator=torch.Generator().manual_seed(3))


def model_of(outputs: int = 3, **backbone: Any) -> Model:
    return Model(tiny_backbone(**backbone), Linear(), outputs).eval()


def features(model: Model) -> Tensor:
    """Return what the head takes, (5, WIDTH)."""
    out = Features(tensor=X, layout="raw")
    for stage in list(model.stages.values())[:-1]:
        out = stage(out)
    return out.tensor.detach()


def learning(model: nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


# --- low-rank updates ----------------------------------------------------------------------------


def adapters(model: Model, stage: str) -> dict[str, Tensor]:
    """Return A (rank, in) and B (out, rank) of a stage with one adapted layer."""
    found = {name: p for name, p in model.stages[stage].named_parameters() if "lora_" in name}
    return {which: next(p for name, p in found.items() if f"lora_{which}" in name) for which in "AB"}


@pytest.mark.parametrize(("rank", "alpha"), [(2, 6), (3, 3), (1, 16)])
def test_a_low_rank_update_is_scaled_by_alpha_over_rank_and_merged(rank: int, alpha: int) -> None:
    model, plain = model_of(), model_of()
    before = features(model)
    strategy = LoRA(rank=rank, alpha=alpha)
    strategy.prepare(model.eval())
    model.eval()
    torch.testing.assert_close(features(model), before, msg="an update begins with nothing")
    with torch.no_grad():
        for stage in ("stem", "last"):
            pair = adapters(model, stage)
            assert pair["A"].shape[0] == pair["B"].shape[1] == rank
            nn.init.normal_(pair["B"])
            plain.stages[stage].module.weight += alpha / rank * pair["B"] @ pair["A"]
    torch.testing.assert_close(features(model), features(plain))
    assert not torch.allclose(features(plain), before)
    strategy.finish(model)
    assert set(model.state_dict()) == set(plain.state_dict()), "what is saved is a plain network"
    torch.testing.assert_close(model.stages["last"].module.weight, plain.stages["last"].module.weight)
    torch.testing.assert_close(features(model), features(plain))


def test_lora_trains_the_adapters_and_the_head_only_and_only_in_the_last_stages() -> None:
    model = model_of()
    strategy = LoRA(rank=2, last=1)
    strategy.prepare(model)
    probe, lora = strategy.phases(3)
    strategy.apply(model, probe)
    assert learning(model) == {"stages.head.layers.weight", "stages.head.layers.bias"}
    strategy.apply(model, lora)
    adapted = learning(model) - {"stages.head.layers.weight", "stages.head.layers.bias"}
    assert len(adapted) == 2
    assert all(name.startswith("stages.last.") and "lora_" in name for name in adapted)
    assert model.names[model.boundary] == "last"
    with pytest.raises(SettingError, match=r"strategy\.last is 4"):
        LoRA(last=4).phases(3)


def test_loras_dropout_is_before_the_update() -> None:
    model = model_of()
    LoRA(dropout=0.5).prepare(model)
    rates = {module.p for stage in ("stem", "last") for module in model.stages[stage].modules() if isinstance(module, nn.Dropout)}
    assert rates == {0.5}


# --- what learns, and how fast -------------------------------------------------------------------


def scales(strategy: Any, model: Model, phase: Any) -> dict[str, float]:
    """Return the factor of each parameter's rate, by stage; one of them all in a stage."""
    out: dict[str, set[float]] = {}
    for group in strategy.apply(model, phase):
        for name, _ in group:
            out.setdefault(name.split(".")[1], set()).add(group.lr_scale)
    assert all(len(found) == 1 for found in out.values())
    return {stage: found.pop() for stage, found in out.items()}


def test_rates_fall_from_stage_to_stage_towards_the_input() -> None:
    model, whole = model_of(), Full(lr_decay=0.5)
    assert scales(whole, model, whole.phases(3)[-1]) == pytest.approx({"stem": 0.25, "middle": 0.5, "last": 1.0, "head": 1.0})
    partial = Partial(last=2, lr_decay=0.1)
    assert scales(partial, model, partial.phases(3)[-1]) == pytest.approx({"middle": 0.1, "last": 1.0, "head": 1.0})
    scratch = Scratch()
    assert set(scales(scratch, model, scratch.phases(3)[0]).values()) == {1.0}
    optimizer = Optim(name="sgd").build(whole.apply(model, whole.phases(3)[-1]), lr=0.4, weight_decay=0.1)
    rates = {name.split(".")[1]: group["lr"] for group in optimizer.param_groups for name in group["names"]}
    assert rates == pytest.approx({"stem": 0.1, "middle": 0.2, "last": 0.4, "head": 0.4})


def test_gradual_unfreezing_opens_one_stage_more_a_phase() -> None:
    model, strategy = model_of(), Partial(last=3, gradual=True)
    phases = strategy.phases(3)
    opened = []
    for phase in phases:
        strategy.apply(model, phase)
        opened.append({name.split(".")[1] for name in learning(model)} - {"head"})
    assert opened == [set(), {"last"}, {"middle", "last"}, {"stem", "middle", "last"}]
    assert sum(phase.share for phase in phases) == pytest.approx(1.0)
    assert [phase.open for phase in Partial(last=3).phases(3)] == [0, 3]
    with pytest.raises(SettingError, match=r"strategy\.last is 4"):
        Partial(last=4).phases(3)


def test_a_probe_comes_first_unless_it_is_switched_off() -> None:
    assert [phase.open for phase in Full().phases(3)] == [0, None]
    assert [phase.open for phase in Full(probe_first=False).phases(3)] == [None]
    assert [phase.open for phase in LinearProbe().phases(3)] == [0]
    probe = Full().phases(3)[0]
    assert probe.epochs is not None, "it has epochs of its own"
    assert probe.share == 0


@pytest.mark.parametrize("strategy", [Full, Partial])
def test_norms_are_kept_or_moved_as_asked(strategy: Any) -> None:
    for freeze in (True, False):
        model = model_of()
        made = strategy(freeze_norms=freeze)
        made.prepare(model)
        made.apply(model, made.phases(3)[-1])
        before = model.stages["middle"].module[0].running_mean.clone()
        model.train()
        model(Features(tensor=X, layout="raw"))
        assert torch.equal(model.stages["middle"].module[0].running_mean, before) == freeze


def test_few_steps_an_epoch_get_more_epochs() -> None:
    defaults = Defaults(lr=1.0, epochs=5, weight_decay=0.0, augment="none", least_steps=200)
    assert [defaults.epochs_over(steps) for steps in (1, 30, 100, 0)] == [200, 7, 5, 200]
    assert suggested(Full(), "text") == Full.by_modality["text"]
    assert suggested(Full(), "image") == Full.defaults


# --- heads without training ----------------------------------------------------------------------


def solved(z: np.ndarray, encoded: Tensor, space: Space, outputs: int, backbone: Any = None) -> tuple[Model, str, np.ndarray]:
    """Return the model, what it says, and its outputs for the training features."""
    backbone = backbone or tiny_backbone()
    model = Model(backbone, Linear(), outputs).eval()
    x = torch.from_numpy(z).float()
    model.head.fit(x)
    messages = Direct().solve(model, backbone, x, encoded, space)
    return model, messages, model.head(Features(tensor=x, layout="pooled")).detach().numpy()


def test_direct_takes_the_nearest_class_mean_of_standardised_features() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=60)
    z = (rng.normal(size=(60, WIDTH)) + 0.8 * rng.normal(size=(3, WIDTH))[y]) * 10.0 ** np.arange(WIDTH)
    _, messages, outputs = solved(z, torch.from_numpy(y), Space(classes=("a", "b", "c")), 3)
    scaled = (z - z.mean(0)) / z.std(0)
    means = np.stack([scaled[y == c].mean(0) for c in range(3)])
    distances = ((scaled[:, None] - means[None]) ** 2).sum(-1)
    assert (outputs.argmax(1) == distances.argmin(1)).all()
    assert "nearest class mean" in messages
    scores, mine = distances.mean(1, keepdims=True) - distances, outputs - outputs.mean(1, keepdims=True)
    ratio = (mine * scores).sum() / (scores**2).sum()
    np.testing.assert_allclose(mine, ratio * scores, atol=1e-3 * np.abs(mine).max())
    tried = np.logspace(-4, 1, 26)
    losses = [-np.log(_softmax(scores / 2 * t))[np.arange(60), y].mean() for t in tried]
    assert 2 * ratio == pytest.approx(tried[np.argmin(losses)], rel=1e-3), "at the temperature of the best likelihood"


def _softmax(scores: np.ndarray) -> np.ndarray:
    e = np.exp(scores - scores.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def test_direct_takes_ridge_regression_for_numbers() -> None:
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(0)
    z = rng.normal(size=(40, WIDTH))
    y = z[:, 0] - 2 * z[:, 1] + 0.1 * rng.normal(size=40)
    _, messages, outputs = solved(z, torch.from_numpy(y).float(), Space(), 1)
    scaled = (z - z.mean(0)) / z.std(0)
    np.testing.assert_allclose(outputs[:, 0], Ridge(alpha=0.1 * WIDTH).fit(scaled, y).predict(scaled), atol=1e-4)
    assert "ridge" in messages


def test_direct_takes_the_pretrained_rows_of_known_classes_by_name() -> None:
    backbone = tiny_backbone()
    layer = nn.Linear(WIDTH, 4)
    known = Classifier(layer=layer, classes=("goldfish", "Tabby_cat", "zebra", "crane"))
    backbone.classifier, backbone._classes = known.layer, known.classes
    z = np.random.default_rng(0).normal(size=(6, WIDTH)) * 5 + 3
    space = Space(classes=("crane", "tabby cat"))
    _, messages, outputs = solved(z, torch.tensor([0, 1] * 3), space, 2, backbone)
    assert "knows every class name" in messages
    theirs = layer(torch.from_numpy(z).float()).detach().numpy()
    np.testing.assert_allclose(outputs, theirs[:, [3, 1]], rtol=1e-5, atol=1e-5)
    _, messages, _ = solved(z, torch.tensor([0, 1] * 3), Space(classes=("crane", "unknown")), 2, backbone)
    assert "nearest class mean" in messages
    with pytest.raises(SettingError, match="leave head out"):
        Direct().solve(Model(backbone, MLP(), 2), backbone, torch.zeros(2, WIDTH), torch.tensor([0, 1]), space)


# --- heads and pooling ---------------------------------------------------------------------------


def test_heads_are_built_as_set() -> None:
    layers = list(MLP(hidden=7, layers=2, dropout=0.25).build(5, 3).layers.children())
    assert [(m.in_features, m.out_features) for m in layers if isinstance(m, nn.Linear)] == [(5, 7), (7, 7), (7, 3)]
    assert [m.p for m in layers if isinstance(m, nn.Dropout)] == [0.25, 0.25]
    assert [m.p for m in Linear(dropout=0.4).build(5, 3).layers.children() if isinstance(m, nn.Dropout)] == [0.4]


def test_what_rounding_leaves_of_a_constant_channel_is_silenced() -> None:
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    x[:, 1] = 1e4
    x[::2, 1] += 1e-3
    module = Linear().build(3, 2)
    module.fit(x)
    assert module.scale.tolist()[1] == 0.0
    assert (module.scale[[0, 2]] > 0.5).all()
