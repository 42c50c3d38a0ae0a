"""The loop: what it yields, and that stopping it anywhere changes nothing."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pretune.errors import TrainingError
from pretune.labels import Labels
from pretune.models import Learner
from pretune.strategies._base import groups
from pretune.training.checkpoint import Checkpoints, Decisions, read_checkpoint
from pretune.training.device import Device
from pretune.training.events import Evaluated, Event, Finished, Saved, Saving, Started, Stepped, Warned
from pretune.training.loop import Evaluation, TrainingContext, fit
from pretune.training.optim import Optim
from pretune.training.pace import Clock
from pretune.training.plan import Plan, Precision
from pretune.training.schedule import Schedule
from pretune.training.turn import LoopState
from pretune.types import Batch, Features, StepOutput
from tests.checkpoints import latest

CPU = Device(device=torch.device("cpu"))


class Toy(Learner):
    """Regression with dropout, so that random streams matter."""

    def __init__(self, poison: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.poison, self.calls = poison, 0

    def forward(self, batch: Batch) -> StepOutput:
        self.calls += 1
        loss = (self.net(batch.inputs.tensor).squeeze(1) - batch.target).square().mean()
        return StepOutput(loss=loss * float("nan") if self.calls == self.poison else loss, size=batch.size)

    def predict(self, batch: Batch) -> Tensor:
        return self.net(batch.inputs.tensor)


class ToyLoader:
    """Five batches an epoch, different in each epoch."""

    def __init__(self, count: int = 5) -> None:
        self.count = count

    def steps(self, epoch: int) -> int:
        return self.count

    def iterate(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for i in range(start, self.count):
            x = torch.from_numpy(np.random.default_rng([epoch, i]).normal(size=(6, 4)).astype(np.float32))
            yield Batch(inputs=Features(tensor=x, layout="pooled"), labels=Labels.of(x.sum(1)), index=torch.arange(6))


def context(folder: Path) -> TrainingContext:
    folder.mkdir(exist_ok=True)
    return TrainingContext(
        device=CPU, checkpoints=Checkpoints(folder / "checkpoints", 2), decisions=Decisions(folder / "decisions.jsonl", CPU)
    )


def plan(**changes: Any) -> Plan:
    return Plan(**{"number": 0, "phase": "toy", "epochs": 4, "lr": 0.05, "seed": 3, "ema": 0.9, "save_seconds": 0.0, **changes})


def events_of(folder: Path, learner: Learner | None = None, evaluation: Evaluation | None = None, **changes: Any) -> list[Event]:
    learner = learner or Toy()
    return list(fit(learner, ToyLoader(), groups("all", learner.net, "net"), plan(**changes), context(folder), evaluation))


def losses(events: list[Event]) -> dict[int, float]:
    return {e.step: e.loss for e in events if isinstance(e, Stepped)}


def test_it_starts_steps_saves_and_finishes(tmp_path: Path) -> None:
    events = events_of(tmp_path)
    assert isinstance(events[0], Started)
    assert events[0].steps == 20
    assert sorted(losses(events)) == list(range(1, 21))
    assert isinstance(events[-2], Saved)
    assert isinstance(events[-1], Finished)
    assert events[-1].reason == "completed"


def test_every_step_is_in_one_event_whatever_is_left_at_an_epochs_end(tmp_path: Path) -> None:
    each = losses(events_of(tmp_path / "each"))
    events = [e for e in events_of(tmp_path / "some", log_every=3) if isinstance(e, Stepped)]
    assert [(e.step, e.epoch) for e in events] == [(3, 0), (5, 0), (6, 1), (9, 1), (10, 1), (12, 2), (15, 2), (18, 3), (20, 3)]
    assert [e.size for e in events] == [18, 12, 6, 18, 6, 12, 18, 18, 12], "items of all the steps"
    before = 0
    for event in events:
        assert event.loss == pytest.approx(np.mean([each[step] for step in range(before + 1, event.step + 1)]))
        before = event.step


@pytest.mark.parametrize("poison", [4, 5])
def test_a_loss_that_is_lost_after_the_last_reported_step_of_an_epoch_is_noticed(tmp_path: Path, poison: int) -> None:
    measured: list[int] = []

    def measure() -> dict[str, float]:
        measured.append(learner.calls)
        return {"accuracy": 0.5}

    learner = Toy(poison=poison)
    events = events_of(tmp_path, learner, Evaluation(splits={"val": measure}), log_every=3)
    assert [(e.step, "not a number at step 5" in e.message) for e in events if isinstance(e, Warned)] == [(5, True)]
    assert measured[0] == 10, "what is broken is not measured: the phase begins again first"


class Scripted(Learner):
    """A learner whose loss is noise around one, half as large, but for one step."""

    def __init__(self, at: int, value: float) -> None:
        super().__init__()
        self.net = nn.Linear(1, 1)
        self.at, self.value, self.calls, self.noise = at, value, 0, np.random.default_rng(0)

    def forward(self, batch: Batch) -> StepOutput:
        self.calls += 1
        value = self.value if self.calls == self.at else 1 + 0.5 * self.noise.normal()
        return StepOutput(loss=value + 0 * self.net.weight.sum(), size=batch.size)


@pytest.mark.parametrize(
    ("at", "value", "told"), [(561, 2.3, []), (561, 40.0, ["loss spike at step 561"]), (555, 40.0, ["loss spike at step 560"])]
)
def test_a_spike_is_told_at_an_epochs_end_and_the_noise_of_few_steps_is_none(
    tmp_path: Path, at: int, value: float, told: list[str]
) -> None:
    learner = Scripted(at, value)
    spiky = plan(epochs=11, log_every=10, spikes=True, ema=None, save_seconds=60.0)  # the last epoch's last span is its step 561 alone
    events = fit(learner, ToyLoader(51), groups("all", learner.net, "net"), spiky, context(tmp_path))
    assert [e.message.split(":")[0] for e in events if isinstance(e, Warned)] == told


class Averaged(Device):
    """One of many processes, all others of which have a loss of one."""

    def mean(self, value: float, weight: float) -> tuple[float, float]:
        return 1.0, weight


def test_a_spike_is_one_of_all_processes_so_that_all_have_the_same_events(tmp_path: Path) -> None:
    learner = Scripted(561, 40.0)
    spiky = plan(epochs=11, log_every=10, spikes=True, ema=None, save_seconds=60.0)
    alone = dataclasses.replace(context(tmp_path), device=Averaged(device=CPU.device))
    events = list(fit(learner, ToyLoader(51), groups("all", learner.net, "net"), spiky, alone))
    assert sum(isinstance(e, Stepped) for e in events) == 66
    assert not [e for e in events if isinstance(e, Warned)], "a warning of one process alone is an event that the others do not have"


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("optim", ["adamw", "sgd"])
@pytest.mark.parametrize("stop", [1, 7, 10, 19])
def test_a_resumed_run_is_bit_identical(tmp_path: Path, stop: int, optim: str, every: int) -> None:
    whole, whole_learner = {}, Toy()
    same = {"optim": Optim(name=optim), "log_every": every}
    whole = losses(events_of(tmp_path / "whole", whole_learner, **same))
    learner = Toy()
    loop = fit(learner, ToyLoader(), groups("all", learner.net, "net"), plan(**same), context(tmp_path / "cut"))
    seen: dict[int, float] = {}
    for event in loop:
        if isinstance(event, Stepped):
            seen[event.step] = event.loss
            if event.step >= stop:
                break
    loop.close()
    checkpoint = latest(context(tmp_path / "cut").checkpoints)
    assert checkpoint is not None
    torch.manual_seed(99)  # whatever the new process did before
    fresh = Toy()
    rest = fit(fresh, ToyLoader(), groups("all", fresh.net, "net"), plan(**same), context(tmp_path / "cut"), resume=checkpoint)
    seen |= losses(list(rest))
    assert seen == whole
    assert all(torch.equal(a, b) for a, b in zip(fresh.state_dict().values(), whole_learner.state_dict().values(), strict=True))


def test_killed_without_a_word_it_goes_on_from_the_last_checkpoint(tmp_path: Path) -> None:
    whole = losses(events_of(tmp_path / "whole"))
    learner = Toy()
    loop = fit(learner, ToyLoader(), groups("all", learner.net, "net"), plan(), context(tmp_path / "cut"))
    next(event for event in loop if isinstance(event, Saved) and event.step == 8)
    copies = {p.name: p.read_bytes() for p in (tmp_path / "cut" / "checkpoints").iterdir()}
    loop.close()
    for path in (tmp_path / "cut" / "checkpoints").iterdir():
        path.unlink()
    for name, content in copies.items():  # the disk as kill -9 would have left it, the newest file cut in half
        (tmp_path / "cut" / "checkpoints" / name).write_bytes(
            content if not name.endswith("08.safetensors") else content[: len(content) // 2]
        )
    checkpoint = latest(context(tmp_path / "cut").checkpoints)
    assert checkpoint is not None
    assert checkpoint.state["progress"]["step"] == 7
    fresh = Toy()
    rest = losses(list(fit(fresh, ToyLoader(), groups("all", fresh.net, "net"), plan(), context(tmp_path / "cut"), resume=checkpoint)))
    assert rest == {step: loss for step, loss in whole.items() if step > 7}


def test_checkpoints_are_apart_whatever_the_length_of_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(10_000))
    monkeypatch.setattr("pretune.training.loop.Clock", lambda: Clock(lambda: float(next(seconds))))  # a second a look
    events = events_of(tmp_path, epochs=12, save_seconds=85)
    saved = [e.step for e in events if isinstance(e, Saved)]
    assert len({after - before for before, after in itertools.pairwise(saved[:-1])}) == 1
    assert len(saved) > 3, "some within an epoch"


def test_interleaved_loops_do_not_touch_each_other(tmp_path: Path) -> None:
    alone = [losses(events_of(tmp_path / f"alone{s}", seed=s)) for s in (1, 2)]
    learners = [Toy(), Toy()]
    loops = [
        fit(m, ToyLoader(), groups("all", m.net, "net"), plan(seed=s), context(tmp_path / f"both{s}"))
        for m, s in zip(learners, (1, 2), strict=True)
    ]
    seen: list[dict[int, float]] = [{}, {}]
    for pair in zip(*loops, strict=True):
        for position, event in enumerate(pair):
            if isinstance(event, Stepped):
                seen[position][event.step] = event.loss
    assert seen == alone
    assert alone[0] != alone[1]


class Normed(Toy):
    """With a batch norm, whose statistics follow in training mode only."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))


