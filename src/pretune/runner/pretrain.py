"""Pretraining: data without labels, an objective, a network; the run's backbone/ is what every strategy can take."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pretune import config, registry
from pretune.corpus.resemblance import NOTHING
from pretune.corpus.tokens import BlockView
from pretune.data.batching import Batching
from pretune.data.loader import Loader
from pretune.errors import Interrupted, RequestError
from pretune.objectives import Objective, PretextLearner, set_classes
from pretune.pretraining import Pretraining
from pretune.runner import gain, pretext, pretrained, pretraining_data
from pretune.runner.folder import require_same_processes
from pretune.runner.job import Job, JobState, Opening, RunContext, RunResult
from pretune.runner.pretext import Pretext
from pretune.runner.pretraining_data import PretrainingData
from pretune.runner.validation import GLANCE, Timing, Validation, planned
from pretune.training.checkpoint import STABLE, Checkpoint, Checkpoints
from pretune.training.context import Evaluation
from pretune.training.events import Event
from pretune.training.plan import Plan
from pretune.types import ParamGroup

EPOCHS_IN_TIME = 1_000
"""Epochs at most where a time is given and no number of epochs."""
SAMPLES = 3.0
"""Seconds kept for samples and the report, where a time is given."""
SHOWN = 6
"""Held-out examples whose reconstruction is shown."""


@dataclass(frozen=True, kw_only=True)
class Pretrained(RunResult):
    """A finished pretraining run."""

    objective: Objective
    reconstructions: list[tuple[str, list[Any]]]
    """Rows of images (H, W, 3) or texts with headings: what an objective that fills in predicts on held-out examples."""
    untrained: bool
    """Whether training began with randomly initialised weights."""


@dataclass(kw_only=True)
class PretrainingState(JobState[PretextLearner]):
    """What the phases of a pretraining run share."""

    data: PretrainingData
    chosen: Pretext
    batch_size: int


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
        recipe, objective, suggested, clock = self.recipe, chosen.objective, chosen.suggested, run.deadline.clock
        began, exclude = clock.seconds, chosen.task.held_out if chosen.task else NOTHING
        data = pretraining_data.read(recipe, objective, suggested, chosen.backbone, run, exclude)
        run.timing["data_s"] = took = clock.seconds - began
        if self.time is not None and took > self.time / 2:
            run.reporter.warn(f"reading the data took {took:.0f} s of time={self.time:.0f}s; later runs will use the cache")
        torch.manual_seed(self.seed)
        learner = objective.learner(data.backbone)
        set_classes(learner, data.classes)
        learner = learner.to(run.device.device)
        learner.pace = 1.0 if chosen.untrained else suggested.continued_heads
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
        size = recipe.training.batch_size or suggested.batch_size
        return PretrainingState(run=run, learner=learner, opening=opening, data=data, chosen=chosen, batch_size=size)

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
        steps, done = self.loader(state, last).steps(0) * self._epochs(state), int(checkpoint.state["progress"]["step"])
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
        return self._loader(state, training=True)

    def _loader(self, state: PretrainingState, *, training: bool) -> Loader:
        view, device = state.data.train if training else state.data.validation, state.run.device
        batching = Batching(size=max(1, state.batch_size // device.world), shuffle=training, seed=self.seed, drop_last=training)
        streams = isinstance(view, BlockView)  # blocks of a mapped file are there at once: a thread would only be in the way
        return Loader(view, batching, share=device.share, workers=0 if streams else 1)

    def plan(self, state: PretrainingState, number: int, loader: Loader) -> Plan:
        """Return the objective's suggestions where the recipe says nothing."""
        recipe, training, suggested = self.recipe, self.recipe.training, state.chosen.suggested
        timing, epochs = self._timing(state, number), self._epochs(state)
        return Plan(
            number=number,
            phase=state.learner.phases[number],
            epochs=epochs,
            lr=training.lr or suggested.rate(state.data.backbone),
            weight_decay=suggested.weight_decay if training.weight_decay is None else training.weight_decay,
            optim=state.chosen.optim,
            schedule=recipe.schedule,
            clip=training.clip,
            ema=training.ema,
            budget=None if timing is None else timing.budget,
            steps=None if timing is None else timing.steps,
            log_every=max(1, min(20, loader.steps(0) * epochs // 1000)) if timing is None else timing.log_every,
            evaluate_every=max(1, epochs // 20) if timing is None else timing.evaluate_every,
            extensible=number == len(state.learner.phases) - 1,
            spikes=True,
            seed=training.seed + number,
            precision=state.precision,
        )

    def _epochs(self, state: PretrainingState) -> int:
        training = self.recipe.training
        return training.epochs or (state.chosen.suggested.epochs if training.time is None else EPOCHS_IN_TIME)

    def _timing(self, state: PretrainingState, number: int) -> Timing | None:
        """Return what the time of a phase is spent on, as it was decided once; None where no time was given."""
        if self.time is None:
            return None
        validation, world = self._validation(state), state.run.device.world

        def decide() -> dict[str, Any]:
            timing = planned(
                state.run.deadline,
                validation.seconds_per_example(),
                batch=state.batch_size // world,
                epoch=self.loader(state, number).steps(0),
                validation=len(validation.loader.view) // world,
                phases=len(state.learner.phases) - number,
                afterwards=_seconds_of_samples(state),
            )
            return asdict(timing)

        return state.run.training.decisions.built(Timing, f"{number}/time", decide)

    def groups(self, state: PretrainingState) -> Sequence[ParamGroup]:
        """Return what the learner's phase lets learn."""
        return state.learner.groups()

    def evaluation(self, state: PretrainingState, number: int) -> Evaluation:
        """Measure the loss on some of the validation set; nothing is selected by it."""
        validation, timing = self._validation(state), self._timing(state, number)
        most = GLANCE if timing is None else timing.glance
        return Evaluation(splits={"held": lambda: validation.measure(most)}, primary="loss", higher_is_better=False)

    def _validation(self, state: PretrainingState) -> Validation:
        loader, run = self._loader(state, training=False), state.run
        return Validation(
            learner=state.learner, precision=state.precision, loader=loader, device=run.device, seed=self.seed, deadline=run.deadline
        )

    # --- afterwards --------------------------------------------------------------------------

    def record(self, state: PretrainingState) -> Pretrained:
        """Save the weights first, then measure, then write metrics.json."""
        metrics = self._measured(state)
        shown = self._reconstructions(state) if metrics else []
        folder, chosen = state.run.folder, state.chosen
        return Pretrained(folder=folder, objective=chosen.objective, metrics=metrics, reconstructions=shown, untrained=chosen.untrained)

    def _measured(self, state: PretrainingState) -> dict[str, Any]:
        run, learner, data, objective = state.run, state.learner, state.data, state.chosen.objective
        if run.device.first:
            pretrained.save_learner(run.folder, objective, learner, data)
        run.timing["saved_s"] = run.deadline.clock.seconds
        run.reporter.progress("evaluating", 0, 0)
        validation = self._validation(state)
        figures = validation.measure(keep=None if self.time is None else _seconds_of_samples(state))
        if validation.examples < len(validation.loader.view):
            run.reporter.warn(
                f"the held-out figures are those of {validation.examples:,} of {len(validation.loader.view):,} held-out examples: "
                f"time={self.time:g}s allowed no more"
            )
        if not run.device.first:
            return {}
        floors = pretrained.settle_floors(data, figures)
        verdict = [*pretrained.unknown_tokens(data), *learner.verdict(figures, floors)]
        for line in verdict:
            run.reporter.warn(line)
        run.timing["total_s"] = run.deadline.clock.seconds
        metrics = pretrained.metrics_of(learner, data, figures, state.precision) | {
            "throughput": pretrained.throughput(run.folder, data, state.batch_size),
            "objective": registry.name_of(objective),
            "timing": run.timing,
            "diagnosis": verdict,
            "notes": run.reporter.notes,
            "measured": {"held": validation.examples},
        }
        return run.folder.write_json("metrics.json", metrics)

    def _reconstructions(self, state: PretrainingState) -> list[tuple[str, list[Any]]]:
        """Let an objective that fills in show it on a few held-out examples; the same ones every time."""
        learner = state.learner
        if not learner.fills_in:
            return []
        batches = self._loader(state, training=False).iterate(0)
        batch = next(batches).take(slice(0, SHOWN))
        batches.close()
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            return learner.reconstructions(batch.to(state.run.device.device))

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


def _seconds_of_samples(state: PretrainingState) -> float:
    return SAMPLES if state.learner.generates else 1.0
