"""Time limits, with clocks that the tests turn: nothing here waits or depends on the machine's speed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pretune.models import Learner
from pretune.strategies._base import groups
from pretune.training.checkpoint import Checkpoints, Decisions
from pretune.training.device import Device
from pretune.training.events import Evaluated, Event, Finished, Started, Stepped, Warned
from pretune.training.loop import Evaluation, Surroundings, fit
from pretune.training.pace import Clock
from pretune.training.plan import Plan
from pretune.training.schedule import Schedule
from pretune.types import Batch, Features, StepOutput

CPU = Device(device=torch.device("cpu"))
PEAK = 0.05
WSD = Schedule(name="wsd", warmup=0.05, decay=0.5)


class Hand:
    """A clock's hand that only the test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Slow(Learner):
    """A learner whose steps take as many seconds as `cost(step)` says."""

    def __init__(self, hand: Hand, cost: Callable[[int], float], poison: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(2, 1)
        self.hand, self.cost, self.poison, self.calls = hand, cost, poison, 0

    def forward(self, batch: Batch) -> StepOutput:
        self.hand.seconds += self.cost(self.calls)
        self.calls += 1
        loss = self.net(batch.inputs.tensor).square().mean()
        return StepOutput(loss=loss * float("nan") if self.calls == self.poison else loss, size=batch.size)


class Batches:
    """As many batches an epoch as a loader of a large corpus has."""

    def __init__(self, count: int = 23) -> None:
        self.count = count

    def steps(self, epoch: int) -> int:
        return self.count

    def iterate(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for number in range(start, self.count):
            x = torch.full((2, 2), 1.0 + number)
            yield Batch(inputs=Features(tensor=x, layout="pooled"), targets=None, index=torch.arange(2))


class Run:
    """One phase under a hand."""

    def __init__(self, folder: Path, cost: Callable[[int], float] | float, *, batches: int = 23, poison: int | None = None) -> None:
        self.hand = Hand()
        self.clock: Clock | None = None
        self.learner = Slow(self.hand, cost if callable(cost) else lambda step: cost, poison)
        self.folder, self.batches, self.stop = folder, Batches(batches), lambda: False

    def events(self, evaluation: Evaluation | None = None, resume: Any = None, **changes: Any) -> Iterator[Event]:
        self.folder.mkdir(exist_ok=True)
        settings = {"number": 0, "phase": "p", "epochs": 1000, "lr": PEAK, "log_every": 20, "save_seconds": 1e9, "schedule": WSD}
        around = Surroundings(
            device=CPU,
            checkpoints=Checkpoints(self.folder / "checkpoints", 2),
            decisions=Decisions(self.folder / "decisions.jsonl", CPU),
            clock=self.clock,
            stop=lambda: self.stop(),
        )
        return fit(
            self.learner, self.batches, groups("all", self.learner.net, "net"), Plan(**{**settings, **changes}), around, evaluation, resume
        )


def steps_of(events: list[Event]) -> int:
    return next(event.step for event in events if isinstance(event, Finished))


def rates(events: list[Event]) -> list[float]:
    return [event.lr for event in events if isinstance(event, Stepped)]


def limited(run: Run, budget: float, **changes: Any) -> list[Event]:
    run.clock = Clock(run.hand)
    return list(run.events(budget=budget, **{"log_every": 1, **changes}))


@pytest.mark.parametrize(
    ("cost", "budget", "first_guess"),
    [
        (7.0, 30.0, None),  # a text network on a slow machine: 23,000 steps are planned, four fit
        (7.0, 30.0, 5),
        (0.01, 10.0, None),
        (lambda step: 10.0 if step == 0 else 1.0, 30.0, 3),  # the first step warms up
        (lambda step: 1.0 if step < 50 else 3.0, 100.0, None),  # the machine is slower from the middle on
        (lambda step: 3.0 if step < 10 else 1.0, 100.0, None),
        (lambda step: 1.0 + step % 5, 200.0, None),
    ],
)
def test_the_time_is_filled_and_the_rate_has_fallen_by_then(tmp_path: Path, cost: Any, budget: float, first_guess: int | None) -> None:
    run = Run(tmp_path, cost)
    events = limited(run, budget, steps=first_guess)
    longest = max(run.learner.cost(step) for step in range(run.learner.calls))
    assert 0.9 * budget - longest <= run.hand.seconds <= 1.1 * budget
    lr = rates(events)
    assert lr[-1] <= 0.3 * PEAK, "the last step is taken at the end of the schedule"
    assert max(lr) == pytest.approx(PEAK)
    assert min(lr) > 0, "no step is wasted on a rate of nothing"


@pytest.mark.parametrize("cost", [20.0, 45.0, 1000.0])
def test_one_step_that_takes_the_whole_time_is_the_only_one(tmp_path: Path, cost: float) -> None:
    run = Run(tmp_path, cost)
    events = limited(run, 20.0)
    assert steps_of(events) == 1
    assert run.hand.seconds == cost


def test_a_first_guess_is_what_is_announced(tmp_path: Path) -> None:
    events = limited(Run(tmp_path, 2.0), 20.0, steps=12)
    started = events[0]
    assert isinstance(started, Started)
    assert started.steps == 12


def test_measuring_and_failed_attempts_cost_time_too(tmp_path: Path) -> None:
    run = Run(tmp_path / "measured", 1.0, batches=4)

    def measure() -> dict[str, float]:
        run.hand.seconds += 3.0
        return {"accuracy": 0.5}

    run.clock = Clock(run.hand)
    events = list(run.events(Evaluation(parts={"val": measure}), budget=70.0, log_every=1))
    assert sum(isinstance(event, Evaluated) for event in events) in (10, 11)
    assert 63 <= run.hand.seconds <= 77 + 3
    failing = Run(tmp_path / "failing", 1.0, poison=15)
    events = limited(failing, 40.0)
    assert any(isinstance(event, Warned) for event in events)
    assert 36 <= failing.hand.seconds <= 44


def test_a_suspended_loop_counts_only_its_own_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path, 1.0)
    monkeypatch.setattr("pretune.training.loop.Clock", lambda: Clock(run.hand))
    own = 0.0
    for event in run.events(budget=40.0, log_every=1, save_seconds=15.0):
        own = max(own, event.seconds) if isinstance(event, Stepped) else own
        run.hand.seconds += 500.0  # somebody else's turn
    assert 36 <= own <= 44


def test_whoever_keeps_the_clock_decides_what_counts(tmp_path: Path) -> None:
    """A run's own bookkeeping between two events is not free: the verb has to be over in time."""
    run = Run(tmp_path, 1.0)
    run.clock = Clock(run.hand)
    for event in run.events(budget=40.0, log_every=1):
        run.hand.seconds += 1.0 if isinstance(event, Stepped) else 0.0
    assert 36 <= run.hand.seconds <= 44
    clock = Clock(run.hand, started=run.hand.seconds - 5)
    clock.stop()
    run.hand.seconds += 100
    assert clock.seconds == 5
    clock.go()
    run.hand.seconds += 1
    assert clock.seconds == 6


def test_decisions_of_the_clock_are_replayed(tmp_path: Path) -> None:
    first = limited(Run(tmp_path, 3.0), 60.0)
    again = limited(Run(tmp_path, 0.1), 60.0)  # a faster machine resumes from the beginning
    assert [(e.step, e.lr, e.loss) for e in first if isinstance(e, Stepped)] == [
        (e.step, e.lr, e.loss) for e in again if isinstance(e, Stepped)
    ]


def test_a_request_to_stop_is_obeyed_after_the_step_and_nothing_is_lost(tmp_path: Path) -> None:
    """Twenty steps of a minute each are reported together: who asks to stop does not wait for them."""
    whole = Run(tmp_path / "whole", 60.0)
    list(whole.events(epochs=2))
    run = Run(tmp_path / "cut", 60.0)
    run.stop = lambda: run.learner.calls >= 7
    loop = run.events(epochs=2)
    last = next(event for event in loop if isinstance(event, Stepped))
    assert last.step == run.learner.calls == 7
    loop.close()  # type: ignore[attr-defined]
    rest = Run(tmp_path / "cut", 60.0)
    rest.learner.load_state_dict(run.learner.state_dict())
    checkpoint = Checkpoints(tmp_path / "cut" / "checkpoints", 2).latest()
    assert steps_of(list(rest.events(epochs=2, resume=checkpoint))) == 46
    assert torch.equal(rest.learner.net.weight, whole.learner.net.weight)