@contextmanager
def disturbed(learner: Learner) -> Generator[None]:
    """What a consumer may do to learner and process between two events."""
    learner.eval()
    torch.set_num_threads(torch.get_num_threads() % 3 + 1)
    torch.manual_seed(77), np.random.seed(77), random.seed(77)
    with torch.no_grad():
        learner.predict(Batch(inputs=Features(tensor=torch.randn(3, 4), layout="pooled"), labels=None, index=torch.arange(3)))
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        yield


@pytest.mark.parametrize("changes", [{"threads": 1}, {"ema": None, "optim": Optim(name="sgd")}, {"precision": Precision(bfloat16=True)}])
def test_a_consumer_that_measures_between_events_changes_nothing(tmp_path: Path, changes: dict[str, Any]) -> None:
    quiet, busy = Normed(), Normed()
    events_of(tmp_path / "quiet", quiet, **changes)
    loop = fit(busy, ToyLoader(), groups("all", busy.net, "net"), plan(**changes), context(tmp_path / "busy"))
    next(loop)  # from here on the loop has threads of its own
    threads = torch.get_num_threads()
    try:
        while True:
            with disturbed(busy):
                before = torch.get_num_threads()
                if next(loop, None) is None:
                    break
            assert torch.get_num_threads() == before, "the consumer's threads are put back"
            assert not any(module.training for module in busy.modules()), "and its mode"
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(busy.state_dict().values(), quiet.state_dict().values(), strict=True))


