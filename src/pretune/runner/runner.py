"""One runner carries out every job: folder, threads, device, deadline, resume, phases and record are written here, once.

A run is a generator of events. Between two events nothing global is left as the run has it: threads, random streams, autocast, inference
mode, trusted modules and signal handlers are swapped in for a turn and put back. Whoever stops asking leaves a run that can be resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from typing import Any, Generic

import torch

from pretune import backbones, config
from pretune.kernels.memory import kept_memory
from pretune.runner import fingerprint, interrupt
from pretune.runner.deadline import Deadline
from pretune.runner.folder import close
from pretune.runner.interrupt import Interruption
from pretune.runner.job import C, Job, JobState, R, RunContext, S
from pretune.runner.recording import follow
from pretune.runner.reporter import Noted, Reporter, Silent
from pretune.runner.resuming import newest_checkpoint, rewind, same_threads, seconds_before
from pretune.training.checkpoint import Checkpoint, Checkpoints, Decisions, load_by_name
from pretune.training.context import TrainingContext
from pretune.training.device import local_device, open_device
from pretune.training.environment import write_environment
from pretune.training.events import Event
from pretune.training.loop import fit
from pretune.training.run_dir import EVENTS, explained_refusals
from pretune.training.turn import LoopState

Publish = Callable[[R, RunContext], None]
"""Writes the report of a result, and what else a person sees, on the first process."""
_RESUME = "Where training had begun, the same command with resume=true resumes it."


class Runner(Generic[C, S, R]):
    """Carries out one job, once."""

    def __init__(
        self,
        job: Job[C, S, R],
        *,
        reporter: Reporter | None = None,
        offline: bool = False,
        started: float | None = None,
        publish: Publish[R] | None = None,
    ) -> None:
        """Take a job; nothing is read before the first event is asked for.

        Args:
            job: what to do.
            reporter: receives messages; nobody by default.
            offline: never open a socket, even for a backbone that was named.
            started: time.monotonic() at which the person's clock started; now by default.
            publish: writes the report.
        """
        self.job, self.offline, self.publish = job, offline, publish
        self.reporter = reporter or Silent()
        self.deadline = Deadline(job.time, started)
        self.turn = LoopState(None, job.seed, local_device(), job.threads)

    def run_job(self) -> R:
        """Run to the end, the reporter receiving every event; return the result.

        Raises:
            RequestError: the request cannot be carried out; nothing was trained.
            Interrupted: Ctrl-C; the run can be resumed.
        """
        asked: bool | None = None
        with closing(self.events(counts_pauses=True)) as events:
            while True:
                try:
                    event = events.send(asked)
                except StopIteration as end:
                    return end.value
                with Interruption() as interruption:
                    self.reporter.event(event)
                asked = interruption.asked

    def events(self, *, counts_pauses: bool = False) -> Generator[Event, bool | None, R]:
        """Yield what happens, and return the result; closing it leaves a run that can be resumed.

        Args:
            counts_pauses: whether the time between two events counts as the run's; by default its clock stands still.
        """
        steps, clock, asked = self._steps(), self.deadline.clock, None
        try:
            while True:
                with self.turn.taken(), backbones.trusting(self.job.trust):
                    try:
                        event = steps.send(asked)
                    except StopIteration as end:
                        return end.value
                if not counts_pauses:
                    clock.stop()
                try:
                    asked = yield event
                finally:
                    clock.go()
        finally:
            with self.turn.taken(), backbones.trusting(self.job.trust):
                steps.close()

    def _steps(self) -> Generator[Event, bool | None, R]:
        """Carry the job out; whoever asks for the next event has taken the turn."""
        job = self.job
        with explained_refusals(_RESUME), open_device() as device, kept_memory(), ExitStack() as claims:
            reporter = Noted(self.reporter if device.first else Silent())
            run = RunContext(place=job.place, device=device, reporter=reporter, deadline=self.deadline, offline=self.offline)
            chosen = job.choose(run)
            run.folder, resumed = job.open(run, chosen, claims)
            if resumed and (count := same_threads(run.folder, reporter)):
                self.turn.threads = count
            checkpoints = Checkpoints(run.folder.path / "checkpoints", job.place.keep)
            decisions = Decisions(run.folder.path / "decisions.jsonl", device, reporter.warn)
            run.training = TrainingContext(
                device=device, checkpoints=checkpoints, decisions=decisions, clock=self.deadline.clock, stop=interrupt.is_asked
            )
            state = job.prepare(run, chosen)
            if device.first:
                _write_opening(state, resumed)
            try:
                yield from self._training(state, resumed)
                if device.first:
                    run.folder.require()
                result = job.record(state)
            except FileNotFoundError:
                run.folder.require()
                raise
            device.wait()
            if device.first:
                result = yield from job.follow_up(state, result)
                self._close(run, result)
            return result

    def _training(self, state: S, resumed: bool) -> Generator[Event, bool | None]:
        """Run all phases, from the newest checkpoint where the run is resumed."""
        job, run = self.job, state.run
        checkpoint = newest_checkpoint(run.training.checkpoints, run.device, run.reporter) if resumed else job.start(state)
        if resumed and run.device.first:
            rewind(run.folder, job.phases(state), checkpoint, run.reporter)
            run.timing["train_s"] = seconds_before(run.folder, checkpoint)
        yield from follow(self._phases(state, checkpoint), run.folder, run.device, run.reporter, job.resume_line(run.folder.path))

    def _phases(self, state: S, checkpoint: Checkpoint | None) -> Generator[Event]:
        job, run = self.job, state.run
        first = 0 if checkpoint is None else int(checkpoint.state["phase"])
        for number in range(first, len(job.phases(state))):
            resume = checkpoint if number == first else None
            solved = job.begin(state, number)
            if solved is not None:
                yield from solved
                continue
            loader = job.loader(state, number)
            state.precision = job.precision(state, loader)
            if resume is not None and resume.state["done"]:
                load_by_name(state.learner, resume.tensors_below("model"))
                continue
            plan = job.plan(state, number, loader)
            began = run.deadline.clock.seconds
            yield from fit(state.learner, loader, job.groups(state), plan, run.training, job.evaluation(state, number), resume)
            run.timing["train_s"] += run.deadline.clock.seconds - began

    def _close(self, run: RunContext, result: R) -> None:
        """Write the report, which says that a run is finished; only then remove what a resume would need."""
        if self.publish is not None:
            with explained_refusals(f"The run is whole ({run.folder.path}: weights and figures), but for its report."):
                run.reporter.progress("writing the report", 0, 0)
                self.publish(result, run)
        if not self.job.keeps_checkpoints:
            close(run.folder.path)


def _write_opening(state: JobState[Any], resumed: bool) -> None:
    """Write what is known before training: the resolved recipe, the ledger, the audit, the environment."""
    run, opening = state.run, state.opening
    folder = run.folder
    if opening is not None:
        if resumed:
            fingerprint.require_same(folder, opening.fingerprint)
        settings, resolved = opening.settings, {**opening.resolved, "threads": torch.get_num_threads()}
        recipe = {"identity": settings.identity(), "recipe": config.to_tree(settings), "resolved": resolved}
        folder.write_json("recipe.json", {**recipe, "data": opening.fingerprint})
        if opening.audit is not None:
            folder.write_json("audit.json", opening.audit)
        folder.write_ledger(opening.ledger)
        if changed := write_environment(folder, resumed=resumed):
            run.reporter.warn(changed)
    if not resumed:
        (folder.path / EVENTS).write_text("")
