"""What a pretraining run learns, and with which network: chosen before any data are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from pretune import backbones, config, registry
from pretune.backbones import Backbone
from pretune.corpus.resemblance import NOTHING, Excluded
from pretune.errors import SettingError
from pretune.modalities.text import Text
from pretune.objectives import Objective, Suggested, suggestion
from pretune.pretraining import Pretraining
from pretune.runner import extending, gain
from pretune.runner.inputs import set_inputs
from pretune.runner.job import RunContext
from pretune.sources import sources
from pretune.training.optim import Optim

DEFAULTS = {"text": "causal", "image": "contrastive", "audio": "contrastive"}
"""Objective of each modality where none is named."""


@dataclass(frozen=True, kw_only=True)
class Pretext:
    """What was chosen before any data were read."""

    objective: Objective
    suggested: Suggested
    backbone: Backbone
    untrained: bool
    """Whether training begins with randomly initialised weights; an extended run is trained on as it began."""
    optim: Optim
    task: gain.LabelledTask | None = None
    """The task of `then=`."""

    @property
    def excluded(self) -> Excluded:
        """Examples that must not be learned from: the held-out ones of that task."""
        return self.task.held_out if self.task else NOTHING

    @property
    def reads_stream(self) -> bool:
        """Whether the data are read as one stream of tokens, not as single examples."""
        return isinstance(self.backbone.modality, Text) and self.objective.streams


def choose(recipe: Pretraining, run: RunContext) -> Pretext:
    """Choose the objective and its network; of an extended run both are that run's. Read the task of `then=`."""
    if recipe.gain.then:
        run.reporter.progress(f"reading {recipe.gain.then}", 0, 0)
    task = gain.read_task(recipe) if recipe.gain.then else None
    for message in task.warnings() if task else ():
        run.reporter.warn(message)
    run.reporter.progress("listing the data", 0, 0)
    kind = sources.modality_at(Path(recipe.data), recipe.columns)
    before = extending.read(recipe) if recipe.extend else None
    for message in before.differing(recipe) if before else ():
        run.reporter.warn(message)
    objective = before.objective if before else recipe.objective or registry.load("objectives", DEFAULTS[kind])()
    suggested = suggestion(objective, registry.name_of(objective), kind)
    backbone = _backbone(recipe, suggested, kind, run)
    objective.check(backbone)
    untrained = before.untrained if before else backbone.report is None
    suggested = suggested if untrained else suggested.for_weights()
    optim = recipe.optim or (before.optim if before else config.build(Optim, {"name": suggested.optim}))
    return Pretext(objective=objective, suggested=suggested, backbone=backbone, untrained=untrained, optim=optim, task=task)


def _backbone(recipe: Pretraining, suggested: Suggested, kind: str, run: RunContext) -> Backbone:
    torch.manual_seed(recipe.training.seed)
    if recipe.extend and recipe.backbone:
        raise SettingError("extend goes on with a run's own network; leave backbone out.")
    extended = f"run:{recipe.extend}" if recipe.extend else None
    name = backbones.for_modality(recipe.backbone or extended or suggested.backbone, kind)
    run.reporter.progress("loading the backbone", 0, 0)
    backbone = backbones.load(_sized(name, recipe), offline=run.offline, image_size=recipe.inputs.image_size)
    set_inputs(backbone, recipe.inputs)
    chosen = "" if recipe.backbone or extended else " (suggested by the objective)"
    run.reporter.say(f"backbone {name}{chosen}: {backbone.report or 'randomly initialised weights'}")
    return backbone


def _sized(name: str, recipe: Pretraining) -> str:
    """Add the length of blocks to an untrained text network's settings: its table of positions must hold them."""
    length = recipe.inputs.max_tokens
    if length is None or not name.startswith("scratch:") or "max_tokens" in name:
        return name
    cls = registry.load("architectures", name.removeprefix("scratch:").partition(",")[0])
    return f"{name},max_tokens={length}" if "max_tokens" in config.keys(cls) else name