class Breaking(Toy):
    """Fails in its third step."""

    def forward(self, batch: Batch) -> StepOutput:
        if self.calls == 2:
            raise ValueError("broken")
        return super().forward(batch)


class Elsewhere(nn.Dropout):
    """Keeps its mode outside of Python as well, as a scripted module does."""

    inner = True

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "training":
            self.__dict__["inner"] = value


def test_a_module_that_keeps_its_mode_elsewhere_is_told_of_it() -> None:
    plain, elsewhere = nn.Dropout(), Elsewhere()
    learner = nn.Sequential(plain, elsewhere).eval()
    turn = LoopState(learner, 0, CPU.device, None)
    with turn.taken():
        learner.train()
    assert (plain.training, elsewhere.training, elsewhere.inner) == (False, False, False)
    with turn.taken():
        assert (plain.training, elsewhere.training, elsewhere.inner) == (True, True, True)


def test_what_fails_inside_a_step_leaves_threads_mode_and_streams_as_they_were(tmp_path: Path) -> None:
    learner = Breaking().eval()
    before = torch.get_rng_state(), torch.get_num_threads()
    with pytest.raises(ValueError, match="broken"):
        events_of(tmp_path, learner, threads=before[1] + 1)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.get_num_threads() == before[1]
    assert not learner.training


