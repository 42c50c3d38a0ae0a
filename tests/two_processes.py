"""What two processes do in test_resume.py; run twice at the same time, with RANK 0 and 1: python -m tests.two_processes FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from pretune.errors import Interrupted, RequestError, TrainingError
from pretune.runner.reporter import Silent
from pretune.runner.resuming import newest_checkpoint
from pretune.strategies._base import groups
from pretune.training.checkpoint import Checkpoint, Checkpoints, Decisions
from pretune.training.device import Device, open_device
from pretune.training.events import Stepped
from pretune.training.loop import TrainingContext, fit
from tests.test_loop import Toy, ToyLoader, losses, plan


def context(folder: Path, device: Device) -> TrainingContext:
    folder.mkdir(exist_ok=True)
    return TrainingContext(
        device=device, checkpoints=Checkpoints(folder / "checkpoints", 2), decisions=Decisions(folder / "decisions.jsonl", device)
    )


def train(folder: Path, device: Device, stop: int | None = None, resume: Checkpoint | None = None) -> tuple[dict[int, float], Toy]:
    """Train with a decision of its own on each rank; at `stop` both are interrupted."""
    learner, here = Toy(), context(folder, device)
    mine = here.decisions.make("training/precision", lambda: device.rank)
    assert mine == 0, "the first process decides for all, before and after a resume"
    events = fit(learner, ToyLoader(), groups("all", learner.net, "net"), plan(ema=None), here, resume=resume)
    seen = []
    try:
        for event in events:
            seen.append(event)
            if isinstance(event, Stepped) and event.step == stop and device.any(device.rank == 1):
                events.throw(Interrupted("stopped"))
    except Interrupted:
        pass
    return losses(seen), learner


def main(home: Path) -> None:
    with open_device() as device:
        whole, expected = train(home / "whole", device)
        begun, _ = train(home / "cut", device, stop=7)
        checkpoint = newest_checkpoint(context(home / "cut", device).checkpoints, device, Silent())
        assert checkpoint is not None
        assert checkpoint.state["progress"]["step"] == 7
        rest, learner = train(home / "cut", device, resume=checkpoint)
        assert begun | rest == whole
        assert all(torch.equal(a, b) for a, b in zip(learner.state_dict().values(), expected.state_dict().values(), strict=True))
        alone = Checkpoint(tensors={}, state={**checkpoint.state, "streams": checkpoint.state["streams"][:1]})
        Checkpoints(home / "alone", 2).save(0, 1, alone) if device.first else None
        device.wait()
        for attempt in (refused, lambda *_: newest_checkpoint(Checkpoints(home / "alone", 2), device, Silent())):
            try:
                attempt(device)
            except (RequestError, TrainingError) as error:
                print(f"{type(error).__name__}: {error}", flush=True)
        if device.rank == 1:
            raise ValueError("the second process broke")
        device.wait()


def refused(device: Device) -> None:
    def no() -> None:
        raise RequestError("the folder is taken")

    device.decide(no)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except TrainingError as error:
        print(f"ended: {error}", flush=True)
