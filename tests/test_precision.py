"""The choice of a dtype costs little, survives what does not run, and is the same the next time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from pretune.deploy._scorers import _here
from pretune.runner.precision import sentence
from pretune.storage.cache import Cache
from pretune.storage.remembered import remembered
from pretune.storage.store import NoRoom
from pretune.training import timing
from pretune.training.plan import Precision
from pretune.training.timing import race
from pretune.types import Features

CPU = torch.device("cpu")


@dataclass
class Clock:
    """Time that passes only where a test says so: of the processor, and waited for it."""

    now: float = 0.0
    waited: float = 0.0

    def process_time(self) -> float:
        return self.now

    def perf_counter(self) -> float:
        return self.now + self.waited


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(timing, "time", made)
    return made


@pytest.mark.parametrize(("each", "job"), [(0.001, 100), (0.02, 124), (0.1, 100), (1.0, 40), (1.0, 10_000), (30.0, 124)])
def test_a_choice_costs_a_second_or_two_per_cent_of_the_job(clock: Clock, each: float, job: int) -> None:
    computed: list[int] = []

    def run(size: int) -> None:
        computed.append(size)
        clock.now += each * size

    times = race({"plain": run, "other": run}, CPU, sizes=(1, 8), job=job)
    # One example of each alternative is the least that says anything.
    assert clock.now <= max(min(10.0, max(1.0, 0.02 * job * each)), 2 * each) + 1e-9
    assert times.seconds == pytest.approx({"plain": each, "other": each})


@pytest.mark.parametrize(("each", "waiting"), [(0.001, 0.0), (0.05, 0.0), (0.05, 0.4), (3.0, 0.0), (3.0, 10.0)])
def test_a_choice_keeps_to_its_share_of_a_time_limit_on_a_busy_machine_too(clock: Clock, each: float, waiting: float) -> None:
    def run(size: int) -> None:
        clock.now += each * size
        clock.waited += waiting * size

    times = race({"plain": run, "other": run}, CPU, sizes=(1, 8), job=100_000, most_seconds=0.2)
    assert clock.perf_counter() <= max(0.2, 2 * (each + waiting)) + 1e-9
    assert times.seconds == pytest.approx({"plain": each, "other": each})


def test_a_first_call_that_prepares_does_not_count_and_the_hopeless_is_not_timed_again(clock: Clock) -> None:
    calls = {"plain": 0, "other": 0, "slow": 0}

    def alternative(name: str, each: float, first: float) -> None:
        def run(size: int) -> None:
            clock.now += each * size + (first if calls[name] == 0 else 0)
            calls[name] += 1

        alternatives[name] = run

    alternatives: dict[str, Callable[[int], None]] = {}
    alternative("plain", 0.002, 0.0)
    alternative("other", 0.001, 0.03)
    alternative("slow", 0.1, 0.0)
    times = race(alternatives, CPU, sizes=(1, 8), job=100)
    assert times.seconds == pytest.approx({"plain": 0.002, "other": 0.001, "slow": 0.1})
    assert calls == {"plain": 4, "other": 3, "slow": 1}


def test_what_does_not_run_is_no_candidate_and_is_reported() -> None:
    def broken(size: int) -> None:
        raise RuntimeError("could not create a primitive\nmore")

    times = race({"float32": lambda size: None, "bfloat16": broken}, CPU, sizes=(1, 8), job=10)
    assert list(times.seconds) == ["float32"]
    assert times.report("float32", str, "images").endswith("bfloat16 does not run on this machine (could not create a primitive)")
    with pytest.raises(RuntimeError, match="could not create a primitive"):
        race({"float32": broken, "bfloat16": lambda size: None}, CPU, sizes=(1, 8), job=10)


def test_a_choice_is_remembered_whatever_the_clock_says_later(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    first = remembered(cache, "precision", {"network": 1}, lambda: asdict(Precision(bfloat16=True, reason="20 images/s")))
    again = remembered(cache, "precision", {"network": 1}, lambda: pytest.fail("it was chosen before"))
    other = remembered(cache, "precision", {"network": 2}, lambda: asdict(Precision(bfloat16=False, reason="10 images/s")))
    assert first == again
    assert (first["bfloat16"], other["bfloat16"]) == (True, False)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"bfloat16": 1, "unknown": 2}'])
def test_a_damaged_memory_is_made_anew(tmp_path: Path, damage: str) -> None:
    cache = Cache(tmp_path)
    remembered(cache, "precision", {}, lambda: {"bfloat16": True})
    (entry,) = (tmp_path / "precision").iterdir()
    for file in entry.iterdir():
        file.write_text(damage)
    assert remembered(cache, "precision", {}, lambda: {"reason": "again"})["reason"] == "again"
    assert remembered(cache, "precision", {}, lambda: pytest.fail("it was chosen before"))["reason"] == "again"


def test_without_room_it_is_chosen_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> Path:
        raise NoRoom("the disk is full")

    monkeypatch.setattr(Cache, "build", full)
    assert remembered(Cache(tmp_path), "precision", {}, lambda: {"reason": "now"})["reason"] == "now"


def test_another_network_input_or_machine_is_another_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def facts(network: nn.Module, size: int = 4) -> str:
        return str(timing.facts_of("steps", network, Features(tensor=torch.zeros(2, size), layout="pooled"), CPU))

    def frozen(network: nn.Module) -> nn.Module:
        return network.requires_grad_(False)

    same = facts(nn.Linear(4, 2))
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 7)  # all is timed on one thread: how many there are decides nothing
        assert facts(nn.Linear(4, 2)) == same
    others = [facts(nn.Linear(4, 3)), facts(nn.Linear(4, 2), 5), facts(frozen(nn.Linear(4, 2)))]
    monkeypatch.setattr("pretune.kernels.processor.name", lambda device: "another processor")
    assert len({same, *others, facts(nn.Linear(4, 2))}) == 5


def test_the_setting_that_repeats_a_choice_is_printed() -> None:
    assert sentence("features", Precision(bfloat16=True, reason="20 images/s")) == "features: precision=bfloat16 (20 images/s)"


def test_a_run_in_bfloat16_predicts_in_float32_where_that_is_emulated(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    saved = [Precision(bfloat16=True, channels_last=True), Precision(bfloat16=True)]
    monkeypatch.setattr("pretune.kernels.processor.has_native_bfloat16", lambda device: True)
    assert _here(saved, CPU) == saved
    monkeypatch.setattr("pretune.kernels.processor.has_native_bfloat16", lambda device: False)
    assert [precision.bfloat16 for precision in _here(saved, CPU)] == [False, False]
    assert len(caplog.records) == 1
    assert "Predicting in float32" in caplog.text
    assert _here([Precision()], CPU) == [Precision()]
