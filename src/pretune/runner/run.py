"""One run, from a recipe to a run folder."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pretune import backbones, config, registry
from pretune.augmentations import Augmentation, preset
from pretune.backbones import Backbone
from pretune.data.loader import Loader
from pretune.errors import SettingError
from pretune.kernels.memory import kept_memory
from pretune.modalities import Modality
from pretune.models import Model, SupervisedLearner
from pretune.models.learner import Loss
from pretune.models.pooling import OF_STAGES, blocks
from pretune.recipe import Recipe
from pretune.runner import baselines, fingerprint, interrupt, lengths, phases, refusals, solving
from pretune.runner.commands import resume_line
from pretune.runner.deadline import Deadline
from pretune.runner.disk import refusals_told
from pretune.runner.features import FeatureCache
from pretune.runner.folder import folders_let_go, follow, name_of, newest_checkpoint, open_folder, rewind, same_threads, seconds_before
from pretune.runner.inputs import fitted_to_boxes, fitted_to_probe, fitted_to_shape, fitted_to_small, is_fresh, set_inputs
from pretune.runner.opening import audit_json, write_environment
from pretune.runner.precision import forward_choice, sentence, step_choice
from pretune.runner.prepare import Prepared, open_cache, prepare, threads, wanted_target
from pretune.runner.record import Outcome, record
from pretune.runner.reporter import Noted, Reporter, Silent
from pretune.sources import sources
from pretune.sources.table import Table
from pretune.storage.cache import Cache
from pretune.storage.cells import unpack
from pretune.strategies import Strategy, suggested
from pretune.strategies.linear_probe import LinearProbe
from pretune.tasks import Suggestion, Task, infer
from pretune.training.acceleration import as_asked
from pretune.training.checkpoint import Checkpoints, Decisions
from pretune.training.device import Device, open_device
from pretune.training.loop import TrainingContext
from pretune.training.plan import Precision
from pretune.training.run_dir import RunDir
from pretune.training.turn import computing_threads
from pretune.types import Split

_FEATURES = "features/precision"
_GO_ON = "Where training had begun, the same command with resume=true goes on."


@dataclass(frozen=True, kw_only=True)
class Given:
    """Parts a Python caller brings instead of naming them."""

    backbone: Backbone | None = None
    loss: Loss | None = None
    """(outputs, targets) -> scalar; takes the place of the task's loss."""
    parts: Mapping[str, Split] | None = None
    """Part of each item by id, in place of the data's own or a drawn one; items that are not named are left out."""


def run(
    recipe: Recipe, *, reporter: Reporter | None = None, offline: bool = False, started: float | None = None, given: Given | None = None
) -> Outcome:
    """Carry out a recipe and return what came of it; its folder holds weights and figures.

    Args:
        recipe: what to do.
        reporter: who is told; nobody by default.
        offline: never open a socket, even for a backbone that was named.
        started: time.monotonic() at which the person's clock started; now by default.
        given: a backbone or a loss of the caller's own.

    Raises:
        RequestError: the request cannot be carried out; nothing was trained.
        Interrupted: Ctrl-C; the run can be resumed.
    """
    started = time.monotonic() if started is None else started
    with computing_threads(threads(recipe)), refusals_told(_GO_ON), open_device() as device, kept_memory(), folders_let_go():
        said = (reporter or Silent()) if device.first else Silent()
        return _Run(recipe, device, said, offline, started, given or Given()).carry_out()


