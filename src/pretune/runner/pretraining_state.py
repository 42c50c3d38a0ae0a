"""The state of a pretraining run: its data, its objective's learner, and what its time is spent on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from pretune.corpus.tokens import BlockView
from pretune.data.batching import Batching
from pretune.data.loader import Loader
from pretune.objectives import PretextLearner
from pretune.pretraining import Pretraining
from pretune.runner.job import JobState
from pretune.runner.pretext import Pretext
from pretune.runner.pretraining_data import PretrainingData
from pretune.runner.validation import Timing, Validation, planned
from pretune.training.plan import Plan

EPOCHS_IN_TIME = 1_000
"""Epochs at most where a time is given and no number of epochs."""
SAMPLES = 3.0
"""Seconds kept for samples and the report, where a time is given."""
SHOWN = 6
"""Held-out examples whose reconstruction is shown."""


@dataclass(kw_only=True)
class PretrainingState(JobState[PretextLearner]):
    """What the phases of a pretraining run share."""

    recipe: Pretraining
    data: PretrainingData
    chosen: Pretext

    @property
    def batch_size(self) -> int:
        """Examples of a step, over all processes."""
        return self.recipe.training.batch_size or self.chosen.suggested.batch_size

    @property
    def epochs(self) -> int:
        """Of a phase: the recipe's, else the objective's; where a time is given, more than it allows."""
        training = self.recipe.training
        return training.epochs or (self.chosen.suggested.epochs if training.time is None else EPOCHS_IN_TIME)

    @property
    def seconds_afterwards(self) -> float:
        """What samples and the report take."""
        return SAMPLES if self.learner.generates else 1.0

    def loader(self, *, training: bool) -> Loader:
        """Return shuffled batches of the training set, or those of the validation set in order."""
        view, device, seed = self.data.train if training else self.data.validation, self.run.device, self.recipe.training.seed
        batching = Batching(size=max(1, self.batch_size // device.world), shuffle=training, seed=seed, drop_last=training)
        streams = isinstance(view, BlockView)  # blocks of a mapped file are there at once: a thread would only be in the way
        return Loader(view, batching, share=device.share, workers=0 if streams else 1)

    def validation(self) -> Validation:
        """Return what measures the learner as it is now."""
        run, loader, seed = self.run, self.loader(training=False), self.recipe.training.seed
        return Validation(
            learner=self.learner, precision=self.precision, loader=loader, device=run.device, seed=seed, deadline=run.deadline
        )

    def timing(self, number: int) -> Timing | None:
        """Return what the time of a phase is spent on, as it was decided once; None where no time was given."""
        if self.recipe.training.time is None:
            return None
        validation, world = self.validation(), self.run.device.world

        def decide() -> dict[str, Any]:
            timing = planned(
                self.run.deadline,
                validation.seconds_per_example(),
                batch=self.batch_size // world,
                epoch=self.loader(training=True).steps(0),
                validation=len(validation.loader.view) // world,
                phases=len(self.learner.phases) - number,
                afterwards=self.seconds_afterwards,
            )
            return asdict(timing)

        return self.run.training.decisions.built(Timing, f"{number}/time", decide)

    def plan(self, number: int, steps: int) -> Plan:
        """Return the plan of a phase of so many steps an epoch: the objective's suggestions where the recipe says nothing."""
        recipe, training, suggested = self.recipe, self.recipe.training, self.chosen.suggested
        timing, epochs = self.timing(number), self.epochs
        return Plan(
            number=number,
            phase=self.learner.phases[number],
            epochs=epochs,
            lr=training.lr or suggested.rate(self.data.backbone),
            weight_decay=suggested.weight_decay if training.weight_decay is None else training.weight_decay,
            optim=self.chosen.optim,
            schedule=recipe.schedule,
            clip=training.clip,
            ema=training.ema,
            budget=None if timing is None else timing.budget,
            steps=None if timing is None else timing.steps,
            log_every=max(1, min(20, steps * epochs // 1000)) if timing is None else timing.log_every,
            evaluate_every=max(1, epochs // 20) if timing is None else timing.evaluate_every,
            extensible=number == len(self.learner.phases) - 1,
            spikes=True,
            seed=training.seed + number,
            precision=self.precision,
        )

    def reconstructions(self) -> list[tuple[str, list[Any]]]:
        """Let an objective that fills in show it on a few held-out examples; the same ones every time."""
        if not self.learner.fills_in:
            return []
        batches = self.loader(training=False).iterate(0)
        batch = next(batches).take(slice(0, SHOWN))
        batches.close()
        with torch.random.fork_rng():
            torch.manual_seed(self.recipe.training.seed)
            return self.learner.reconstructions(batch.to(self.run.device.device))
