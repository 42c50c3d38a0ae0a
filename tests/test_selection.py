"""What stops early and what is kept: only the part that selects decides, by its metric's own direction."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from pretune.training.context import CurvePoint
from pretune.training.events import Evaluated, Finished
from pretune.training.loop import Evaluation
from pretune.training.plan import Progress
from tests.test_loop import Toy, events_of


def measured(learner: Toy, values: list[float], metric: str, seen: list[Tensor]) -> Callable[[], dict[str, float]]:
    """Return a measure that gives these values in turn, and keeps the weights that it saw."""
    left = iter(values)

    def measure() -> dict[str, float]:
        seen.append(next(learner.net.parameters()).detach().clone())
        return {metric: next(left)}

    return measure


def test_the_lowest_error_is_kept(tmp_path: Path) -> None:
    learner, seen = Toy(), list[Tensor]()
    parts = {"select": measured(learner, [3.0, 1.0, 2.0, 2.5], "mae", seen)}
    evaluation = Evaluation(splits=parts, selects="select", primary="mae", higher_is_better=False)
    events = events_of(tmp_path, learner, evaluation, epochs=6, patience=2, ema=None)
    assert [event.best for event in events if isinstance(event, Evaluated)] == [True, True, False, False]
    assert torch.equal(next(learner.net.parameters()), seen[1])


def test_only_the_part_that_selects_chooses(tmp_path: Path) -> None:
    """The score's best epoch is the last; what selects peaks at the first."""
    learner, seen, score = Toy(), list[Tensor](), list[Tensor]()
    parts = {
        "select": measured(learner, [0.9, 0.5, 0.4, 0.3], "accuracy", seen),
        "val": measured(learner, [0.1, 0.95, 0.97, 0.99], "accuracy", score),
    }
    events = events_of(tmp_path, learner, Evaluation(splits=parts, selects="select"), epochs=4, patience=3, ema=None)
    best = [(event.split, event.epoch) for event in events if isinstance(event, Evaluated) and event.best]
    assert best == [("select", 1)]
    assert torch.equal(next(learner.net.parameters()), seen[0])
    last = events[-1]
    assert isinstance(last, Finished)
    assert (last.reason, last.step) == ("early_stopped", 20)


def test_without_a_part_that_selects_the_last_weights_stay(tmp_path: Path) -> None:
    learner, score = Toy(), list[Tensor]()
    parts = {"val": measured(learner, [0.9, 0.1, 0.1, 0.1], "accuracy", score)}
    events = events_of(tmp_path, learner, Evaluation(splits=parts), epochs=4, ema=None)
    assert not [event for event in events if isinstance(event, Evaluated) and event.best]
    assert torch.equal(next(learner.net.parameters()), score[3])


def test_a_learning_curve_chooses_nothing_and_is_measured_where_it_has_a_point(tmp_path: Path) -> None:
    """With patience and another split's curve that peaks at the first epoch; curves are drawn at epochs that do not select too."""
    learner, seen = Toy(), list[tuple[int, bool, bool]]()

    def curve(progress: Progress, last: bool) -> CurvePoint | None:
        seen.append((progress.epoch, last, learner.training))
        return None if progress.epoch == 2 else CurvePoint(metrics={"accuracy": 1.0 / progress.epoch}, examples=3)

    parts = {"select": measured(learner, [0.1, 0.2, 0.3], "accuracy", [])}
    evaluation = Evaluation(splits=parts, curves={"val": curve}, selects="select")
    events = events_of(tmp_path, learner, evaluation, epochs=6, evaluate_every=2, patience=1, ema=None)
    points = [event for event in events if isinstance(event, Evaluated)]
    assert [(event.epoch, event.best, event.examples) for event in points if event.split == "val"] == [
        (epoch, False, 3) for epoch in (1, 3, 4, 5, 6)
    ]
    assert [(event.epoch, event.best, event.examples) for event in points if event.split == "select"] == [
        (epoch, True, None) for epoch in (2, 4, 6)
    ]
    assert seen == [(epoch, epoch == 6, False) for epoch in range(1, 7)]


def test_parts_are_measured_in_eval_mode_every_so_many_epochs_and_at_the_end(tmp_path: Path) -> None:
    learner, modes = Toy(), list[bool]()

    def measure() -> dict[str, float]:
        modes.append(learner.training)
        return {"accuracy": 0.5}

    events = events_of(tmp_path, learner, Evaluation(splits={"val": measure}), epochs=7, evaluate_every=3, ema=None)
    assert [event.epoch for event in events if isinstance(event, Evaluated)] == [3, 6, 7]
    assert modes == [False] * 3
