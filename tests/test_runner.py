"""A run is a generator of events: runs take turns, stop at any event and are resumed, and nothing shows in their loss curves."""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pretune as pt
from pretune.errors import DataError, Interrupted
from pretune.runner.finetune import FineTuning
from pretune.runner.reporter import Noted, Silent
from pretune.runner.runner import Runner
from pretune.training.events import Event, Finished, Started, Stepped
from pretune.training.run_dir import RunDir
from tests.test_flows import folder

SMALL: dict[str, Any] = {"image_size": 16, "batch_size": 4, "precision": "float32", "threads": 1}
TUNED: dict[str, Any] = SMALL | {"backbone": "scratch:cnn,width=8,depth=1", "strategy": "full", "augment": "light", "epochs": 2}
TUNED |= {"head": {"name": "linear", "solver": "steps"}}
PRETRAINED: dict[str, Any] = SMALL | {"backbone": "scratch:vit,width=12,layers=1,heads=3,patch=8", "objective": "masked", "epochs": 3}


@pytest.fixture
def photos(home: Path) -> Path:
    folder(home / "photos", 8)
    return home


def started(name: str, out: str, **more: Any) -> Any:
    """Return the events of a small fine-tuning or pretraining."""
    if name == "tuned":
        return pt.events(pt.Recipe.from_settings("photos", base=TUNED | {"out": out} | more))
    return pt.events(pt.Pretraining.from_settings("photos", base=PRETRAINED | {"out": out} | more))


def curve(out: str) -> list[tuple[str, int, float, float]]:
    return [(e["phase"], e["step"], e["loss"], e["lr"]) for e in RunDir(Path(out)).events() if e["event"] == "stepped"]


def weights(out: str) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(Path(out).rglob("*.safetensors")) if "checkpoints" not in path.parts)


def disturb(turn: int) -> None:
    """What a program may do between two events: draw random numbers, use other threads."""
    torch.manual_seed(turn), random.seed(turn), np.random.seed(turn)
    torch.set_num_threads(1 + turn % 2)


def test_two_runs_that_take_turns_have_the_curves_of_two_that_do_not(photos: Path) -> None:
    """The consumer asks in inference mode and autocast, with other threads and random numbers, and finds its own as it left them."""
    for name in ("tuned", "pretrained"):
        assert list(started(name, f"{name}-alone"))
    before = torch.get_num_threads()
    runs = {name: started(name, f"{name}-turns") for name in ("tuned", "pretrained")}
    left, turn = dict(runs), 0
    try:
        while left:
            for name, events in list(left.items()):
                turn += 1
                disturb(turn)
                state = torch.get_rng_state(), random.getstate(), torch.get_num_threads()
                with torch.inference_mode(turn % 3 == 0), torch.autocast("cpu", dtype=torch.bfloat16, enabled=turn % 3 == 1):
                    if next(events, None) is None:
                        left.pop(name)
                assert torch.equal(state[0], torch.get_rng_state())
                assert (random.getstate(), torch.get_num_threads()) == state[1:]
    finally:
        torch.set_num_threads(before)
    for name, events in runs.items():
        assert len(curve(f"{name}-alone")) > 8
        assert curve(f"{name}-turns") == curve(f"{name}-alone")
        assert weights(f"{name}-turns") == weights(f"{name}-alone")
        assert events.run.metrics == RunDir(Path(f"{name}-turns")).read_json("metrics.json"), "kept, as a reader of the file gets it"
        assert events.run.report.exists()


@pytest.mark.parametrize("name", ["tuned", "pretrained"])
def test_a_run_that_is_closed_midway_is_resumed_bit_for_bit(photos: Path, name: str) -> None:
    assert list(started(name, "whole"))
    events = started(name, "cut")
    seen = [event for _, event in zip(range(7), events, strict=False)]
    assert isinstance(seen[0], Started)
    assert isinstance(seen[-1], Stepped)
    events.close()
    assert not (Path("cut") / "report.html").exists()
    assert list(started(name, "cut", resume=True))
    assert curve("cut") == curve("whole")
    assert weights("cut") == weights("whole")
    assert not list((Path("cut") / "checkpoints").glob("[0-9]*")), "removed when the report was there"


def test_a_closed_run_lets_go_of_its_folder_and_one_that_is_suspended_does_not(photos: Path) -> None:
    first = started("tuned", "run")
    next(first)
    with pytest.raises(pt.RequestError, match="belongs to a run that is not over"):
        next(started("tuned", "run", resume=True))
    other = started("tuned", "other")
    next(other)
    first.close()
    with pytest.raises(pt.RequestError, match="belongs to a run that is not over"):
        next(started("tuned", "other", resume=True))
    other.close()
    again = started("tuned", "other", resume=True)
    assert isinstance(next(again), Started)
    again.close()


