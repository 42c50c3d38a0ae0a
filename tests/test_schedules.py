"""Courses of the learning rate, against torch's schedulers and in closed form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as schedulers

from pretune.training.events import Stepped
from pretune.training.loop import Evaluation
from pretune.training.schedule import Schedule
from tests.test_loop import events_of

STEPS = 100


def torchs(make: Any, steps: int = STEPS) -> list[float]:
    """Return the factors of a torch scheduler over a peak rate of 1."""
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    scheduler, out = make(optimizer), []
    for _ in range(steps):
        out.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return out


def ours(schedule: Schedule, steps: int = STEPS) -> list[float]:
    return [schedule.factor(step / steps) for step in range(steps)]


def test_one_cycle_is_torchs() -> None:
    theirs = torchs(lambda o: schedulers.OneCycleLR(o, 1.0, total_steps=STEPS + 1, pct_start=0.21, div_factor=25, final_div_factor=1e9))
    # torch counts the last step of the rise as its peak: 0.21 of 101 steps, less one, are 20.21 of our 100
    assert ours(Schedule(name="one_cycle", warmup=0.2021)) == pytest.approx(theirs, abs=2e-3)


def test_cosine_linear_and_constant_are_torchs() -> None:
    theirs = torchs(lambda o: schedulers.CosineAnnealingLR(o, STEPS, eta_min=0.2))
    assert ours(Schedule(name="cosine", warmup=0.0, floor=0.2)) == pytest.approx(theirs)
    theirs = torchs(lambda o: schedulers.LinearLR(o, 1.0, 0.1, total_iters=STEPS))
    assert ours(Schedule(name="linear", warmup=0.0, floor=0.1)) == pytest.approx(theirs)
    assert set(ours(Schedule(name="constant", warmup=0.0))) == {1.0}


def test_step_multiplies_by_gamma_at_equal_milestones() -> None:
    theirs = torchs(lambda o: schedulers.MultiStepLR(o, [25, 50, 75], gamma=0.5))
    assert ours(Schedule(name="step", warmup=0.0, milestones=4, gamma=0.5)) == pytest.approx(theirs)
    assert min(ours(Schedule(name="step", warmup=0.0, milestones=4, gamma=0.5, floor=0.3))) == 0.3
    assert Schedule(name="step", warmup=0.0, milestones=4, gamma=0.5).factor(1.0) == 0.125, "no drop at the very end"


@pytest.mark.parametrize("name", ["cosine", "linear", "step", "constant", "wsd", "plateau"])
def test_the_warm_up_rises_linearly_to_the_peak(name: Any) -> None:
    schedule = Schedule(name=name, warmup=0.2)
    assert [schedule.factor(x) for x in (0.0, 0.05, 0.1, 0.15, 0.2)] == pytest.approx([0, 0.25, 0.5, 0.75, 1])


def test_one_cycle_begins_at_a_twenty_fifth() -> None:
    schedule = Schedule(name="one_cycle", warmup=0.2)
    assert schedule.factor(0.0) == pytest.approx(0.04)
    assert schedule.factor(0.1) == pytest.approx((0.04 + 1) / 2)
    assert schedule.factor(0.2) == pytest.approx(1.0)


def test_wsd_is_stable_and_falls_linearly_over_its_last_share() -> None:
    schedule = Schedule(name="wsd", warmup=0.1, decay=0.5, floor=0.2)
    assert [schedule.factor(x) for x in (0.1, 0.3, 0.5)] == [1.0, 1.0, 1.0]
    assert [schedule.factor(x) for x in (0.6, 0.75, 1.0)] == pytest.approx([1 - 0.8 * 0.2, 0.6, 0.2])


def test_a_plateau_multiplies_by_gamma_at_each_drop_down_to_the_floor() -> None:
    schedule = Schedule(name="plateau", warmup=0.0, gamma=0.5, floor=0.2)
    assert [schedule.factor(0.5, drops) for drops in range(4)] == [1.0, 0.5, 0.25, 0.2]


def test_the_loop_drops_the_rate_after_so_many_evaluations_without_improvement(tmp_path: Path) -> None:
    values = iter([0.5, 0.6, 0.6, 0.5, 0.7, 0.7, 0.7, 0.7])
    evaluation = Evaluation(splits={"select": lambda: {"accuracy": next(values)}}, selects="select")
    schedule = Schedule(name="plateau", warmup=0.0, gamma=0.5, patience=2)
    events = events_of(tmp_path, evaluation=evaluation, epochs=8, ema=None, lr=0.08, schedule=schedule)
    rates = [event.lr for event in events if isinstance(event, Stepped) and event.step % 5 == 0]
    assert rates == pytest.approx([0.08, 0.08, 0.08, 0.08, 0.04, 0.04, 0.04, 0.02])


def test_the_loop_follows_the_schedule_step_by_step(tmp_path: Path) -> None:
    schedule = Schedule(name="linear", warmup=0.25, floor=0.1)
    events = events_of(tmp_path, epochs=4, lr=0.05, schedule=schedule)
    rates = [event.lr for event in events if isinstance(event, Stepped)]
    assert rates == pytest.approx([0.05 * schedule.factor(step / 20) for step in range(20)])
