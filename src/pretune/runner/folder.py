"""The folder of a run: a new one, or the unfinished one that is gone on with; and its events as they happen."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import torch

from pretune import saved
from pretune.errors import DataError, Interrupted, RequestError
from pretune.pretraining import Pretraining
from pretune.printable import file_name
from pretune.recipe import MOST_THREADS, Recipe
from pretune.runner.interrupt import Interruption
from pretune.runner.reporter import Reporter
from pretune.training.checkpoint import Checkpoint, Checkpoints, read_checkpoint
from pretune.training.device import Device
from pretune.training.events import Event, Saving, Started, Warned
from pretune.training.plan import Progress
from pretune.training.run_dir import Position, RunDir, remove_temporary

_RECIPE = "recipe.json"


Settings = Recipe | Pretraining
"""Of a verb that trains."""


def open_folder(recipe: Settings, name: str, device: Device, reporter: Reporter, claims: ExitStack) -> tuple[RunDir, bool]:
    """Return the run folder and whether an earlier start of the run is resumed in it.

    Args:
        recipe: says where, and whether to resume.
        name: of a new folder under runs/, to which a number is added.
        device: ranks agree on one folder.
        reporter: receives what is resumed.
        claims: keeps other runs out of the folder until it is closed.

    Raises:
        RequestError: the folder holds another run, or a finished one, or one that is not over.
    """

    def choose() -> tuple[Path, bool]:
        path, resumed = _choose(recipe, name, reporter)
        claim(path, claims)
        if resumed:  # a new run may be given a folder that holds other things
            remove_temporary(path)
        return path, resumed

    path, resumed = device.decide(choose)
    return RunDir(path), resumed


def claim(path: Path, claims: ExitStack) -> None:
    """Create a folder and keep other runs out of it until `claims` is closed: two would overwrite each other's checkpoints.

    Raises:
        RequestError: another run has it.
    """
    path.mkdir(parents=True, exist_ok=True)
    lock = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise RequestError(f"{path} belongs to a run that is not over. Wait for it, or choose another out=…") from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP):  # some network folders have no locks
            raise
    claims.callback(os.close, lock)


def name_of(data: str) -> str:
    """Return what a run on this data is called: the folder's name, or the file's without its ending."""
    path = Path(os.path.abspath(data))  # not resolved: a link has the name that people use
    return path.stem if path.is_file() else path.name


def _choose(recipe: Settings, name: str, reporter: Reporter) -> tuple[Path, bool]:
    place = recipe.place
    if place.out is not None and place.out.exists() and not place.out.is_dir():
        raise RequestError(f"out={place.out} is a file; name a folder.")
    if place.resume:
        found = _named(recipe, place.out) if place.out is not None else _unfinished(recipe, reporter)
        if found is not None:
            _require_no_links(found)
            reporter.say(f"resuming {found}")
            return found, True
        reporter.say("nothing to resume: no unfinished run of this recipe; starting it")
    if place.out is not None:
        if (place.out / _RECIPE).exists():
            raise RequestError(f"{place.out} already holds a run. Choose another out=…, or resume=true to go on with it.")
        return place.out, False
    return _numbered(Path("runs"), file_name(name) or "data"), False


def _named(recipe: Settings, path: Path) -> Path | None:
    """Return the folder that the person named, where a run of this recipe was started in it and is not finished."""
    if not (path / _RECIPE).exists():
        return None
    identity = _identity(path)
    if identity is None:
        raise RequestError(
            f"{path} cannot be resumed: its recipe.json is empty or damaged, so its settings are unknown. "
            "Start again with another out=…, or delete the folder."
        )
    if identity != recipe.identity():
        raise RequestError(f"{path} was started with other settings than these. Give the same ones, or start anew with another out=…")
    if is_finished(path):
        close(path)  # it may have been killed before it did
        raise RequestError(f"{path} is finished; there is nothing to resume. Its report: {path / 'report.html'}")
    return path


def _require_no_links(path: Path) -> None:
    """Refuse to go on with a run whose folder holds links: what is written there would be written elsewhere.

    Raises:
        RequestError: names the first.
    """
    link = next((inside for inside in sorted(path.rglob("*")) if inside.is_symlink()), None)
    if link is not None:
        raise RequestError(
            f"{link} is a link to {os.readlink(link)}; a run that is resumed has its files inside. Put the file in its place."
        )


def _unfinished(recipe: Settings, reporter: Reporter) -> Path | None:
    """Return the newest unfinished run of this recipe under runs/; one whose recipe.json is damaged is named and passed over."""
    mine = recipe.identity()
    folders = [path.parent for path in Path("runs").glob(f"*/{_RECIPE}") if not is_finished(path.parent)]
    for folder in sorted(folders, key=lambda folder: os.lstat(folder / _RECIPE).st_mtime, reverse=True):
        identity = _identity(folder)
        if identity is None:
            reporter.warn(f"{folder / _RECIPE} is empty or damaged: its settings are unknown, and the folder was ignored.")
        if identity == mine:
            return folder
    return None


def _identity(path: Path) -> str | None:
    """Return what a run's recipe.json says of the settings it was started with; None where it cannot be read."""
    try:
        return saved.field(saved.json_of(path / _RECIPE), "identity", str, path / _RECIPE)
    except DataError:
        return None