class Greedy(Toy):
    """Runs out of memory with more than three items, in the process that it is made for."""

    def __init__(self, greedy: bool = True) -> None:
        super().__init__()
        self.greedy = greedy

    def forward(self, batch: Batch) -> StepOutput:
        if self.greedy and batch.size > 3:
            raise torch.OutOfMemoryError("out of memory")
        return super().forward(batch)


def test_halves_that_memory_decided_are_taken_again_after_a_resume_with_more_memory(tmp_path: Path) -> None:
    whole, learner = Greedy(), Greedy()
    events_of(tmp_path / "whole", whole)
    loop = fit(learner, ToyLoader(), groups("all", learner.net, "net"), plan(), context(tmp_path / "cut"))
    next(event for event in loop if isinstance(event, Stepped) and event.step == 3)
    del loop
    rich, here = Greedy(greedy=False), context(tmp_path / "cut")
    list(fit(rich, ToyLoader(), groups("all", rich.net, "net"), plan(), here, resume=here.checkpoints.first(0)))
    assert all(torch.equal(a, b) for a, b in zip(rich.state_dict().values(), whole.state_dict().values(), strict=True))


def test_a_phase_that_began_again_is_resumed_there(tmp_path: Path) -> None:
    whole, seen = Toy(poison=9), []
    expected = events_of(tmp_path / "whole", whole)
    loop = fit((learner := Toy(poison=9)), ToyLoader(), groups("all", learner.net, "net"), plan(), context(tmp_path / "cut"))
    for event in loop:
        seen.append(event)
        if isinstance(event, Warned):
            break
    first = tmp_path / "cut" / "checkpoints" / "00-00000000.safetensors"
    assert list(first.parent.iterdir()) == [first], "those that led to it are gone"
    copy = first.read_bytes()
    loop.close()
    first.write_bytes(copy)
    checkpoint = latest(context(tmp_path / "cut").checkpoints)
    assert checkpoint is not None
    assert checkpoint.state["progress"]["failures"] == 1
    fresh = Toy()
    list(fit(fresh, ToyLoader(), groups("all", fresh.net, "net"), plan(), context(tmp_path / "cut"), resume=checkpoint))
    assert all(torch.equal(a, b) for a, b in zip(fresh.state_dict().values(), whole.state_dict().values(), strict=True))
    assert len(losses(expected)) == 20


