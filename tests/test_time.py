"""Time limits, with clocks that the tests turn: nothing here waits or depends on the machine's speed."""

from __future__ import annotations

import importlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pretune import api
from pretune.errors import Interrupted, RequestError
from pretune.modalities.image import Normaliser
from pretune.models import Learner
from pretune.recipe import Place
from pretune.runner import budget, interrupt
from pretune.runner.deadline import Deadline
from pretune.runner.interrupt import Interruption
from pretune.runner.job import RunContext, RunResult
from pretune.runner.recording import follow
from pretune.runner.reporter import Noted, Silent
from pretune.runner.validation import GLANCE, Validation, planned
from pretune.strategies._base import groups
from pretune.training.checkpoint import Checkpoints, Decisions
from pretune.training.device import Device
from pretune.training.events import Evaluated, Event, Finished, Started, Stepped, Warned
from pretune.training.loop import Evaluation, TrainingContext, fit
from pretune.training.pace import Clock
from pretune.training.plan import Plan, Precision
from pretune.training.run_dir import RunDir
from pretune.training.schedule import Schedule
from pretune.types import Batch, Features, StepOutput
from tests.checkpoints import latest

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
            yield Batch(inputs=Features(tensor=x, layout="pooled"), labels=None, index=torch.arange(2))


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
        context = TrainingContext(
            device=CPU,
            checkpoints=Checkpoints(self.folder / "checkpoints", 2),
            decisions=Decisions(self.folder / "decisions.jsonl", CPU),
            clock=self.clock,
            stop=lambda: self.stop(),
        )
        return fit(
            self.learner, self.batches, groups("all", self.learner.net, "net"), Plan(**{**settings, **changes}), context, evaluation, resume
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


def test_a_step_that_suddenly_takes_long_is_the_last_one(tmp_path: Path) -> None:
    """The plan is made anew every fifth step here: the time is looked at after each."""
    run = Run(tmp_path, lambda step: 1.0 if step < 91 else 20.0)
    assert steps_of(limited(run, 100.0)) == 92
    assert run.hand.seconds == 111.0


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
    events = list(run.events(Evaluation(splits={"val": measure}), budget=70.0, log_every=1))
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
    checkpoint = latest(Checkpoints(tmp_path / "cut" / "checkpoints", 2))
    assert steps_of(list(rest.events(epochs=2, resume=checkpoint))) == 46
    assert torch.equal(rest.learner.net.weight, whole.learner.net.weight)


# --- around the loop -----------------------------------------------------------------------------


def validation(hand: Hand, cost: float, total: float | None, batches: int = 10) -> Validation:
    learner = Slow(hand, lambda step: cost)
    loader = Batches(batches)
    loader.view = range(2 * batches)  # type: ignore[attr-defined]
    return Validation(
        learner=learner, precision=Precision(), loader=cast("Any", loader), device=CPU, seed=0, deadline=Deadline(total, 0.0, hand)
    )


def test_held_out_batches_are_measured_as_far_as_the_time_goes() -> None:
    for total, batches in ((None, 10), (1000.0, 10), (38.0, 7), (5.0, 1)):
        hand = Hand()
        measured = validation(hand, 5.0, total)
        figures = measured.measure(keep=None if total is None else 3.0)
        assert set(figures) == {"loss"}
        assert measured.examples == 2 * batches
        assert hand.seconds == 5.0 * batches
        assert total is None or hand.seconds <= max(total - 3.0, 5.0)


def test_the_cost_of_an_example_is_told_by_a_second_pass_over_a_few() -> None:
    hand = Hand()
    assert validation(hand, 5.0, 60.0).seconds_per_example() == 5.0 / 2
    assert hand.seconds == 10.0


def test_what_goes_on_beside_training_gets_a_small_share_of_the_time() -> None:
    """A contrastive step of 256 images takes 25 s on two cores, and a held-out batch 8: 32 of them took four times the run's time."""
    slow = planned(Deadline(20.0, 0.0, Hand()), 0.033, batch=256, epoch=4, validation=100, phases=1, afterwards=1.0)
    assert (slow.glance, slow.log_every, slow.steps) == (1, 1, 1)
    assert slow.budget >= 16.0
    quick = planned(Deadline(600.0, 0.0, Hand()), 1e-4, batch=32, epoch=1000, validation=1000, phases=2, afterwards=1.0)
    assert (quick.glance, quick.log_every, quick.evaluate_every) == (GLANCE, 20, 1)
    assert quick.budget == pytest.approx((600 - 1.1) / 2)
    short = planned(Deadline(600.0, 0.0, Hand()), 1e-3, batch=32, epoch=2, validation=1000, phases=1, afterwards=1.0)
    look, epoch = short.glance * 32e-3, 2 * 3 * 32e-3
    assert short.evaluate_every * epoch >= 10 * look > (short.evaluate_every - 1) * epoch
    late = Deadline(10.0, -30.0, Hand())
    assert planned(late, 1.0, batch=1, epoch=1, validation=1, phases=1, afterwards=1.0).budget == 0.0


def test_a_pass_that_cannot_end_in_time_ends_at_once_with_the_figures() -> None:
    hand = Hand()
    look = Deadline(60.0, 0.0, hand).reading("reading images")
    hand.seconds = 0.5
    look(1, 100_000)  # too early to tell
    hand.seconds = 2.0
    look(10, 200)  # 40 s in all
    with pytest.raises(RequestError, match=r"reading images: all 100,000 take about 20000 s, .* time=60s"):
        look(10, 100_000)
    Deadline(None, 0.0, hand).reading("reading images")(10, 100_000)


def test_a_request_to_stop_ends_a_pass_over_the_data_at_its_next_batch() -> None:
    with Interruption() as interruption:
        interrupt.check()
        look = Deadline(None, 0.0, Hand()).reading("reading images")
        look(1, 2)
        interruption.asked = True
        with pytest.raises(KeyboardInterrupt):
            look(1, 2)
        with pytest.raises(KeyboardInterrupt):
            validation(Hand(), 1.0, None).measure()
    interrupt.check()


def test_a_run_that_is_stopped_between_two_events_ends_with_the_line_that_resumes_it(tmp_path: Path) -> None:
    def events() -> Iterator[Event]:
        yield Started(phase="p", step=0, steps=10, trainable=1)
        raise KeyboardInterrupt  # in the pass over the frozen layers, say

    with pytest.raises(Interrupted, match="stopped; resume it with: the same line"):
        list(follow(cast("Any", events()), RunDir(tmp_path), CPU, Silent(), "the same line"))


# --- whole runs ----------------------------------------------------------------------------------


@pytest.fixture
def slow_network(home: Path, monkeypatch: pytest.MonkeyPatch) -> Hand:
    """Every image that enters a network costs a tenth of a second of a clock that stands still otherwise."""
    hand = Hand()
    whole = Normaliser.forward

    def forward(self: Normaliser, features: Features) -> Features:
        hand.seconds += 0.1 * len(features.tensor)
        return whole(self, features)

    monkeypatch.setattr(Normaliser, "forward", forward)
    monkeypatch.setattr("pretune.runner.runner.Deadline", lambda total, started: Deadline(total, 0.0, hand))
    rng = np.random.default_rng(0)
    for number in range(100):
        shade = 60 if number % 2 else 180
        path = home / "photos" / ("dark" if number % 2 else "bright") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(shade - 40, shade + 40, (24, 24, 3), dtype=np.uint8)).save(path)
    return hand


