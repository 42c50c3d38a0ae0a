"""What a run would not read of its recipe once data, backbone and strategy are known: refused before anything is decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pretune import registry
from pretune.architectures.layers.detector import LibraryLayers
from pretune.augmentations import Augmentation, BatchAugmentation, ViewAugmentation
from pretune.backbones import Backbone
from pretune.errors import SettingError
from pretune.models.pooling import OF_STAGES
from pretune.recipe import Recipe, unread_of
from pretune.sources.table import Table
from pretune.sources.target_type import TargetType
from pretune.strategies import Phase, Strategy
from pretune.tasks import Task
from pretune.training.optim import Optim
from pretune.types import NotUsed
from pretune.unread import given, refuse

Unread = dict[str, NotUsed]
_ROLES = ("text", "path")
"""Settings that name a column of what is read; those of labels, groups and parts are refused where tables are read."""


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What a recipe came to."""

    table: Table
    backbone: Backbone
    strategy: Strategy
    task: Task
    optim: Optim
    """The recipe's, or the one that the task suggests."""
    augmentations: Sequence[Augmentation]
    """Those that the recipe names or the strategy suggests."""
    own_backbone: bool = False
    """Whether the caller brought a backbone."""
    own_loss: bool = False
    """Whether the caller brought a loss."""
    own_splits: bool = False
    """Whether the caller brought the split."""


def check(recipe: Recipe, choices: Choices) -> None:
    """Refuse settings that nothing would read.

    Raises:
        SettingError: there is one, or the task does not go with the data, the backbone or the strategy; the message says what to do.
    """
    _refuse_task(choices)
    choices.task.head(recipe.head)  # which refuses one that it cannot have
    keys = given(recipe)
    unread = unread_of(recipe, strategy=choices.strategy, task=choices.task)
    unread |= _of_data(recipe, choices) | _of_backbone(choices) | _of_views(recipe, choices)
    if choices.own_loss:
        unread |= dict.fromkeys(("label_smoothing", "class_weights"), NotUsed("a loss of your own"))
    if choices.optim.name == "muon" and all(phase.open == 0 for phase in _phases(choices)):
        adamw = NotUsed(
            f"strategy={registry.name_of(choices.strategy)}, which trains no matrix between hidden layers", "choose optim=adamw"
        )
        unread |= {"optim": adamw} | unread
    refuse(keys, unread)


def _refuse_task(choices: Choices) -> None:
    """Refuse a task with labels, a modality, a backbone or a strategy that it cannot have."""
    task, backbone, kind = choices.task, choices.backbone, choices.table.target_type
    name = f"task={registry.name_of(task)}"
    if kind is not None and kind.form != task.reads.form:
        raise SettingError(f"{name} takes {task.reads}, and the labels are {kind}. Leave task out, or name another column: label=COLUMN.")
    if task.modalities and choices.table.modality not in task.modalities:
        raise SettingError(f"{name} is for {' and '.join(sorted(task.modalities))}, and the data are {choices.table.modality}.")
    if task.layout not in ("pooled", "pyramid", backbone.layout):
        raise SettingError(
            f"{name} needs a backbone that returns a {task.layout}, and {backbone.builder.id} returns features of the layout "
            f"{backbone.layout}. Choose another backbone."
        )
    if choices.own_loss and task.layout == "pyramid" and isinstance(backbone.detector, LibraryLayers):
        raise SettingError(
            f"{backbone.builder.id} computes its own loss, so loss= does not apply. Leave it out, or choose another backbone."
        )
    if not choices.strategy.trains and task.linear is None:
        raise SettingError(
            f"strategy={registry.name_of(choices.strategy)} computes the head without training, which {name} has no formula for. "
            "Choose strategy=linear_probe."
        )


def _phases(choices: Choices) -> list[Phase]:
    """Return the phases that the recipe's own settings are for: not a probe before them."""
    return [phase for phase in choices.strategy.phases(len(choices.backbone.stages)) if phase.epochs is None]


def _of_data(recipe: Recipe, choices: Choices) -> Unread:
    """Return what the data make needless: a share to hold out where they name parts, a column of what is read from elsewhere."""
    table, out = choices.table, {}
    if choices.own_splits or any(row.split in ("val", "test") for row in table.rows):
        out["val"] = NotUsed("data that name their own validation or test split", "set split=new to split anew")
    kind = table.target_type or TargetType()
    if not kind.single:
        out["min_examples"] = NotUsed(f"task={table.task}: it counts examples of a class where each example has one")
    if kind.numeric:
        out["merge_classes"] = NotUsed(f"task={table.task}, which has no classes")
    for key in _ROLES:
        if getattr(recipe.columns, key) is not None and key not in table.columns:
            out[key] = NotUsed(f"{recipe.data}, whose examples have no such column ({table.layout})")
    return out


def _of_backbone(choices: Choices) -> Unread:
    out: Unread = {}
    backbone = choices.backbone
    if backbone.layout == "pooled":
        out["pooling"] = NotUsed(f"{backbone.builder.id}, whose features are pooled already")
    elif choices.task.layout != "pooled":
        out["pooling"] = NotUsed(f"task={registry.name_of(choices.task)}, whose head takes the {choices.task.layout} as it is")
    if choices.own_backbone:
        own = NotUsed("a backbone of your own, which brings its preprocessing")
        out |= dict.fromkeys(("image_size", "fit", "seconds", "max_tokens"), own)
    return out


def _of_views(recipe: Recipe, choices: Choices) -> Unread:
    """Return what is not read of augmentations and of cached views of them."""
    modality = choices.table.modality
    crops = [one for one in choices.augmentations if isinstance(one, ViewAugmentation)]
    if recipe.augment not in (None, "none") and not choices.augmentations:
        return {"augment": NotUsed(f"the modality {modality}: this preset is empty there", "set augment=none")}
    if len(crops) > 1:
        names = " and ".join(registry.name_of(one) for one in crops)
        return {"augmentations": NotUsed(f"a run that cuts views already: {names} both do", "name one of them")}
    if recipe.views == 1:
        return {}
    if not crops:
        cutting = {"image": "random_resized_crop", "audio": "time_shift"}.get(modality)
        how = f"add augmentations={cutting}" if cutting else ""
        return {"views": NotUsed("a run without an augmentation that cuts views: all of them would be equal", how)}
    mixing = [registry.name_of(one) for one in choices.augmentations if isinstance(one, BatchAugmentation)]
    if mixing:
        return {"views": NotUsed(f"a run whose features are not cached: {', '.join(mixing)} changes every batch", "leave those out")}
    if not any(_is_cached(recipe, choices, phase) for phase in _phases(choices)):
        name = registry.name_of(choices.strategy)
        return {
            "views": NotUsed(f"strategy={name}, which trains the first stage, so that nothing is cached", "choose linear_probe or partial")
        }
    return {}


def _is_cached(recipe: Recipe, choices: Choices, phase: Phase) -> bool:
    """Return whether a phase begins above frozen stages."""
    stages = list(choices.backbone.stages.values())
    closed = 0 if phase.open is None else len(stages) - phase.open
    first = next((place for place, stage in enumerate(stages) if place >= closed and choices.strategy.learns(stage)), len(stages))
    return first == len(stages) or (first > 0 and recipe.inputs.pooling not in OF_STAGES)
