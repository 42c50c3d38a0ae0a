"""The folder of a run: a new one, or the unfinished one that is resumed; claimed, so that no other run writes into it."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
from contextlib import ExitStack
from pathlib import Path

from pretune import saved
from pretune.errors import DataError, RequestError
from pretune.pretraining import Pretraining
from pretune.printable import file_name
from pretune.recipe import Recipe
from pretune.runner.reporter import Reporter
from pretune.training.checkpoint import Checkpoints
from pretune.training.device import Device
from pretune.training.run_dir import RunDir, remove_temporary

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