COMMON: dict[str, Any] = {"image_size": 24, "threads": 1, "batch_size": 4, "precision": "float32"}
SETTINGS = COMMON | {"backbone": "scratch:cnn,width=8,depth=1"}


def test_a_pass_over_frozen_layers_that_does_not_fit_is_given_up_at_once(slow_network: Hand) -> None:
    """All features would take 10 s, more than 80 % of what 12 s leave: a probe trains on raw batches instead, and is scored on a sample."""
    run = api.finetune("photos", strategy="linear_probe", time="12s", **SETTINGS)
    assert 0.9 * (12 - budget.REPORT) <= slow_network.seconds <= 1.1 * 12
    metrics = run.metrics
    assert any("features are not cached" in note and "time=12s" in note for note in metrics["notes"])
    assert any("a random sample: time=12s" in note for note in metrics["notes"])
    assert metrics["measured"]["val"] < metrics["counts"]["val"] == 20
    assert metrics["primary"]["value"] > 0.9, "the head's input is standardised all the same"
    assert len((run.path / "predictions.csv").read_text().splitlines()) == 1 + metrics["measured"]["val"]
    assert not list(Path("cache").glob("features/*")), "half of the features are none"


def test_features_that_fit_are_cached_and_everything_is_measured(slow_network: Hand) -> None:
    first = api.finetune("photos", strategy="linear_probe", time="60s", **SETTINGS).metrics
    assert first["measured"] == {"train": 80, "val": 20}
    assert 10 <= slow_network.seconds <= 15, "once over the data"
    assert len(list(Path("cache").glob("features/*"))) == 1


