"""Pretraining: the root dataclass of `pretune pretrain`; its sections are those of a Recipe where they mean the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, ClassVar, Literal

from pretune import config
from pretune.config import Flat, Member, Within
from pretune.errors import SettingError
from pretune.objectives import Objective
from pretune.recipe import Inputs, Place, Training, assembled, identity_of, unread_steps
from pretune.sources.table import Columns
from pretune.training.optim import Optim
from pretune.training.schedule import Schedule
from pretune.types import NotUsed
from pretune.unread import given, refuse


@dataclass(frozen=True, kw_only=True)
class CorpusSettings:
    """What is learned from."""

    also: tuple[str, ...] = ()
    """Additional files or folders to pretrain on."""
    units: Literal["word", "piece", "unigram", "character"] | None = None
    """Text: tokenization unit of a newly trained tokenizer; auto is the network's default."""
    vocabulary: Annotated[int | None, Within(8)] = None
    """Text: maximum vocabulary size of that tokenizer; auto is the network's default."""
    held: Annotated[float, Within(0, 0.5, above=True)] = 0.1
    """Held-out fraction, used for validation: the end of a single text, else whole examples at random."""


@dataclass(frozen=True, kw_only=True)
class GainSettings:
    """Whether pretraining helped: the task it is measured by."""

    then: str | None = None
    """Labelled data to fine-tune on afterwards, with and without the pretraining; time= does not limit these runs."""
    seeds: Annotated[int, Within(1, 20)] = 3
    """Runs of each kind, each with its own seed."""
    labels: tuple[float, ...] = ()
    """Numbers of labelled examples to fine-tune on, or fractions below 1; auto is all of them."""
    then_strategy: Literal["full", "linear_probe", "partial", "lora"] = "full"
    """How the pretrained network is fine-tuned; full uses the settings of training from scratch where the network began randomly
    initialised."""
    then_epochs: Annotated[int | None, Within(1)] = None
    """Epochs of each fine-tuning; auto is the default of training from scratch: more of them where there are few labels."""
    then_label: str | None = None
    """Column with the labels."""
    then_group: str | None = None
    """Column or pattern of groups that are kept in the same split."""


_SCHEDULE = Schedule(name="wsd", warmup=0.05, decay=0.5)


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """Everything that makes a pretraining run, resolved or auto (None)."""

    verb: ClassVar[str] = "pretrain"

    data: str
    """A text file or a folder of them, JSONL, Parquet; a folder of images or audio; labelled data, of which the training split is
    used."""
    objective: Annotated[Objective | None, Member("objectives")] = None
    """What is learned without labels; auto is causal for text, contrastive for images and audio."""
    backbone: str | None = None
    """SOURCE:NAME; auto is a randomly initialised network that suits the objective."""
    extend: str | None = None
    """A finished run to extend, from its checkpoint before learning-rate decay, for example for more epochs; its network and tokenizer
    are kept."""
    augment: Literal["none", "light", "medium", "strong", "views"] | None = None
    """Augmentation preset; auto is the objective's default. views is for objectives that compare two views of an example."""
    optim: Optim | None = None
    """Optimizer; auto is the objective's default."""
    schedule: Schedule = field(default_factory=lambda: _SCHEDULE)
    """Learning-rate schedule; a run with wsd (warm-up, stable, decay) can be extended."""
    corpus: Annotated[CorpusSettings, Flat()] = field(default_factory=CorpusSettings)
    inputs: Annotated[Inputs, Flat()] = field(default_factory=Inputs)
    columns: Annotated[Columns, Flat()] = field(default_factory=Columns)
    training: Annotated[Training, Flat()] = field(default_factory=Training)
    gain: Annotated[GainSettings, Flat()] = field(default_factory=GainSettings)
    place: Annotated[Place, Flat()] = field(default_factory=Place)

    @classmethod
    def from_settings(cls, data: str, *assignments: str, base: dict[str, Any] | None = None, **values: Any) -> Pretraining:
        """Return a recipe from `key=value` strings and keyword settings, over the tables of `base`.

        Raises:
            SettingError: an unknown key or name (nearest first), a bad value, or a setting that nothing would read.
        """
        tree = config.override(base or {}, assignments) | {"data": str(data), **values}
        return built(cls, tree)

    def identity(self) -> str:
        """Return a hash of everything that decides the result: what a resumed run must share."""
        return identity_of(self)


def read_pretraining(data: str | None, recipe: Iterable[str], assignments: Iterable[str]) -> Pretraining:
    """Return the recipe that a command line names: data, TOML files in order, then key=value."""
    where, tree = assembled(data, recipe, assignments, "Name a corpus, for example: pretune pretrain corpus.txt objective=causal")
    return Pretraining.from_settings(where, base=tree)


_UNUSED = ("patience", "label_smoothing", "class_weights", "pooling", "decimal")
"""Settings that only fine-tuning reads."""


def built(cls: type[Pretraining], tree: dict[str, Any]) -> Pretraining:
    """Return the settings that a tree of tables holds.

    Raises:
        SettingError: an unknown key or name, a bad value, or a setting that nothing would read under the others.
    """
    if isinstance(tree.get("schedule"), dict) and "name" not in tree["schedule"]:  # part of the default one
        tree = tree | {"schedule": config.to_tree(_SCHEDULE) | tree["schedule"]}
    recipe = config.build(cls, tree)
    out = unread_steps(recipe.optim or Optim(), recipe.schedule) | dict.fromkeys(_UNUSED, NotUsed("pretraining: it is for fine-tuning"))
    if recipe.gain.then is None:
        out |= dict.fromkeys((f.name for f in fields(GainSettings)), NotUsed("pretraining without then=", "name the labelled data: then=…"))
    if recipe.extend:
        out["backbone"] = NotUsed("extend=…, which continues with a run's own network")
    refuse(given(recipe), out)
    if recipe.schedule.name == "plateau":
        raise SettingError(
            "schedule=plateau needs a split that selects, which pretraining does not have. Choose schedule=wsd or schedule=cosine."
        )
    return recipe
