"""One pretraining run, from a recipe to a run folder whose backbone every strategy can take."""

from __future__ import annotations

import functools
import time
from collections.abc import Generator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pretune import backbones, config, registry
from pretune.backbones import Backbone
from pretune.corpus.resemblance import NOTHING, Excluded
from pretune.corpus.tokens import BlockView
from pretune.data.batching import Batching
from pretune.data.loader import Loader
from pretune.errors import RequestError, SettingError
from pretune.kernels.memory import kept_memory
from pretune.modalities.text import Text
from pretune.objectives import Objective, PretextLearner, Suggested, set_classes, suggestion
from pretune.pretraining import Pretraining
from pretune.runner import extending, fingerprint, interrupt, pretrained
from pretune.runner.commands import resume_line
from pretune.runner.deadline import Deadline
from pretune.runner.folder import (
    folders_let_go,
    follow,
    newest_checkpoint,
    open_folder,
    require_same_processes,
    rewind,
    same_threads,
    seconds_before,
)
from pretune.runner.held import GLANCE, Held, Timing, planned
from pretune.runner.inputs import set_inputs
from pretune.runner.material import Material, item_material, text_material
from pretune.runner.opening import write_environment
from pretune.runner.precision import sentence, step_choice
from pretune.runner.prepare import open_cache, threads
from pretune.runner.pretrained import Work
from pretune.runner.reporter import Noted, Reporter, Silent
from pretune.sources import sources
from pretune.training.checkpoint import STABLE, Checkpoint, Checkpoints, Decisions, load_by_name
from pretune.training.device import Device, open_device
from pretune.training.events import Event
from pretune.training.loop import Evaluation, TrainingContext, fit
from pretune.training.optim import Optim
from pretune.training.plan import Plan, Precision
from pretune.training.run_dir import RunDir
from pretune.training.turn import computing_threads

DEFAULTS = {"text": "causal", "image": "contrastive", "audio": "contrastive"}
"""Objective of each modality where none is named."""
EPOCHS_IN_TIME = 1_000
"""Epochs at most where a time is given and no number of epochs."""
MAKING = 3.0
"""Seconds kept for samples and the report, where a time is given."""
SHOWN = 6
"""Held-out items whose reconstruction is shown."""


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """A finished pretraining run."""

    folder: RunDir
    objective: Objective
    metrics: dict[str, Any]
    reconstructions: list[tuple[str, list[Any]]]
    """Rows of pictures (H, W, 3) or texts with headings: what an objective that fills in made of held-out items."""


def pretrain(
    recipe: Pretraining,
    *,
    reporter: Reporter | None = None,
    offline: bool = False,
    started: float | None = None,
    exclude: Excluded = NOTHING,
) -> Pretrained:
    """Carry out a pretraining recipe; the run folder's backbone/ is what `run:PATH` reads.

    Args:
        recipe: what to do.
        reporter: who is told; nobody by default.
        offline: never open a socket, even for a backbone that was named.
        started: time.monotonic() at which the person's clock started; now by default.
        exclude: items that must not be learned from.

    Raises:
        RequestError: the request cannot be carried out; nothing was trained.
        Interrupted: Ctrl-C; the run can be resumed.
    """
    started = time.monotonic() if started is None else started
    with computing_threads(threads(recipe)), open_device() as device, kept_memory(), folders_let_go():
        said = (reporter or Silent()) if device.first else Silent()
        return _Pretraining(recipe, device, said, offline, started, exclude).carry_out()