class _Run:
    """The state of one run while it is wired together."""

    def __init__(self, recipe: Recipe, device: Device, reporter: Reporter, offline: bool, started: float, given: Given) -> None:
        self.given = given
        self.recipe, self.device, self.offline, self.started = recipe, device, offline, started
        self.deadline = Deadline(recipe.training.time, started)
        self.reporter = Noted(reporter)
        self.cache: Cache = open_cache(recipe, self.reporter)
        self.timing: dict[str, float] = {}

    def carry_out(self) -> Outcome:
        """Do everything; return what came of it."""
        self.reporter.progress("listing the data", 0, 0)
        table = sources.read(Path(self.recipe.data), self.recipe.columns, target=wanted_target(self.recipe))
        if self.given.parts is not None:
            table.rows = [replace(row, split=part) for row in table.rows if (part := self.given.parts.get(row.id))]
        backbone = self._backbone(table)
        strategy = self._strategy(table, backbone)
        self._refuse_unread(table, backbone, strategy)
        name = f"{name_of(self.recipe.data)}-{registry.name_of(strategy)}"
        folder, resumed = open_folder(self.recipe, name, self.device, self.reporter)
        if resumed:
            same_threads(folder, self.reporter)
        clock = time.perf_counter()
        self._fit_preprocessing(backbone, table)
        data = prepare(self.recipe, table, backbone.modality, self.cache, self.reporter, self.deadline)
        backbone.modality = data.modality
        baselines.require_choice(self.recipe.predictor, data)
        self.timing["data_s"] = time.perf_counter() - clock
        self._say_plan(data, backbone, strategy)
        if self.device.first:
            self._write_opening(folder, data, backbone, strategy, resumed)
        baseline = baselines.fit(data, self.recipe.training.seed) if self.recipe.training.time else None
        work = self._work(folder, data, backbone, strategy)
        self._train(work, folder, resumed)
        strategy.finish(work.model)
        outcome = Outcome(
            recipe=self.recipe,
            folder=folder,
            data=data,
            backbone=backbone,
            strategy=strategy,
            work=work,
            device=self.device,
            timing=self.timing,
            started=self.started,
            baseline=baseline,
            reporter=self.reporter,
        )
        record(outcome)
        self.device.wait()
        return outcome

    # --- choosing ----------------------------------------------------------------------------

    def _backbone(self, table: Table) -> Backbone:
        """Load the backbone, seeded: fresh parts of it are the same in every run of this recipe. From scratch, no weights are read."""
        modality, seed = table.modality, self.recipe.training.seed
        torch.manual_seed(seed)
        fresh = self.recipe.strategy is not None and self.recipe.strategy.from_scratch
        if self.given.backbone is not None:
            return self._rebuilt(self.given.backbone) if fresh and not is_fresh(self.given.backbone) else self.given.backbone
        self.reporter.progress("loading the backbone", 0, 0)
        name = backbones.for_modality(self.recipe.backbone or backbones.default(modality, self._task(table).prefers), modality)
        make = backbones.from_scratch if fresh else backbones.load
        backbone = make(name, offline=self.offline, image_size=self.recipe.inputs.image_size)
        self._adapt(backbone, modality)
        set_inputs(backbone, self.recipe.inputs)
        chosen = "" if self.recipe.backbone else " (the default: the best installed package)"
        self.reporter.say(f"backbone {name}{chosen}: {backbone.report or 'randomly initialised weights'}")
        unpack(table.rows, self.cache)
        if self._task(table).layout == "pyramid":
            if said := fitted_to_boxes(backbone, self.recipe.inputs):
                self.reporter.say(said)
            return backbone
        learned = [row for row in table.rows if row.split in (None, "train")]
        if said := fitted_to_shape(backbone, learned, self.recipe.inputs):
            self.reporter.say(said)
        backbone, said = fitted_to_small(backbone, learned, named=self.recipe.backbone, inputs=self.recipe.inputs, seed=seed)
        if said:
            self.reporter.say(said)
        probes = self.recipe.strategy is None or isinstance(self.recipe.strategy, LinearProbe)
        if probes and not is_fresh(backbone) and (said := fitted_to_probe(backbone, learned, self.recipe.inputs)):
            self.reporter.say(said)
        return backbone

    def _task(self, table: Table) -> Task:
        return self.recipe.task or infer(table.target_type)

    def _rebuilt(self, given: Backbone) -> Backbone:
        """Return the architecture of the caller's backbone with randomly initialised weights."""
        backbone = backbones.build(given.builder)
        backbone.modality = given.modality
        self.reporter.say(f"strategy=scratch: {backbone.builder.id} starts from randomly initialised weights")
        return backbone

    def _adapt(self, backbone: Backbone, modality: str) -> None:
        """Put what the data are before a backbone of another modality, where that can be: spectrograms before an image network."""
        wanted = registry.name_of(backbone.modality)
        if wanted == modality:
            return
        theirs: type[Modality] = registry.load("modalities", modality)
        adapted = theirs.from_image(backbone.modality)
        if adapted is None:
            raise SettingError(
                f"backbone={self.recipe.backbone} takes {wanted}, but the data are {modality}. Leave backbone out for the default."
            )
        backbone.modality = adapted
        self.reporter.say(f"{modality} is shown to a network of the modality {wanted} as pictures")

    def _fit_preprocessing(self, backbone: Backbone, table: Table) -> None:
        """Make what the preprocessing takes from the training rows before anything is decoded: a tokenizer."""
        rows = [row for row in table.rows if row.split in (None, "train")]
        backbone.modality, said = backbone.modality.fitted_to(rows)
        if said:
            self.reporter.say(said)

    def _strategy(self, table: Table, backbone: Backbone) -> Strategy:
        if self.recipe.strategy is not None:
            return self.recipe.strategy
        chosen = (self.recipe.task or infer(table.target_type)).suggests
        if is_fresh(backbone):
            chosen = Suggestion(strategy="scratch", why="no weights are pretrained")
        self.reporter.say(f"strategy {chosen.strategy} (the default here: {chosen.why})")
        return registry.load("strategies", chosen.strategy)(**chosen.settings)

    def _refuse_unread(self, table: Table, backbone: Backbone, strategy: Strategy) -> None:
        given = self.given
        choices = refusals.Choices(
            table=table,
            backbone=backbone,
            strategy=strategy,
            task=self.recipe.task or infer(table.target_type),
            parts=self._augmentations(strategy, table.modality, self.recipe.task or infer(table.target_type), backbone),
            own_backbone=given.backbone is not None,
            own_loss=given.loss is not None,
            own_parts=given.parts is not None,
        )
        refusals.check(self.recipe, choices)

    def _augmentations(self, strategy: Strategy, modality: str, task: Task, backbone: Backbone) -> tuple[Augmentation, ...]:
        if self.recipe.augmentations:
            for part in self.recipe.augmentations:
                if modality not in part.modalities:
                    raise SettingError(
                        f"augmentation {registry.name_of(part)} is for {', '.join(sorted(part.modalities))}, not for {modality}."
                    )
            return self.recipe.augmentations
        others = task.suggested(registry.name_of(strategy), backbone)
        return preset(self.recipe.augment or suggested(strategy, modality, others).augment, modality)

    def _write_opening(self, folder: RunDir, data: Prepared, backbone: Backbone, strategy: Strategy, resumed: bool) -> None:
        """Write what is known before training: the resolved recipe, the audit, the environment."""
        resolved = {
            "backbone": backbone.builder.id,
            "strategy": config.to_tree(strategy),
            "task": config.to_tree(data.task),
            "threads": torch.get_num_threads(),
        }
        begun = fingerprint.of_data(data, backbone)
        if resumed:
            fingerprint.require_same(folder, begun)
        folder.write_json(
            "recipe.json",
            {"identity": self.recipe.identity(), "recipe": config.to_tree(self.recipe), "resolved": resolved, "data": begun},
        )
        self._write_audit(folder, data)
        write_environment(folder, self.reporter, resumed=resumed)
        if not resumed:
            (folder.path / "events.jsonl").write_text("")

    def _write_audit(self, folder: RunDir, data: Prepared) -> None:
        folder.write_json("audit.json", audit_json(data))
        folder.write_ledger(data.ledger)

    # --- training ----------------------------------------------------------------------------

    def _work(self, folder: RunDir, data: Prepared, backbone: Backbone, strategy: Strategy) -> phases.Work:
        task = data.task
        probes = all(phase.open == 0 for phase in strategy.phases(len(backbone.stages)))
        pooling = self.recipe.inputs.pooling or (backbone.probing if probes else None)
        torch.manual_seed(self.recipe.training.seed + 1)  # whatever drew numbers since the backbone was built
        model = self._model(data, backbone, pooling)
        if lengths.settle(data, model, self.reporter) and self.device.first:
            self._write_audit(folder, data)
        strategy.prepare(model)
        train = data.encoded.take(torch.from_numpy(data.parts["train"]))
        loss = self.given.loss or task.loss(data.space, train, phases.loss_settings(self.recipe))
        learner = task.learner(model, loss).to(self.device.device)
        context = TrainingContext(
            device=self.device,
            checkpoints=Checkpoints(folder.path / "checkpoints", self.recipe.place.keep),
            decisions=Decisions(folder.path / "decisions.jsonl", self.device, self.reporter.warn),
            clock=self.deadline.clock,
            stop=interrupt.is_asked,
        )
        needs = FeatureCache(
            data=data,
            cache=self.cache,
            device=self.device,
            threads=threads(self.recipe),
            reporter=self.reporter,
            builder=backbone.builder,
            now=lambda: self.deadline.clock.seconds,
            measure=lambda: self._forward_precision(model, data, context),
        )
        if (made := context.decisions.made(_FEATURES)) is not None:
            needs.chosen = context.decisions.built(
                Precision, _FEATURES, lambda: made
            )  # for the record, where the phase that took features is not run again
        work = phases.Work(
            recipe=self.recipe,
            strategy=strategy,
            backbone=backbone,
            model=model,
            learner=learner,
            needs=needs,
            context=context,
            parts=self._augmentations(strategy, registry.name_of(data.modality), task, backbone),
            precision=lambda ln, ld: self._step_precision(ln, ld, context),
            deadline=self.deadline,
            own_loss=self.given.loss is not None,
        )
        solving.widen(work)
        return work

    def _model(self, data: Prepared, backbone: Backbone, pooling: str | None) -> Model:
        """Return the model; where stages of several widths are pooled, one example tells what the head takes."""
        outputs, layout, device = data.task.outputs(data.space), data.task.layout, self.device.device
        head = data.task.head(self.recipe.head)
        if pooling not in OF_STAGES or backbone.layered or layout != "pooled":
            return Model(backbone, head, outputs, pooling, layout).to(device)
        model = Model(backbone, head, outputs, "mean").to(device)
        model.repool(pooling, blocks(model.widths(data.example().to(device)), pooling)[-1].stop)
        return model

    def _forward_precision(self, model: Model, data: Prepared, context: TrainingContext) -> Precision:
        wanted = self.recipe.training.precision

        def decide() -> dict[str, Any]:
            if wanted is None:
                self.reporter.progress("choosing the precision", 0, 0)
                return forward_choice(model, data, self.device.device, self.cache)
            bfloat16 = wanted == "bfloat16"
            return asdict(Precision(bfloat16=bfloat16, reason=as_asked(bfloat16, self.device.device)))

        chosen = context.decisions.built(Precision, _FEATURES, decide)
        self.reporter.say(sentence("features", chosen))
        return chosen

    def _step_precision(self, learner: SupervisedLearner, loader: Loader, context: TrainingContext) -> Precision:
        self.reporter.progress("choosing the precision", 0, 0)
        decide = lambda: step_choice(learner, loader, self.recipe.training, self.cache)  # noqa: E731
        chosen = context.decisions.built(Precision, "training/precision", decide)
        self.reporter.say(sentence("training", chosen))
        return chosen

    def _train(self, work: phases.Work, folder: RunDir, resumed: bool) -> None:
        checkpoint = newest_checkpoint(work.context.checkpoints, self.device, self.reporter) if resumed else None
        if resumed and self.device.first:
            names = [phase.name for phase in work.strategy.phases(len(work.model.body))]
            rewind(folder, names, checkpoint, self.reporter)
            work.seconds["train_s"] = seconds_before(folder, checkpoint)
        if not work.strategy.trains:
            phases.solve(work)
            return
        follow(phases.train(work, checkpoint), folder, self.device, self.reporter, resume_line(self.recipe, folder.path))

    def _say_plan(self, data: Prepared, backbone: Backbone, strategy: Strategy) -> None:
        sizes = ", ".join(f"{len(p)} {part}" for part, p in data.parts.items())
        self.reporter.say(f"{registry.name_of(data.task)}, {data.space}; {sizes}; scored on {data.score}")
