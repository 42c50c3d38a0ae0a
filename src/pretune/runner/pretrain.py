"""Pretraining: data without labels, an objective, a network; the run's backbone/ is what every strategy can take."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pretune import config, registry
from pretune.data.loader import Loader
from pretune.errors import Interrupted, RequestError
from pretune.objectives import Objective, set_classes
from pretune.pretraining import Pretraining
from pretune.runner import gain, pretext, pretrained, token_blocks, unlabelled
from pretune.runner.job import Job, Opening, RunContext, RunResult
from pretune.runner.pretext import Pretext
from pretune.runner.pretraining_state import PretrainingState
from pretune.runner.resuming import require_same_processes
from pretune.runner.validation import GLANCE
from pretune.training.checkpoint import STABLE, Checkpoint, Checkpoints
from pretune.training.context import Evaluation
from pretune.training.events import Event
from pretune.training.plan import Plan
from pretune.types import ParamGroup


@dataclass(frozen=True, kw_only=True)
class Pretrained(RunResult):
    """A finished pretraining run."""

    objective: Objective
    reconstructions: list[tuple[str, list[Any]]]
    """Rows of images (H, W, 3) or texts with headings: what an objective that fills in predicts on held-out examples."""
    untrained: bool
    """Whether training began with randomly initialised weights."""


@dataclass(frozen=True, kw_only=True)
class PretrainingJob(Job[Pretext, PretrainingState, Pretrained]):
    """What a pretraining recipe says."""

    recipe: Pretraining

    @property
    def settings(self) -> Pretraining:
        """The recipe."""
        return self.recipe

    # --- before training ---------------------------------------------------------------------

    def choose(self, run: RunContext) -> Pretext:
        """Choose the objective and its network, and read the task of `then=`."""
        return pretext.choose(self.recipe, run)

    def name(self, chosen: Pretext) -> str:
        """Return the names of data and objective."""
        return f"{Path(self.recipe.data).stem}-{registry.name_of(chosen.objective)}"

    def prepare(self, run: RunContext, chosen: Pretext) -> PretrainingState:
        """Read the data and build the objective's learner."""
        recipe, objective, clock = self.recipe, chosen.objective, run.deadline.clock
        began = clock.seconds
        data = (token_blocks if chosen.reads_stream else unlabelled).read(recipe, chosen, run)
        run.timing["data_s"] = took = clock.seconds - began
        if self.time is not None and took > self.time / 2:
            run.reporter.warn(f"reading the data took {took:.0f} s of time={self.time:.0f}s; later runs will use the cache")
        torch.manual_seed(self.seed)
        learner = objective.learner(data.backbone)
        set_classes(learner, data.classes)
        learner = learner.to(run.device.device)
        learner.pace = 1.0 if chosen.untrained else chosen.suggested.continued_heads
        counts = ", ".join(f"{split} {', '.join(f'{n:,} {what}' for what, n in c.items())}" for split, c in data.counts.items())
        trainable = sum(p.numel() for p in learner.parameters() if p.requires_grad)
        paced = "" if learner.pace == 1 else f"; the newly initialised layers use {learner.pace:g}× the learning rate"
        run.reporter.say(f"{counts}; {trainable:,} parameters{paced}")
        resolved = {
            "fresh": chosen.untrained,
            "backbone": data.backbone.builder.id,
            "backbone_settings": data.backbone.builder.settings,
            "objective": config.to_tree(objective),
            "optim": config.to_tree(chosen.optim),
        }
        opening = Opening(settings=recipe, resolved=resolved, fingerprint=data.fingerprint, ledger=data.ledger)
        return PretrainingState(run=run, learner=learner, opening=opening, recipe=recipe, data=data, chosen=chosen)

    # --- training ----------------------------------------------------------------------------

    def start(self, state: PretrainingState) -> Checkpoint | None:
        """Return the state of the run that is extended, its end moved to where this recipe has it."""
        extend = self.recipe.extend
        if not extend:
            return None
        checkpoint = Checkpoints(Path(extend) / "checkpoints", 1).stable()
        if checkpoint is None:
            raise RequestError(f"{extend} cannot be extended: its stable state (checkpoints/{STABLE}) is damaged.")
        require_same_processes(checkpoint, state.run.device)
        last = len(state.learner.phases) - 1
        steps, done = state.loader(training=True).steps(0) * state.epochs, int(checkpoint.state["progress"]["step"])
        if int(checkpoint.state["phase"]) != last or steps <= done:
            raise RequestError(f"{extend} was stable for {done} steps already, and this recipe has {steps}. Give more epochs.")
        checkpoint.state["progress"] |= {"steps": steps, "marked": False, "seconds": 0.0, "overhead": 0.0, "spent": 0.0}
        state.run.reporter.say(f"going on with {extend} from step {done}")
        return checkpoint

    def phases(self, state: PretrainingState) -> tuple[str, ...]:
        """Return the objective's phases."""
        return state.learner.phases

    def begin(self, state: PretrainingState, number: int) -> None:
        """Set what learns in a phase."""
        state.learner.begin(state.learner.phases[number])

    def loader(self, state: PretrainingState, number: int) -> Loader:
        """Return shuffled batches of the training set."""
        return state.loader(training=True)

    def plan(self, state: PretrainingState, number: int, loader: Loader) -> Plan:
        """Return the objective's suggestions where the recipe says nothing."""
        return state.plan(number, loader.steps(0))

    def groups(self, state: PretrainingState) -> Sequence[ParamGroup]:
        """Return what the learner's phase lets learn."""
        return state.learner.groups()

    def evaluation(self, state: PretrainingState, number: int) -> Evaluation:
        """Measure the loss on some of the validation set; nothing is selected by it."""
        validation, timing = state.validation(), state.timing(number)
        most = GLANCE if timing is None else timing.glance
        return Evaluation(splits={"held": lambda: validation.measure(most)}, primary="loss", higher_is_better=False)

    # --- afterwards --------------------------------------------------------------------------

    def record(self, state: PretrainingState) -> Pretrained:
        """Save the weights first, then measure, then write metrics.json."""
        metrics = pretrained.record(state)
        shown = state.reconstructions() if metrics else []
        folder, chosen = state.run.folder, state.chosen
        return Pretrained(folder=folder, objective=chosen.objective, metrics=metrics, reconstructions=shown, untrained=chosen.untrained)

    def follow_up(self, state: PretrainingState, result: Pretrained) -> Generator[Event, bool | None, Pretrained]:
        """Measure what pretraining gained, where a task is named."""
        if state.chosen.task is None:
            return result
        try:
            gained = yield from gain.measure(state.chosen.task, result, result.untrained, state.run)
        except Interrupted:  # of one of the runs: this one resumes it
            raise Interrupted(f"stopped; resume it with: {self.resume_line(result.folder.path)}") from None
        metrics = result.folder.write_json("metrics.json", {**result.metrics, "gain": gained})
        return replace(result, metrics=metrics)
