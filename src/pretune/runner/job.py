"""What a runner carries out: fine-tuning, pretraining and training a caller's own module are jobs, which say only what differs."""

from __future__ import annotations

import functools
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from pretune.commands import resume_line
from pretune.data.loader import Loader
from pretune.models import Learner
from pretune.pretraining import Pretraining
from pretune.recipe import Place, Recipe, trusted
from pretune.runner.deadline import Deadline
from pretune.runner.fingerprint import Fingerprint
from pretune.runner.folder import open_folder
from pretune.runner.precision import sentence, step_choice
from pretune.runner.prepare import open_cache
from pretune.runner.reporter import Noted
from pretune.storage.cache import Cache
from pretune.training.checkpoint import Checkpoint
from pretune.training.context import Evaluation, TrainingContext
from pretune.training.device import Device, cpu_threads
from pretune.training.events import Event
from pretune.training.plan import Plan, Precision
from pretune.training.run_dir import RunDir
from pretune.types import LedgerEntry, ParamGroup

C = TypeVar("C")
L = TypeVar("L", bound=Learner)
S = TypeVar("S", bound="JobState[Any]")
R = TypeVar("R")


@dataclass(kw_only=True)
class RunContext:
    """What every job uses while it is carried out."""

    place: Place
    device: Device
    reporter: Noted
    deadline: Deadline
    """With the clock of the run, which stands still while the run is suspended."""
    offline: bool = False
    timing: dict[str, float] = field(default_factory=lambda: {"train_s": 0.0})
    """Seconds by name, as metrics.json has them."""
    folder: RunDir = field(init=False)
    """Of the run, from when it is opened."""
    training: TrainingContext = field(init=False)
    """Of the loop, likewise."""

    @functools.cached_property
    def cache(self) -> Cache:
        """The cache that the settings name, opened where it is first used."""
        return open_cache(self.place, self.reporter)


@dataclass(frozen=True, kw_only=True)
class Opening:
    """What a run folder holds before training begins."""

    settings: Recipe | Pretraining
    resolved: Mapping[str, Any]
    """Defaults that were resolved, for recipe.json."""
    fingerprint: Fingerprint
    """What a resumed run must share with the run as it was started."""
    ledger: Sequence[LedgerEntry]
    audit: Mapping[str, Any] | None = None


@dataclass(kw_only=True)
class JobState(Generic[L]):
    """What the methods of a job share in one run."""

    run: RunContext
    learner: L
    precision: Precision = field(default_factory=Precision)
    """How the steps of the present phase compute."""
    opening: Opening | None = None
    """None writes no recipe.json."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """A run that was carried out."""

    folder: RunDir
    metrics: dict[str, Any]
    """What metrics.json holds; empty on all processes but the first."""


class Job(Generic[C, S, R]):
    """One run's work: the runner calls these methods in the order in which they stand here.

    `C` is what was chosen before the run folder is opened, `S` the state of the run, `R` its result. A job is a frozen dataclass: what
    changes is in the state.
    """

    keeps_checkpoints: ClassVar[bool] = False
    """Whether they stay when the run is finished."""

    # --- before training ---------------------------------------------------------------------

    @property
    def settings(self) -> Recipe | Pretraining:
        """The recipe of the run."""
        raise TypeError(f"{type(self).__name__} must define settings, or place, seed, time and trust")

    @property
    def place(self) -> Place:
        """Output location and resource limits."""
        return self.settings.place

    @property
    def seed(self) -> int:
        """Seed of the random numbers outside of training steps."""
        return self.settings.training.seed

    @property
    def time(self) -> float | None:
        """Seconds that the run may take."""
        return self.settings.training.time

    @property
    def trust(self) -> Collection[str]:
        """Modules of the person's own that may be imported to build networks."""
        return trusted(self.settings)

    @property
    def threads(self) -> int:
        """CPU threads to compute with."""
        return cpu_threads(self.place.threads)

    def choose(self, run: RunContext) -> C:
        """Read what the data are and choose what is trained on them; refuse what cannot be, before anything is decoded."""
        raise TypeError(f"{type(self).__name__} must define choose(run)")

    def name(self, chosen: C) -> str:
        """Return the name of a new run folder."""
        raise TypeError(f"{type(self).__name__} must define name(chosen)")

    def open(self, run: RunContext, chosen: C, claims: ExitStack) -> tuple[RunDir, bool]:
        """Return the run folder, claimed for this run, and whether an earlier start of it is resumed."""
        return open_folder(self.settings, self.name(chosen), run.device, run.reporter, claims)

    def prepare(self, run: RunContext, chosen: C) -> S:
        """Read the data and build the learner."""
        raise TypeError(f"{type(self).__name__} must define prepare(run, chosen)")

    def resume_line(self, folder: Path) -> str:
        """Return the command that resumes the run."""
        return resume_line(self.settings, folder)

    # --- training ----------------------------------------------------------------------------

    def start(self, state: S) -> Checkpoint | None:
        """Return what a new run begins with where that is another run's state; None where it begins anew."""
        return None

    def phases(self, state: S) -> tuple[str, ...]:
        """Return the names of the phases, in order."""
        raise TypeError(f"{type(self).__name__} must define phases(state)")

    def begin(self, state: S, number: int) -> Iterable[Event] | None:
        """Set what learns in a phase; return events where it is computed in closed form, without steps: they are what carries it out."""
        return None

    def loader(self, state: S, number: int) -> Loader:
        """Return the training batches of a phase."""
        raise TypeError(f"{type(self).__name__} must define loader(state, number)")

    def precision(self, state: S, loader: Loader) -> Precision:
        """Return how steps compute: as asked, or as timed on a first batch; decided once in a run."""
        run = state.run
        run.reporter.progress("choosing the precision", 0, 0)
        choose = functools.partial(step_choice, state.learner, loader, self.settings.training, run.cache)
        chosen = run.training.decisions.built(Precision, "training/precision", choose)
        if (message := sentence("training", chosen)) not in run.reporter.notes:
            run.reporter.say(message)
        return chosen

    def plan(self, state: S, number: int, loader: Loader) -> Plan:
        """Return what is constant in a phase: epochs, rates, budget."""
        raise TypeError(f"{type(self).__name__} must define plan(state, number, loader)")

    def groups(self, state: S) -> Sequence[ParamGroup]:
        """Return the parameters that learn in the present phase."""
        raise TypeError(f"{type(self).__name__} must define groups(state)")

    def evaluation(self, state: S, number: int) -> Evaluation | None:
        """Return what is measured between epochs."""
        return None

    # --- afterwards --------------------------------------------------------------------------

    def record(self, state: S) -> R:
        """Save the weights first, then measure and write what the run came to; every process takes part."""
        raise TypeError(f"{type(self).__name__} must define record(state)")

    def follow_up(self, state: S, result: R) -> Generator[Event, bool | None, R]:
        """Train the runs that this one is compared with, on the first process; return the result with what they showed."""
        yield from ()  # ty: ignore[invalid-yield]
        return result
