"""Fine-tuning: a labelled data set, a pretrained backbone, a strategy; the run's result is the best model of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from pretune import config, registry
from pretune.backbones import Backbone
from pretune.data.loader import Loader
from pretune.models.learner import Loss
from pretune.recipe import Recipe
from pretune.runner import baselines, boundary, fingerprint, lengths, network, planning, record, refusals, solving
from pretune.runner.feature_cache import open_features
from pretune.runner.folder import name_of
from pretune.runner.job import Job, Opening, RunContext, RunResult
from pretune.runner.prepare import prepare
from pretune.runner.refusals import Choices
from pretune.runner.state import FineTuningState
from pretune.sources import sources
from pretune.tasks import LossSettings, infer
from pretune.training.context import Evaluation
from pretune.training.events import Event
from pretune.training.optim import Optim
from pretune.training.plan import Plan, Precision
from pretune.types import ParamGroup, Split


@dataclass(frozen=True, kw_only=True)
class FineTuned(RunResult):
    """A fine-tuned model and what it came from."""

    state: FineTuningState


@dataclass(frozen=True, kw_only=True)
class FineTuning(Job[Choices, FineTuningState, FineTuned]):
    """What a recipe says, with what a Python caller brings instead of naming it."""

    recipe: Recipe
    backbone: Backbone | None = None
    loss: Loss | None = None
    """(outputs, targets) -> scalar; takes the place of the task's loss."""
    splits: Mapping[str, Split] | None = None
    """Split of each example by id, in place of the data's own or a sampled one; examples that are not named are dropped."""

    @property
    def settings(self) -> Recipe:
        """The recipe."""
        return self.recipe

    # --- before training ---------------------------------------------------------------------

    def choose(self, run: RunContext) -> Choices:
        """List the data; choose backbone, strategy, task and augmentations; refuse settings that nothing would read."""
        recipe = self.recipe
        run.reporter.progress("listing the data", 0, 0)
        table = sources.read(Path(recipe.data), recipe.columns, target=recipe.target_type)
        if self.splits is not None:
            table.rows = [replace(row, split=split) for row in table.rows if (split := self.splits.get(row.id))]
        task = recipe.task or infer(table.target_type)
        backbone = network.choose_backbone(recipe, self.backbone, task, table, run)
        task = task.on(backbone)
        strategy = network.choose_strategy(recipe, task, backbone, run.reporter)
        others = task.suggested(registry.name_of(strategy), backbone)
        choices = Choices(
            table=table,
            backbone=backbone,
            strategy=strategy,
            task=task,
            optim=recipe.optim or config.build(Optim, {"name": others.get("optim", Optim().name)}),
            augmentations=network.choose_augmentations(recipe, strategy, table.modality, task, others),
            own_backbone=self.backbone is not None,
            own_loss=self.loss is not None,
            own_splits=self.splits is not None,
        )
        refusals.check(recipe, choices)
        return choices

    def name(self, chosen: Choices) -> str:
        """Return the names of data and strategy."""
        return f"{name_of(self.recipe.data)}-{registry.name_of(chosen.strategy)}"

    def prepare(self, run: RunContext, chosen: Choices) -> FineTuningState:
        """Decode, audit and split the data; build the model that the strategy trains."""
        recipe, backbone, strategy, clock = self.recipe, chosen.backbone, chosen.strategy, run.deadline.clock
        began = clock.seconds
        backbone.modality = chosen.task.render(chosen.table, backbone.modality, held_out=recipe.splits.val)
        network.fit_preprocessing(backbone, network.training_rows(chosen.table), run.reporter)
        data = prepare(recipe, chosen.table, chosen.task, backbone.modality, run.cache, run.reporter, run.deadline)
        backbone.modality = data.modality
        baselines.require_choice(recipe.predictor, data)
        run.timing |= {"data_s": clock.seconds - began, "features_s": 0.0}
        sizes = ", ".join(f"{len(positions)} {split}" for split, positions in data.splits.items())
        run.reporter.say(f"{registry.name_of(data.task)}, {data.space}; {sizes}; scored on {data.score}")
        begun = fingerprint.of_data(data, backbone)
        baseline = baselines.fit(data, self.seed) if self.time else None
        torch.manual_seed(self.seed + 1)  # whatever sampled numbers since the backbone was built
        model = network.build_model(recipe, data, backbone, strategy, run.device.device, run.reporter)
        lengths.settle(data, model, run.reporter)
        if message := data.task.unlearned(model, data.labels("train")):
            run.reporter.warn(message)
        strategy.prepare(model)
        components = {"strategy": strategy, "task": data.task, "optim": chosen.optim}
        resolved = {"backbone": backbone.builder.id, **{name: config.to_tree(one) for name, one in components.items()}}
        smoothing = LossSettings(label_smoothing=recipe.training.label_smoothing, class_weights=recipe.training.class_weights)
        loss = self.loss or data.task.loss(data.space, data.labels("train"), smoothing)
        state = FineTuningState(
            run=run,
            learner=data.task.learner(model, loss).to(run.device.device),
            opening=Opening(settings=recipe, resolved=resolved, fingerprint=begun, ledger=data.ledger, audit=data.audit_json()),
            recipe=recipe,
            data=data,
            strategy=strategy,
            optim=chosen.optim,
            backbone=backbone,
            model=model,
            features=open_features(run, data, backbone, model, recipe.training),
            augmentations=chosen.augmentations,
            baseline=baseline,
            own=baselines.fit_own(data, self.seed) if self.time else None,
            own_loss=self.loss is not None,
        )
        solving.widen(state)
        return state

    # --- training ----------------------------------------------------------------------------

    def phases(self, state: FineTuningState) -> tuple[str, ...]:
        """Return the names of the strategy's phases."""
        return tuple(phase.name for phase in state.phases)

    def begin(self, state: FineTuningState, number: int) -> Iterable[Event] | None:
        """Let the strategy act, compute features below the boundary, and solve the head where nothing asks for steps."""
        phase, head = state.phases[number], state.model.head
        state.groups = state.strategy.apply(state.model, phase)
        if not state.groups and state.strategy.trains:
            return ()  # a probe, of a head that has nothing of its own to learn
        if phase.epochs is not None and head.pretrained:  # a probe, of a head that knows its features
            boundary.start(state)
            return ()
        boundary.begin(state, phase, number)
        if state.model.head is not head:
            state.groups = state.strategy.apply(state.model, phase)
        if not state.strategy.trains:
            solving.compute(state)
            return ()
        return solving.solve(state, phase) if solving.obstacle(state, phase) is None else None

    def loader(self, state: FineTuningState, number: int) -> Loader:
        """Return batches of cached features or raw examples, of like length where lengths differ."""
        return planning.batches(state)

    def precision(self, state: FineTuningState, loader: Loader) -> Precision:
        """Return how steps compute; on cached features in float32."""
        if state.frozen is None:
            return super().precision(state, loader)
        return Precision(micro_batch=self.recipe.training.micro_batch, reason="features are cached")

    def plan(self, state: FineTuningState, number: int, loader: Loader) -> Plan:
        """Return the phase's share of the epochs, at the strategy's rates where none are given."""
        return planning.plan(state, number, loader)

    def groups(self, state: FineTuningState) -> Sequence[ParamGroup]:
        """Return what the strategy lets learn."""
        return state.groups

    def evaluation(self, state: FineTuningState, number: int) -> Evaluation:
        """Measure the split that selects; where none does, the validation set, for the curve only."""
        return planning.evaluation(state, number)

    # --- afterwards --------------------------------------------------------------------------

    def record(self, state: FineTuningState) -> FineTuned:
        """Save the weights, then measure, choose the run's model and write its figures."""
        state.strategy.finish(state.model)
        return FineTuned(folder=state.run.folder, metrics=record.record(state), state=state)
