"""Which network is fine-tuned, and how: the backbone with its preprocessing, the strategy, the augmentations, the model around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from pretune import backbones, registry
from pretune.augmentations import Augmentation, preset
from pretune.backbones import Backbone
from pretune.errors import SettingError
from pretune.modalities import Modality
from pretune.models import Model
from pretune.models.pooling import OF_STAGES, blocks
from pretune.recipe import Recipe
from pretune.runner.inputs import fitted_to_boxes, fitted_to_probe, fitted_to_shape, fitted_to_small, set_inputs
from pretune.runner.job import RunContext
from pretune.runner.prepare import Prepared
from pretune.runner.reporter import Reporter
from pretune.sources.table import Table
from pretune.storage.cells import unpack
from pretune.strategies import Strategy, suggested
from pretune.strategies.linear_probe import LinearProbe
from pretune.tasks import Suggestion, Task
from pretune.types import Row


def choose_backbone(recipe: Recipe, own: Backbone | None, task: Task, table: Table, run: RunContext) -> Backbone:
    """Return the backbone, seeded: what is randomly initialised is the same in every run of this recipe. From scratch, no weights are read.

    Args:
        recipe: names it.
        own: the caller's, which takes its place.
        task: prefers one where none is named.
        table: the rows that it is to read.
        run: loads and reports it.
    """
    modality, seed, reporter = table.modality, recipe.training.seed, run.reporter
    torch.manual_seed(seed)
    untrained = recipe.strategy is not None and recipe.strategy.from_scratch
    if own is not None:
        return _rebuilt(own, reporter) if untrained and not own.is_untrained else own
    reporter.progress("loading the backbone", 0, 0)
    name = backbones.for_modality(recipe.backbone or task.backbone or backbones.default(modality, task.prefers), modality)
    load = backbones.from_scratch if untrained else backbones.load
    backbone = load(name, offline=run.offline, image_size=recipe.inputs.image_size)
    _adapt(recipe, backbone, modality, reporter)
    set_inputs(backbone, recipe.inputs)
    default = "the task's" if task.backbone else "the best installed package"
    chosen = "" if recipe.backbone else f" (default backbone: {default})"
    reporter.say(f"backbone {name}{chosen}: {backbone.report or 'randomly initialised weights'}")
    unpack(table.rows, run.cache)
    if task.layout == "pyramid":
        if message := fitted_to_boxes(backbone, recipe.inputs):
            reporter.say(message)
        return backbone
    train = training_rows(table)
    messages = [fitted_to_shape(backbone, train, recipe.inputs)]
    backbone, message = fitted_to_small(backbone, train, named=recipe.backbone, inputs=recipe.inputs, seed=seed)
    messages.append(message)
    if (recipe.strategy is None or isinstance(recipe.strategy, LinearProbe)) and not backbone.is_untrained:
        messages.append(fitted_to_probe(backbone, train, recipe.inputs))
    for message in filter(None, messages):
        reporter.say(message)
    return backbone


def training_rows(table: Table) -> list[Row]:
    """Return the rows that may be learned from."""
    return [row for row in table.rows if row.split in (None, "train")]


def _rebuilt(own: Backbone, reporter: Reporter) -> Backbone:
    """Return the architecture of the caller's backbone with randomly initialised weights."""
    backbone = backbones.build(own.builder)
    backbone.modality = own.modality
    reporter.say(f"strategy=scratch: {backbone.builder.id} starts from randomly initialised weights")
    return backbone


def _adapt(recipe: Recipe, backbone: Backbone, modality: str, reporter: Reporter) -> None:
    """Put what the data are before a backbone of another modality, where that can be: spectrograms before an image network."""
    wanted = registry.name_of(backbone.modality)
    if wanted == modality:
        return
    theirs: type[Modality] = registry.load("modalities", modality)
    adapted = theirs.from_image(backbone.modality)
    if adapted is None:
        raise SettingError(f"backbone={recipe.backbone} takes {wanted}, but the data are {modality}. Leave backbone out for the default.")
    backbone.modality = adapted
    reporter.say(f"{modality} is fed to an {wanted} network as spectrograms")


def fit_preprocessing(backbone: Backbone, rows: Sequence[Row], reporter: Reporter) -> None:
    """Fit what the preprocessing takes from the training rows before anything is decoded: a tokenizer."""
    backbone.modality, message = backbone.modality.fitted_to(rows)
    if message:
        reporter.say(message)


def choose_strategy(recipe: Recipe, task: Task, backbone: Backbone, reporter: Reporter) -> Strategy:
    """Return the recipe's strategy, or what the task suggests for these weights."""
    if recipe.strategy is not None:
        return recipe.strategy
    chosen = Suggestion(strategy="scratch", why="no weights are pretrained") if backbone.is_untrained else task.suggestion(backbone)
    reporter.say(f"strategy {chosen.strategy} (the default here: {chosen.why})")
    return registry.load("strategies", chosen.strategy)(**chosen.settings)


def choose_augmentations(
    recipe: Recipe, strategy: Strategy, modality: str, task: Task, others: Mapping[str, Any]
) -> tuple[Augmentation, ...]:
    """Return the augmentations that the recipe names, or the preset that it, the task (`others`) or the strategy suggests.

    Examples of tasks that predict several things each are not mixed by a preset.

    Raises:
        SettingError: one is for another modality.
    """
    for one in recipe.augmentations:
        if modality not in one.modalities:
            raise SettingError(f"augmentation {registry.name_of(one)} is for {', '.join(sorted(one.modalities))}, not for {modality}.")
    name = recipe.augment or suggested(strategy, modality, others).augment
    return recipe.augmentations or preset(name, modality, mixes=task.layout == "pooled")


def build_model(recipe: Recipe, data: Prepared, backbone: Backbone, strategy: Strategy, device: torch.device, reporter: Reporter) -> Model:
    """Return the model; where stages of several widths are pooled, one example shows what the head takes."""
    probes = all(phase.open == 0 for phase in strategy.phases(len(backbone.stages)))
    pooling = recipe.inputs.pooling or (backbone.probing if probes and not data.task.measures_start else None)
    outputs, layout = data.task.outputs(data.space), data.task.layout
    head, message = data.task.head_for(recipe.head, backbone, data.space)
    if message:
        reporter.say(message)
    if pooling not in OF_STAGES or backbone.layered or layout != "pooled":
        return Model(backbone, head, outputs, pooling, layout).to(device)
    model = Model(backbone, head, outputs, "mean").to(device)
    model.repool(pooling, blocks(model.widths(data.example().to(device)), pooling)[-1].stop)
    return model
