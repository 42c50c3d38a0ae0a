"""What a command shows while it works: never nothing for long, whether on a terminal or in a file, and Ctrl-C is answered at once."""

from __future__ import annotations

import signal
import time
from collections.abc import Generator
from dataclasses import replace
from typing import Any

import pytest

from pretune.cli import opening
from pretune.cli.progress import QUIET, ProgressDisplay, ProgressPhase, shown
from pretune.cli.terminal import Terminal
from pretune.runner.reporter import PrefixedReporter, within
from pretune.training.events import Evaluated, Event, Finished, Started, Stepped

STEPPED = Stepped(phase="full", step=10, epoch=1, loss=0.25, lr=0.1, size=80, steps=40, seconds=5.0, waited=2.0)


class Recorded:
    """A reporter that keeps everything it gets."""

    def __init__(self) -> None:
        self.got: list[Any] = []

    def say(self, message: str) -> None:
        self.got.append(message)

    warn = say

    def progress(self, label: str, done: int, total: int) -> None:
        self.got.append((label, done, total))

    def event(self, event: Any) -> None:
        self.got.append(event)


# --- time that is left ------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (7.4, "0:07"), (754, "12:34"), (3723, "1:02:03")])
def test_durations_are_written_as_clocks_show_them(seconds: float, text: str) -> None:
    assert shown(seconds) == text


def test_the_time_left_is_told_from_the_first_step_on_and_never_beyond_the_given_time() -> None:
    assert ProgressPhase(label="x", total=100, done=1, began=0.0).left(2.0) == 198.0
    assert ProgressPhase(label="x", total=100, done=1, began=0.0, until=30.0).left(2.0) == 28.0
    assert ProgressPhase(label="x", total=100, done=0, began=0.0, until=30.0).left(2.0) == 28.0
    assert ProgressPhase(label="x", began=0.0).left(2.0) is None
    assert ProgressPhase(label="x", total=4, done=2, began=0.0, until=1.0).left(2.0) == 2.0, "the given time is over"


def test_a_phase_says_how_far_it_is_in_one_line() -> None:
    assert ProgressPhase(label="reading images", total=40, done=10, began=0.0).line(10.0) == "reading images 10/40  0:30 left"
    assert ProgressPhase(label="loading PyTorch", began=0.0).line(12.0) == "loading PyTorch  0:12"


# --- where there is no terminal ---------------------------------------------------------------------


def test_a_line_comes_now_and_then_where_nothing_else_is_printed() -> None:
    lines: list[str] = []
    bar: Any = ProgressDisplay(None, lines.append)  # type: ignore[arg-type]
    began = time.monotonic()
    bar.begin(ProgressPhase(label="reading images", total=1000, began=began))
    bar.spoke = began
    for second in range(1, 601):
        bar.update(second, 1000, f"{second}/1000  1 images/s")
        bar.beat(began + second)
    bar.close()
    assert lines[0] == "reading images  10/1000  1 images/s  16:30 left"
    assert 15 <= len(lines) <= 40
    bar.beat(began + 5000)
    assert len(lines) < 41, "nothing after the end"


def test_no_line_comes_where_sentences_come_or_nothing_is_done() -> None:
    lines: list[str] = []
    bar: Any = ProgressDisplay(None, lines.append)  # type: ignore[arg-type]
    bar.spoke = 0.0
    bar.beat(100.0)
    bar.begin(ProgressPhase(label="x", began=0.0))
    bar.spoke = 99.0
    bar.beat(99.0 + QUIET / 2)
    bar.close()
    assert lines == []


def test_training_shows_epoch_step_loss_metric_and_waiting(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    terminal.event(Started(phase="full", step=0, steps=40, trainable=1))
    terminal.event(Evaluated(phase="full", step=5, epoch=1, split="val", metrics={"accuracy": 0.75, "log_loss": 0.5}, best=True))
    terminal.event(STEPPED)
    phase = terminal.bar.phase
    assert phase is not None
    assert phase.facts.startswith("epoch 2  step 10/40  loss 0.250  val accuracy 75.0 %")
    assert phase.facts.endswith("waiting for data 40%")
    terminal.event(Finished(phase="full", step=40, reason="time", seconds=9.0))
    assert terminal.bar.phase is None
    terminal.close()
    told = capsys.readouterr().err.splitlines()
    assert told == ["full, epoch 1: val accuracy 75.0 %, log loss 0.5  (best so far)", "full: 40 steps in 9.0 s; the time is up"]


def test_one_step_is_one_step(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    terminal.event(Started(phase="full", step=0, steps=1, trainable=1))
    terminal.event(Finished(phase="full", step=1, reason="completed", seconds=9.0))
    terminal.close()
    assert capsys.readouterr().err.splitlines() == ["full: 1 step in 9.0 s"]


def test_a_given_time_bounds_what_is_shown_as_left() -> None:
    terminal = Terminal(until=time.monotonic() + 30)
    terminal.event(Started(phase="pretrain", step=0, steps=100_000, trainable=1))
    assert terminal.bar.phase is not None
    terminal.bar.phase.began -= 10
    terminal.event(STEPPED)
    assert 20 < (terminal.bar.phase.left(time.monotonic()) or 0) <= 30
    terminal.close()


def test_work_of_unknown_length_lasts_until_the_next(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal(stdout=True)
    terminal.progress("loading the backbone", 0, 0)
    assert terminal.bar.phase is not None
    assert terminal.bar.phase.label == "loading the backbone"
    terminal.progress("reading images", 3, 3)
    assert terminal.bar.phase is None
    terminal.say("an answer")
    terminal.close()
    assert capsys.readouterr().out == "an answer\n"


def test_a_run_within_another_moves_the_bar_and_says_nothing() -> None:
    outer = Recorded()
    arm = PrefixedReporter(outer, "scratch, seed 1")
    arm.say("a sentence")
    arm.warn("a warning")
    arm.progress("reading images", 1, 2)
    assert outer.got == [("scratch, seed 1: reading images", 1, 2)]

    def events() -> Generator[Event, bool | None, str]:
        yield STEPPED
        yield Finished(phase="full", step=40, reason="completed", seconds=9.0)
        return "the result"

    arm_events = within(events(), "scratch, seed 1")
    assert next(arm_events) == replace(STEPPED, phase=f"scratch, seed 1: {STEPPED.phase}")
    with pytest.raises(StopIteration) as end:
        next(arm_events)
    assert end.value.value == "the result"


# --- Ctrl-C -----------------------------------------------------------------------------------------


def test_ctrl_c_is_answered_at_once_and_the_second_one_explained(capsys: pytest.CaptureFixture[str]) -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        with opening.acknowledged():
            for _ in range(2):
                signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert came == [signal.SIGINT, signal.SIGINT]
    message = capsys.readouterr().err
    assert opening.ASKED in message
    assert message.index(opening.ASKED) < message.index(opening.AGAIN)
    assert signal.set_wakeup_fd(-1) == -1, "nobody listens afterwards"
