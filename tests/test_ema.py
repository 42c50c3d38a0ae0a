"""The moving average of the weights: its formula, and that it is what is measured, kept and saved."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from pretune.training.checkpoint import Checkpoints
from pretune.training.ema import MovingAverage
from pretune.training.loop import Evaluation
from tests.checkpoints import latest
from tests.test_loop import Toy, events_of


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def weight(learner: Toy, layer: int) -> Tensor:
    """Return a copy of a layer's weight as it is now."""
    return weights_of(learner.net)[f"{layer}.weight"]


def test_the_average_follows_the_weights_by_its_decay() -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, 10.0)
    average = MovingAverage(module, 0.9)
    expected = 10.0
    for step, value in ((1000, 20.0), (1001, 0.0), (1002, 5.0)):
        nn.init.constant_(module.weight, value)
        average.update(step)
        expected = 0.9 * expected + 0.1 * value
        torch.testing.assert_close(average.average["weight"].item(), expected)


def test_a_young_average_follows_faster() -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, 0.0)
    average = MovingAverage(module, 0.999)
    nn.init.constant_(module.weight, 1.0)
    average.update(0)
    torch.testing.assert_close(average.average["weight"].item(), 1 - 1 / 10)
    average.update(9)
    torch.testing.assert_close(average.average["weight"].item(), 1 - 1 / 10 * 10 / 19)


def test_only_what_learns_is_averaged() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    module[0].requires_grad_(False)
    assert set(MovingAverage(module, 0.9).average) == {"1.weight", "1.bias"}


def test_applied_puts_the_average_in_and_the_live_weights_back() -> None:
    module = nn.Linear(2, 1)
    average = MovingAverage(module, 0.5)
    before = weights_of(module)
    nn.init.constant_(module.weight, 7.0)
    with average.applied():
        assert torch.equal(module.weight, before["weight"])
    assert torch.equal(module.weight, torch.full((1, 2), 7.0))
    average.settle()
    assert torch.equal(module.weight, before["weight"])


def test_the_loop_measures_the_average_and_leaves_it_in_the_weights(tmp_path: Path) -> None:
    learner, live, measured = Toy(), list[Tensor](), list[Tensor]()
    step = learner.forward

    def forward(batch):  # the weights that each step begins with
        live.append(weight(learner, 0))
        return step(batch)

    learner.forward = forward  # type: ignore[method-assign]

    def measure() -> dict[str, float]:
        measured.append(weight(learner, 0))
        return {"accuracy": 0.0}

    events_of(tmp_path, learner, Evaluation(splits={"val": measure}), epochs=3, ema=0.6)
    expected, seen = live[0], []  # after step k (from 0) the weights are those that step k + 1 begins with
    for number, stepped in enumerate(live[1:]):
        decay = min(0.6, (1 + number) / (10 + number))
        expected = decay * expected + (1 - decay) * stepped
        seen.append(expected)
    torch.testing.assert_close(measured[0], seen[4])
    torch.testing.assert_close(measured[1], seen[9])
    assert not torch.allclose(measured[0], live[5]), "the average is not the live weights"
    torch.testing.assert_close(weight(learner, 0), measured[2])


def test_the_best_weights_are_the_best_average_and_checkpoints_hold_it(tmp_path: Path) -> None:
    learner = Toy()
    values, measured = iter([0.5, 0.9, 0.1]), list[Tensor]()

    def measure() -> dict[str, float]:
        measured.append(weight(learner, 2))
        return {"accuracy": next(values)}

    events_of(tmp_path, learner, Evaluation(splits={"select": measure}, selects="select"), epochs=3, ema=0.6)
    assert torch.equal(weight(learner, 2), measured[1])
    saved = latest(Checkpoints(tmp_path / "checkpoints", 2))
    assert saved is not None
    assert torch.equal(saved.tensors_below("ema")["net.2.weight"], measured[2])