def test_what_a_checkpoint_holds_is_announced_before_it_is_written(tmp_path: Path) -> None:
    written, saved = [], []
    for event in fit((learner := Toy()), ToyLoader(), groups("all", learner.net, "net"), plan(), context(tmp_path)):
        there = {int(path.stem[3:]) for path in (tmp_path / "checkpoints").iterdir()}
        if isinstance(event, Saving):
            assert event.step == 20 or event.step not in there, "the last step has one of its own before it"
            written.append(event.step)
        if isinstance(event, Saved):
            assert event.step in there
            saved.append(event.step)
            assert saved == written
    assert 20 in written


def test_a_micro_batch_has_the_gradient_of_the_whole(tmp_path: Path) -> None:
    whole, parts = Toy().eval(), Toy().eval()
    for learner, micro in ((whole, None), (parts, 2)):
        learner.train = lambda mode=True, m=learner: m  # type: ignore[method-assign,misc] # dropout off: its draws depend on the split
        events_of(tmp_path / str(micro), learner, epochs=1, precision=Precision(micro_batch=micro))
    assert (whole.calls, parts.calls) == (5, 15), "three parts of two items a step"
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(whole.state_dict().values(), parts.state_dict().values(), strict=True))


def test_early_stopping_restores_the_best(tmp_path: Path) -> None:
    learner = Toy()
    values = iter([0.5, 0.9, 0.8, 0.7, 0.6, 0.5])
    at_best: dict[str, Tensor] = {}

    def measure() -> dict[str, float]:
        value = next(values)
        if value == 0.9:
            at_best.update({k: v.clone() for k, v in learner.state_dict().items()})
        return {"accuracy": value}

    evaluation = Evaluation(splits={"select": measure}, selects="select")
    events = events_of(tmp_path, learner, evaluation, epochs=6, patience=2, ema=None)
    assert [e.best for e in events if isinstance(e, Evaluated)] == [True, True, False, False]
    assert isinstance(events[-1], Finished)
    assert events[-1].reason == "early_stopped"
    assert all(torch.equal(v, at_best[k]) for k, v in learner.state_dict().items())


def test_a_metric_that_does_not_exist_yet_is_neither_best_nor_worse(tmp_path: Path) -> None:
    values: Iterator[dict[str, float]] = iter([{}, {"accuracy": 0.5}, {}, {"accuracy": 0.4}])
    evaluation = Evaluation(splits={"select": lambda: next(values)}, selects="select")
    events = events_of(tmp_path, Toy(), evaluation, epochs=4, patience=2, ema=None)
    assert [e.best for e in events if isinstance(e, Evaluated)] == [False, True, False, False]


def test_nan_begins_the_phase_again_at_half_the_rate(tmp_path: Path) -> None:
    events = events_of(tmp_path, Toy(poison=9))
    warned = [e for e in events if isinstance(e, Warned)]
    assert len(warned) == 1
    assert "not a number" in warned[0].message
    assert "0.025" in warned[0].message
    assert max(e.lr for e in events[events.index(warned[0]) :] if isinstance(e, Stepped)) == pytest.approx(0.025)


def test_hopeless_training_ends_with_words(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="Lower lr"):
        events_of(tmp_path, lr=1e6, optim=Optim(name="sgd"), clip=None, schedule=Schedule(name="constant", warmup=0.0))


def test_a_cut_checkpoint_is_recognised(tmp_path: Path) -> None:
    events_of(tmp_path, epochs=1)
    path = sorted((tmp_path / "checkpoints").iterdir())[-1]
    path.write_bytes(path.read_bytes()[:-10])
    assert read_checkpoint(path) is None


@pytest.mark.parametrize("name", ["one_cycle", "cosine", "linear", "step", "plateau", "constant", "wsd"])
def test_schedules_warm_up_and_stay_in_range(name: str) -> None:
    schedule = Schedule(name=name)  # type: ignore[arg-type]
    factors = [schedule.factor(x) for x in np.linspace(0, 1, 101)]
    assert all(0 <= f <= 1 for f in factors)
    assert factors[0] < 0.05
    assert max(factors) == pytest.approx(1.0, abs=0.01)
    if name in ("one_cycle", "cosine", "linear", "wsd"):
        assert factors[-1] == pytest.approx(0.0, abs=1e-9)