class _Pretraining:
    """The state of one run while it is wired together."""

    def __init__(self, recipe: Pretraining, device: Device, reporter: Reporter, offline: bool, started: float, exclude: Excluded) -> None:
        self.recipe, self.device, self.offline, self.exclude = recipe, device, offline, exclude
        self.deadline = Deadline(recipe.training.time, started)
        self.reporter = Noted(reporter)
        self.cache = open_cache(recipe, self.reporter)
        self.timing: dict[str, float] = {}

    def carry_out(self) -> Pretrained:
        """Do everything; return what came of it."""
        self.reporter.progress("listing the data", 0, 0)
        kind = sources.modality_at(Path(self.recipe.data), self.recipe.columns)
        objective = self._objective(kind)
        name = registry.name_of(objective)
        suggested = suggestion(objective, name, kind)
        backbone = self._backbone(suggested, kind)
        objective.check(backbone)
        suggested = suggested if self._is_fresh(backbone) else suggested.for_weights()
        folder, resumed = open_folder(self.recipe, f"{Path(self.recipe.data).stem}-{name}", self.device, self.reporter)
        if resumed:
            same_threads(folder, self.reporter)
        clock = time.perf_counter()
        material = self._material(objective, suggested, backbone)
        self.timing["data_s"] = time.perf_counter() - clock
        self._tell_of_slow_data()
        torch.manual_seed(self.recipe.training.seed)
        learner = objective.learner(material.backbone)
        set_classes(learner, material.classes)
        learner = learner.to(self.device.device)
        learner.pace = 1.0 if self._is_fresh(material.backbone) else suggested.continued_heads
        if self.device.first:
            self._write_opening(folder, objective, suggested, material, resumed)
        work = self._work(folder, learner, material, suggested)
        self._train(work, folder, resumed)
        metrics = self._record(work, folder, objective)
        self.device.wait()
        shown = self._reconstructions(work) if metrics else []
        return Pretrained(folder=folder, objective=objective, metrics=metrics, reconstructions=shown)

    # --- before training ---------------------------------------------------------------------

    def _objective(self, kind: str) -> Objective:
        """Return what is learned; an extended run goes on with what it was learning, and with its optimizer's state."""
        given = self.recipe.objective
        if not self.recipe.extend:
            return given or registry.load("objectives", DEFAULTS[kind])()
        for line in self._before.differing(self.recipe):
            self.reporter.warn(line)
        return self._before.objective

    @functools.cached_property
    def _before(self) -> extending.Before:
        """The run that is extended; read once."""
        return extending.read(self.recipe)

    def _backbone(self, suggested: Suggested, kind: str) -> Backbone:
        torch.manual_seed(self.recipe.training.seed)
        if self.recipe.extend and self.recipe.backbone:
            raise SettingError("extend goes on with a run's own network; leave backbone out.")
        extended = f"run:{self.recipe.extend}" if self.recipe.extend else None
        name = backbones.for_modality(self.recipe.backbone or extended or suggested.backbone, kind)
        size = self.recipe.inputs.image_size
        self.reporter.progress("loading the backbone", 0, 0)
        backbone = backbones.load(_sized(name, self.recipe), offline=self.offline, image_size=size)
        set_inputs(backbone, self.recipe.inputs)
        chosen = "" if self.recipe.backbone or extended else " (suggested by the objective)"
        self.reporter.say(f"backbone {name}{chosen}: {backbone.report or 'randomly initialised weights'}")
        return backbone

    def _is_fresh(self, backbone: Backbone) -> bool:
        """Tell whether training begins with fresh weights; an extended run is trained on as it began."""
        return self._before.fresh if self.recipe.extend else backbone.report is None

    def _material(self, objective: Objective, suggested: Suggested, backbone: Backbone) -> Material:
        if isinstance(backbone.modality, Text) and objective.streams:
            return text_material(self.recipe, objective, backbone, self.cache, self.reporter, self.exclude, self.deadline)
        return item_material(self.recipe, objective, suggested, backbone, self.cache, self.reporter, self.exclude, self.deadline)

    def _tell_of_slow_data(self) -> None:
        """Say it where reading left little of the time to learn in."""
        total, took = self.recipe.training.time, self.timing["data_s"]
        if total is not None and took > total / 2:
            self.reporter.warn(f"reading the data took {took:.0f} s of time={total:.0f}s; the next time they come from the cache")

    def _write_opening(self, folder: RunDir, objective: Objective, suggested: Suggested, material: Material, resumed: bool) -> None:
        resolved = {
            "fresh": self._is_fresh(material.backbone),
            "backbone": material.backbone.builder.id,
            "backbone_settings": material.backbone.builder.settings,
            "objective": config.to_tree(objective),
            "optim": config.to_tree(self._optim(suggested)),
            "threads": torch.get_num_threads(),
        }
        if resumed:
            fingerprint.require_same(folder, material.fingerprint)
        told = {"identity": self.recipe.identity(), "recipe": config.to_tree(self.recipe), "resolved": resolved}
        folder.write_json("recipe.json", {**told, "data": material.fingerprint})
        folder.write_ledger(material.ledger)
        write_environment(folder, self.reporter, resumed=resumed)
        if not resumed:
            (folder.path / "events.jsonl").write_text("")

    def _work(self, folder: RunDir, learner: PretextLearner, material: Material, suggested: Suggested) -> Work:
        context = TrainingContext(
            device=self.device,
            checkpoints=Checkpoints(folder.path / "checkpoints", self.recipe.place.keep),
            decisions=Decisions(folder.path / "decisions.jsonl", self.device, self.reporter.warn),
            clock=self.deadline.clock,
            stop=interrupt.is_asked,
        )
        size = self.recipe.training.batch_size or suggested.batch_size
        work = Work(learner=learner, material=material, context=context, suggested=suggested, batch_size=size)
        parts = ", ".join(f"{part} {', '.join(f'{n:,} {what}' for what, n in c.items())}" for part, c in material.counts.items())
        trainable = sum(p.numel() for p in learner.parameters() if p.requires_grad)
        paced = "" if learner.pace == 1 else f"; those beside the network are fresh and learn {learner.pace:g} times as fast"
        self.reporter.say(f"{parts}; {trainable:,} parameters{paced}")
        learner.begin(learner.phases[0])
        self.reporter.progress("choosing the precision", 0, 0)
        make = partial(step_choice, learner, self._loader(work), self.recipe.training, self.cache)
        work.precision = context.decisions.built(Precision, "training/precision", make)
        self.reporter.say(sentence("training", work.precision))
        return work

    def _loader(self, work: Work, *, training: bool = True) -> Loader:
        view = work.material.train if training else work.material.held
        size = max(1, work.batch_size // self.device.world)
        batching = Batching(size=size, shuffle=training, seed=self.recipe.training.seed, drop_last=training)
        streams = isinstance(view, BlockView)  # blocks of a mapped file are there at once: a thread would only be in the way
        return Loader(view, batching, share=self.device.share, workers=0 if streams else 1)

    # --- training ----------------------------------------------------------------------------

    def _train(self, work: Work, folder: RunDir, resumed: bool) -> None:
        checkpoint = newest_checkpoint(work.context.checkpoints, self.device, self.reporter) if resumed else self._extended(work)
        before = 0.0
        if resumed and self.device.first:
            rewind(folder, work.learner.phases, checkpoint, self.reporter)
            before = seconds_before(folder, checkpoint)
        started = time.perf_counter()
        follow(self._phases(work, checkpoint), folder, self.device, self.reporter, resume_line(self.recipe, folder.path))
        self.timing["train_s"] = before + time.perf_counter() - started

    def _extended(self, work: Work) -> Checkpoint | None:
        """Return the state of the run that is extended, its end moved to where this recipe has it."""
        if not self.recipe.extend:
            return None
        checkpoint = Checkpoints(Path(self.recipe.extend) / "checkpoints", 1).stable()
        if checkpoint is None:
            raise RequestError(f"{self.recipe.extend} cannot be extended: its stable state (checkpoints/{STABLE}) is damaged.")
        require_same_processes(checkpoint, self.device)
        phases = len(work.learner.phases)
        plan = self._plan(work, phases - 1, work.learner.phases[-1], None)
        steps, done = self._loader(work).steps(0) * plan.epochs, int(checkpoint.state["progress"]["step"])
        if int(checkpoint.state["phase"]) != phases - 1 or steps <= done:
            raise RequestError(f"{self.recipe.extend} was stable for {done} steps already, and this recipe has {steps}. Give more epochs.")
        checkpoint.state["progress"] |= {"steps": steps, "marked": False, "seconds": 0.0, "overhead": 0.0, "spent": 0.0}
        self.reporter.say(f"going on with {self.recipe.extend} from step {done}")
        return checkpoint

    def _phases(self, work: Work, resume: Checkpoint | None) -> Generator[Event]:
        first = 0 if resume is None else int(resume.state["phase"])
        for number, phase in enumerate(work.learner.phases):
            if number < first:
                continue
            work.learner.begin(phase)
            here = resume if number == first else None
            if here is not None and here.state["done"]:
                load_by_name(work.learner, here.tensors_below("model"))
                continue
            timing = self._timing(work, number)
            plan, evaluation = self._plan(work, number, phase, timing), self._evaluation(work, timing)
            yield from fit(work.learner, self._loader(work), work.learner.groups(), plan, work.context, evaluation, here)

    def _plan(self, work: Work, number: int, phase: str, timing: Timing | None) -> Plan:
        training, suggested = self.recipe.training, work.suggested
        epochs = training.epochs or (suggested.epochs if training.time is None else EPOCHS_IN_TIME)
        total = self._loader(work).steps(0) * epochs
        return Plan(
            number=number,
            phase=phase,
            epochs=epochs,
            lr=training.lr or suggested.rate(work.material.backbone),
            weight_decay=suggested.weight_decay if training.weight_decay is None else training.weight_decay,
            optim=self._optim(suggested),
            schedule=self.recipe.schedule,
            clip=training.clip,
            ema=training.ema,
            budget=None if timing is None else timing.budget,
            steps=None if timing is None else timing.steps,
            log_every=max(1, min(20, total // 1000)) if timing is None else timing.log_every,
            evaluate_every=max(1, epochs // 20) if timing is None else timing.evaluate_every,
            extensible=number == len(work.learner.phases) - 1,
            spikes=True,
            seed=training.seed + number,
            precision=work.precision,
        )

    def _optim(self, suggested: Suggested) -> Optim:
        if self.recipe.optim is None and self.recipe.extend:
            return self._before.optim
        return self.recipe.optim or config.build(Optim, {"name": suggested.optim})

    def _timing(self, work: Work, number: int) -> Timing | None:
        """Return what the time of a phase is spent on, as it was decided once; None where no time was given."""
        if self.recipe.training.time is None:
            return None
        loader, held = self._loader(work), self._held(work)

        def decide() -> dict[str, Any]:
            making = MAKING if work.learner.generates else 1.0
            timing = planned(
                self.deadline,
                held.seconds_per_example(),
                batch=work.batch_size // self.device.world,
                epoch=loader.steps(0),
                held=len(held.loader.view) // self.device.world,
                phases=len(work.learner.phases) - number,
                afterwards=making,
            )
            return asdict(timing)

        return work.context.decisions.built(Timing, f"{number}/time", decide)

    def _held(self, work: Work) -> Held:
        loader = self._loader(work, training=False)
        return Held(work=work, loader=loader, device=self.device, seed=self.recipe.training.seed, deadline=self.deadline)

    # --- measuring ---------------------------------------------------------------------------

    def _evaluation(self, work: Work, timing: Timing | None) -> Evaluation:
        held, most = self._held(work), GLANCE if timing is None else timing.glance
        return Evaluation(splits={"held": lambda: held.measure(most)}, primary="loss", higher_is_better=False)

    def _reconstructions(self, work: Work) -> list[tuple[str, list[Any]]]:
        """Let an objective that fills in show it on a few held-out items; the same ones every time."""
        learner = work.learner
        if not learner.fills_in:
            return []
        batches = self._loader(work, training=False).iterate(0)
        batch = next(batches).take(slice(0, SHOWN))
        batches.close()
        with torch.random.fork_rng():
            torch.manual_seed(self.recipe.training.seed)
            return learner.reconstructions(batch.to(self.device.device))

    # --- the folder --------------------------------------------------------------------------

    def _record(self, work: Work, folder: RunDir, objective: Objective) -> dict[str, Any]:
        """Save weights first, then measure, then write metrics.json."""
        if self.device.first:
            pretrained.save_learner(folder, objective, work.learner, work.material)
        self.timing["saved_s"] = self.deadline.clock.seconds
        self.reporter.progress("evaluating", 0, 0)
        measuring = self._held(work)
        making = MAKING if work.learner.generates else 1.0
        held = measuring.measure(keep=None if self.recipe.training.time is None else making)
        self._say_what_was_measured(measuring)
        if not self.device.first:
            return {}
        floors = pretrained.settle_floors(work.material, held)
        verdict = [*pretrained.unknown_tokens(work.material), *work.learner.verdict(held, floors)]
        for line in verdict:
            self.reporter.warn(line)
        self.timing["total_s"] = self.deadline.clock.seconds
        told = {"objective": registry.name_of(objective), "timing": self.timing, "diagnosis": verdict, "notes": self.reporter.notes}
        metrics = pretrained.figures(work, held, folder) | told | {"measured": {"held": measuring.items}}
        folder.write_json("metrics.json", metrics)
        return metrics

    def _say_what_was_measured(self, held: Held) -> None:
        """Report it where the time did not allow measuring all held-out examples."""
        if held.items < len(held.loader.view):
            self.reporter.warn(
                f"the held-out figures are those of {held.items:,} of {len(held.loader.view):,} held-out examples: "
                f"time={self.recipe.training.time:g}s allowed no more"
            )


def _sized(name: str, recipe: Pretraining) -> str:
    """Add the length of blocks to a fresh text network's settings: its table of positions must hold them."""
    length = recipe.inputs.max_tokens
    if length is None or not name.startswith("scratch:") or "max_tokens" in name:
        return name
    cls = registry.load("architectures", name.removeprefix("scratch:").partition(",")[0])
    return f"{name},max_tokens={length}" if "max_tokens" in config.keys(cls) else name