def is_finished(path: Path) -> bool:
    """Return whether a run wrote all it writes: the report comes last."""
    return (path / "metrics.json").exists() and (path / "report.html").exists()


def close(path: Path) -> None:
    """Remove what only a resume needs: the run is finished."""
    Checkpoints(path / "checkpoints", 1).clear()


def _numbered(parent: Path, stem: str) -> Path:
    """Make and return the first folder of that name which is not there yet; another run may be looking for one too."""
    for number in itertools.count(1):
        path = parent / f"{stem}-{number:03d}"
        if not path.exists():
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                continue
            return path
    raise AssertionError("numbers do not end")


def recorded(events: Generator[Event], folder: RunDir, device: Device) -> Generator[Event]:
    """Pass events on, writing them down in batches: at once would cost more than some steps do."""
    pending: list[dict[str, Any]] = []
    flushed = time.monotonic()
    try:
        for event in events:
            if isinstance(event, Saving):  # what a checkpoint holds must be in the record, or a killed run never tells it
                if device.first:
                    folder.append_events(pending)
                pending = []
                continue
            pending.append(event.to_json())
            if not isinstance(event, Started) and (type(event).__name__ != "Stepped" or time.monotonic() - flushed > 1.0):
                if device.first:
                    folder.append_events(pending)
                pending, flushed = [], time.monotonic()
            yield event
    finally:  # a run that is stopped has taken these steps too
        if device.first and pending:
            folder.append_events(pending)


def follow(events: Generator[Event], folder: RunDir, device: Device, reporter: Reporter, resume: str) -> Generator[Event, bool | None]:
    """Yield every event of training once it is recorded; after Ctrl-C on any process all save and stop.

    Whoever consumes the events may send True: it was asked to stop while the run was suspended.

    Args:
        events: of the phases; `Interrupted` thrown into it saves.
        folder: takes the events.
        device: this process's place.
        reporter: receives warnings.
        resume: the command that resumes this run.

    Raises:
        Interrupted: Ctrl-C; the message ends with `resume`.
    """
    stopped, asked = Interrupted(f"stopped; resume it with: {resume}"), False
    with closing(events), closing(recorded(events, folder, device)) as written:
        while True:
            with Interruption() as interruption:
                try:
                    if device.any(asked):
                        written.close()  # the events of these steps are written before the checkpoint that holds them
                        events.throw(stopped)
                    event = next(written, None)
                except KeyboardInterrupt:  # in a pass over the data, or a second Ctrl-C: the last checkpoint is what is resumed
                    raise stopped from None
            if event is None:
                return
            if isinstance(event, Warned):
                reporter.warn(event.message)
            asked = bool((yield event)) or interruption.asked


# --- resuming ------------------------------------------------------------------------------------


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