def test_fine_tuning_fills_its_time_and_not_more(slow_network: Hand) -> None:
    metrics = api.finetune("photos", strategy="full", time="60s", **SETTINGS).metrics
    assert 0.8 * 60 <= slow_network.seconds <= 1.1 * 60
    assert metrics["measured"] == {"train": 80, "val": 20}


def test_weights_are_chosen_by_as_many_examples_as_the_time_allows(slow_network: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "_CHOOSE", 2)
    run = api.finetune("photos", strategy="full", time="20s", patience=9, **SETTINGS)
    assert slow_network.seconds <= 1.1 * 20
    chosen = next(note for note in run.metrics["notes"] if note.startswith("weights are chosen by"))
    count, size = (int(word) for word in chosen.split() if word.isdigit())
    assert 2 <= count < size == run.metrics["counts"]["select"]


def test_pretraining_fills_its_time_and_not_more(slow_network: Hand) -> None:
    run = api.pretrain("photos", objective="masked", backbone="scratch:vit,width=12,layers=1,heads=3,patch=8", time="60s", **COMMON)
    assert 0.85 * 60 <= slow_network.seconds <= 1.1 * 60
    lr = [event["lr"] for event in RunDir(run.path).events() if event["event"] == "stepped"]
    assert lr[-1] < 0.1 * max(lr)
    assert any("held-out examples" in note for note in run.metrics["notes"]) == (run.metrics["measured"]["held"] < 10)


def test_the_seconds_of_a_run_are_those_of_the_whole_verb(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after the figures, the report and the runs of `then=`, is part of it."""
    folder = RunDir(home / "run")
    folder.path.mkdir()
    hand = Hand()
    written: list[float] = []
    monkeypatch.setattr(api.report, "write", lambda run, task: written.append(RunDir(run).read_json("metrics.json")["timing"]["total_s"]))
    run = RunContext(place=Place(), device=CPU, reporter=Noted(Silent()), deadline=Deadline(None, -30.0, hand))
    api._report(RunResult(folder=folder, metrics={"timing": {"total_s": 3.0}}), run)
    assert written == [30.0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_outside_training_ends_a_verb_with_one_message(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pretune.cli import main as cli

    module = importlib.import_module("pretune.cli.main")

    def pass_over_the_data(words: list[str]) -> int:
        signal.raise_signal(number)
        raise AssertionError("went on")

    monkeypatch.setattr(module, "_dispatch", pass_over_the_data)
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert cli(["predict", "run", "photos"]) == 130
    finally:
        signal.signal(signal.SIGINT, ignored)
    assert capsys.readouterr().err == "pretune: stopped\n"
    assert signal.getsignal(signal.SIGTERM) is before