def test_the_clock_of_a_suspended_run_stands_still(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hand = [0.0]
    monkeypatch.setattr("pretune.runner.runner.Deadline", lambda total, begun: deadline(total, hand))
    events = started("tuned", "run")
    for _ in events:
        hand[0] += 1000.0
    assert events.run.metrics["timing"]["total_s"] == 0.0


def deadline(total: float | None, hand: list[float]) -> Any:
    from pretune.runner.deadline import Deadline

    return Deadline(total, 0.0, lambda: hand[0])


class Interrupting(Silent):
    """Presses Ctrl-C while it shows a step: between two turns of the run."""

    def event(self, event: Event) -> None:
        if isinstance(event, Stepped) and event.phase != "probe" and event.step == 2:
            signal.raise_signal(signal.SIGINT)


def test_a_request_to_stop_that_comes_while_an_event_is_shown_ends_with_the_line_that_resumes(photos: Path) -> None:
    recipe = pt.Recipe.from_settings("photos", base=TUNED | {"out": "run"})
    with pytest.raises(Interrupted, match=r"^stopped; resume it with: pretune finetune .*out=run resume=true"):
        Runner(FineTuning(recipe=recipe), reporter=Interrupting()).run_job()
    assert list((Path("run") / "checkpoints").glob("[0-9]*"))
    assert list(started("tuned", "whole"))
    assert list(started("tuned", "run", resume=True))
    assert curve("run") == curve("whole")


def test_then_is_one_more_consumer_whose_runs_show_as_parts(photos: Path) -> None:
    reporter = Noted(Silent())
    settings = PRETRAINED | {"out": "run", "epochs": 1, "then": "photos", "seeds": 1, "then_epochs": 1}
    events = pt.events(pt.Pretraining.from_settings("photos", base=settings), reporter=reporter)
    phases = list(dict.fromkeys(event.phase for event in events))
    assert [phase.partition(":")[0] for phase in phases[1:]] == [f"{arm}, seed 0" for arm in ("pretrained", "scratch", "longer")]
    assert len(events.run.metrics["gain"]["runs"]) == 3
    assert sum("labels, seed 0" in note for note in reporter.notes) == 3


def test_a_module_of_ones_own_goes_through_the_same_runner(tmp_path: Path) -> None:
    x = torch.randn(24, 4, generator=torch.Generator().manual_seed(0))

    def own(out: str) -> Any:
        torch.manual_seed(0)
        module = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(4, 1))
        plan = pt.Plan(number=0, phase="train", epochs=3, lr=0.05)
        data = torch.utils.data.TensorDataset(x, x.sum(1))
        return pt.Own(module=module, loss=squared, train=data, out=tmp_path / out, plan=plan, batch_size=6)

    def losses(events: Iterator[Event]) -> list[float]:
        return [event.loss for event in events if isinstance(event, Stepped)]

    whole = losses(pt.train(own("whole")))
    one, other = own("one"), own("other")
    pairs = list(zip(pt.train(one), pt.train(other), strict=True))
    assert losses(event for event, _ in pairs) == losses(event for _, event in pairs) == whole
    cut = pt.train(own("cut"))
    begun = [event for _, event in zip(range(6), cut, strict=False)]
    cut.close()
    assert losses(iter(begun)) + losses(pt.train(own("cut"), resume=True)) == whole
    assert not any(isinstance(event, Finished) for event in begun)
    assert {path.name for path in (tmp_path / "whole").iterdir()} == {"checkpoints", "events.jsonl"}


def squared(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (outputs.squeeze(1) - targets).square().mean()


@pytest.mark.parametrize("when", ["saving", "the end"])
def test_a_folder_that_is_deleted_in_training_ends_the_run_with_one_sentence(tmp_path: Path, when: str) -> None:
    data = torch.utils.data.TensorDataset(torch.randn(12, 3), torch.randn(12, 1))
    plan = pt.Plan(number=0, phase="train", epochs=3, lr=0.1)
    own = pt.Own(module=torch.nn.Linear(3, 1), loss=torch.nn.functional.mse_loss, train=data, out=tmp_path / "run", plan=plan, batch_size=6)
    events = pt.train(own)
    for event in events:
        if isinstance(event, Started if when == "saving" else Finished):
            break
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(DataError, match=r"run was deleted or moved while the run was writing to it"):
        list(events)
    assert not (tmp_path / "run" / "checkpoints").exists()
