"""Where a run is resumed: its newest checkpoint, the events behind it, and the threads it was started with."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pretune.errors import DataError, RequestError
from pretune.recipe import MOST_THREADS
from pretune.runner.reporter import Reporter
from pretune.training.checkpoint import Checkpoint, Checkpoints, read_checkpoint
from pretune.training.device import Device
from pretune.training.plan import Progress
from pretune.training.run_dir import Position, RunDir

_RECIPE = "recipe.json"


def position(phases: Sequence[str], checkpoint: Checkpoint | None) -> Position:
    """Return how far a run of these phases had come when the checkpoint was written."""
    if checkpoint is None:
        return Position()
    number, progress = int(checkpoint.state["phase"]), checkpoint.state["progress"]
    if checkpoint.state["done"]:
        return Position(done=phases[: number + 1])
    return Position(done=phases[:number], phase=phases[number], step=int(progress["step"]), restarts=int(progress["failures"]))


def rewind(folder: RunDir, phases: Sequence[str], checkpoint: Checkpoint | None, reporter: Reporter) -> None:
    """Forget the events after a checkpoint, whose steps are taken again, and say where training resumes."""
    where = position(phases, checkpoint)
    folder.rewind_events(where, reporter.warn)
    if where.phase and where.step:
        reporter.say(f"training resumes after step {where.step:,} of {where.phase}")
    elif where.done:
        rest = [phase for phase in phases if phase not in where.done]
        reporter.say(f"{', '.join(where.done)} is done; {f'training resumes with {rest[0]}' if rest else 'only the evaluation is left'}")
    else:
        reporter.say("there is no checkpoint yet: training starts from the beginning")


def seconds_before(folder: RunDir, checkpoint: Checkpoint | None) -> float:
    """Return the seconds of training that a resumed run took before it was stopped."""
    if checkpoint is None:
        return 0.0
    number, progress = int(checkpoint.state["phase"]), Progress.from_json(checkpoint.state["progress"])
    earlier = [event["seconds"] for event in folder.events() if event["event"] == "finished"][:number]
    return sum(earlier) + progress.seconds + progress.overhead


def same_threads(folder: RunDir, reporter: Reporter) -> int | None:
    """Compute with as many threads as the run was started with, and return how many: sums in another order round otherwise."""
    if not (folder.path / _RECIPE).exists():  # of a module of the person's own
        return None
    resolved = folder.read_json(_RECIPE).get("resolved")
    count = resolved.get("threads") if isinstance(resolved, dict) else None
    if not isinstance(count, int) or not 0 < count <= MOST_THREADS or count == torch.get_num_threads():
        return None
    reporter.say(f"computing with {count} threads, as when this run was started; now there would be {torch.get_num_threads()}")
    torch.set_num_threads(count)
    return count


def newest_checkpoint(checkpoints: Checkpoints, device: Device, reporter: Reporter) -> Checkpoint | None:
    """Return the newest whole checkpoint, the same one on every process; None where there is none.

    Raises:
        RequestError: the run was trained by another number of processes.
    """
    path = device.decide(lambda: checkpoints.newest(reporter.warn))
    if path is None:
        return None
    checkpoint = read_checkpoint(path)
    if checkpoint is None:
        raise DataError(f"{path} cannot be read by process {device.rank}. All processes need the same run folder.")
    require_same_processes(checkpoint, device)
    return checkpoint


def require_same_processes(checkpoint: Checkpoint, device: Device) -> None:
    """Refuse a checkpoint of another number of processes: each has batches and random streams of its own.

    Raises:
        RequestError: the number differs.
    """
    count = len(checkpoint.state["streams"])
    if count != device.world:
        how = "without torchrun" if count == 1 else f"with: torchrun --nproc-per-node {count} (or as many over several machines)"
        raise RequestError(
            f"the run was trained by {count} process(es), and this command started {device.world}. Resume it {how}, "
            "or start again with another out=…"
        )
