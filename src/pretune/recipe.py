"""Recipe: the root dataclass; every setting of a run has one key here, in TOML, CLI and Python alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pretune import config, registry, strategies, unread
from pretune.augmentations import Augmentation
from pretune.backbones import modules_in, modules_of
from pretune.config import Bytes, Duration, Flat, Member, Within
from pretune.errors import SettingError
from pretune.models.heads import Head
from pretune.models.heads.linear import Linear
from pretune.sources.table import Columns
from pretune.strategies import Strategy
from pretune.tasks import ChoosesThresholds, Task
from pretune.training.optim import Optim
from pretune.training.schedule import Schedule
from pretune.types import NotUsed

MOST_THREADS = 1024
"""More would not start, or take all memory."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What the model is shown; auto is what its weights were trained with."""

    image_size: Annotated[int | None, Within(8, 4096)] = None
    """Images: side of the square the model sees, in pixels."""
    fit: Literal["crop", "squash", "pad"] | None = None
    """Images: how an image becomes a square. crop cuts the ends off, squash scales both sides, pad fills up with the mean colour."""
    seconds: Annotated[float | None, Within(0.02, 3600)] = None
    """Sounds: length of the window the model hears; auto holds 95 of 100 training clips whole, at most 10 s."""
    max_tokens: Annotated[int | None, Within(4)] = None
    """Texts: tokens a text is cut to."""
    pooling: Literal["mean", "mean_std", "first", "last", "max", "layers"] | None = None
    """How a map or sequence becomes one vector; layers takes the means of all layers side by side."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """How long and how fast."""

    time: Annotated[float | None, Duration()] = None
    """Bound of the whole verb, e.g. 10m; training is planned to end inside it."""
    epochs: Annotated[int | None, Within(1)] = None
    """Passes over the training part; auto is the strategy's suggestion."""
    batch_size: Annotated[int | None, Within(1)] = None
    """Items a step, over all ranks."""
    micro_batch: Annotated[int | None, Within(1)] = None
    """Items computed at once on a rank; a step's gradients are accumulated. auto is all, or what takes less memory and no more time."""
    lr: Annotated[float | None, Within(0, above=True)] = None
    """Peak learning rate; auto is the strategy's suggestion."""
    weight_decay: Annotated[float | None, Within(0)] = None
    """Decoupled weight decay of matrices; auto is the strategy's suggestion."""
    clip: Annotated[float | None, Within(0, above=True)] = 1.0
    """Largest norm of the gradient; none switches clipping off."""
    ema: Annotated[float | None, Within(0, 1)] = None
    """Decay of a moving average of the weights, e.g. 0.999; the average is what is kept."""
    patience: Annotated[int | None, Within(1)] = None
    """Stop after so many epochs without improvement and restore the best; sets aside a part of train to select on."""
    label_smoothing: Annotated[float, Within(0, 0.9)] = 0.0
    """Share of the target spread over all classes."""
    class_weights: bool = False
    """Weight classes by 1 / frequency in the loss: the one switch for imbalance."""
    precision: Literal["float32", "bfloat16"] | None = None
    """Number format of the forward pass; auto times both and says which."""
    seed: Annotated[int, Within(0)] = 0
    """Seed of splits, order, augmentation and initial weights."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where results go and what the machine may be asked."""

    out: Path | None = None
    """Run folder; auto is runs/DATA-STRATEGY-NUMBER."""
    resume: bool = False
    """Go on with the newest unfinished run of this very recipe (or with the one in `out`)."""
    keep: Annotated[int, Within(1)] = 2
    """Checkpoints kept while training."""
    cache: Path | None = None
    """Folder of decoded data and features; auto is $PRETUNE_CACHE or ~/.cache/pretune."""
    cache_size: Annotated[int | None, Bytes()] = None
    """How large that folder may grow; auto is half of what is free on its disk."""
    threads: Annotated[int | None, Within(1, MOST_THREADS)] = None
    """CPU threads for computing and decoding together; auto is OMP_NUM_THREADS where it is set, else all this process may use."""
    trust: tuple[str, ...] = ()
    """Modules of your own that a run given as run:PATH may import to build its network; given in the command, never in a TOML file."""


@dataclass(frozen=True, kw_only=True)
class Splits:
    """How data without parts are split."""

    val: Annotated[float, Within(0, 0.9, above=True)] = 0.2
    """Share of the items held out as `val`, where the data name no parts."""
    min_examples: Annotated[int, Within(1, 1_000_000)] = 2
    """Classes with fewer usable examples are not used; 1 keeps those that cannot be scored."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that makes a run, resolved or auto (None)."""

    verb: ClassVar[str] = "finetune"

    data: str
    """A folder or a manifest."""
    backbone: str | None = None
    """'source:name', e.g. torchvision:resnet50; auto is the best installed package."""
    strategy: Annotated[Strategy | None, Member("strategies")] = None
    """direct, linear_probe, partial, full, lora or scratch; auto is linear_probe (scratch for a scratch backbone)."""
    task: Annotated[Task | None, Member("tasks")] = None
    """classification, multilabel or regression; auto is inferred from the targets."""
    head: Annotated[Head, Member("heads")] = field(default_factory=Linear)
    """linear or mlp."""
    predictor: Literal["network", "baseline"] | None = None
    """What the run predicts with; auto is the network, or the classical baseline where cross-validation or a selecting split favours it."""
    augment: Literal["none", "light", "medium", "strong"] | None = None
    """Augmentation preset; auto is the strategy's suggestion."""
    augmentations: tuple[Annotated[Augmentation, Member("augmentations")], ...] = ()
    """Augmentation parts instead of a preset, e.g. flip,rotation."""
    views: Annotated[int, Within(1, 64)] = 1
    """Augmented views cached per item where features are cached."""
    optim: Optim = field(default_factory=Optim)
    """Optimizer."""
    schedule: Schedule = field(default_factory=Schedule)
    """Course of the learning rate."""
    inputs: Annotated[Inputs, Flat()] = field(default_factory=Inputs)
    columns: Annotated[Columns, Flat()] = field(default_factory=Columns)
    splits: Annotated[Splits, Flat()] = field(default_factory=Splits)
    training: Annotated[Training, Flat()] = field(default_factory=Training)
    place: Annotated[Place, Flat()] = field(default_factory=Place)

    @classmethod
    def from_settings(cls, data: str, *assignments: str, base: dict[str, Any] | None = None, **values: Any) -> Recipe:
        """Return a recipe from `key=value` strings and keyword settings, over the tables of `base`.

        Raises:
            SettingError: an unknown key or name (nearest first) or a bad value.
        """
        tree = config.override(base or {}, assignments)
        tree |= {"data": str(data), **values}
        recipe = config.build(cls, tree)
        if recipe.augment is not None and recipe.augmentations:
            raise SettingError("augment names a preset and augmentations names parts; give one of the two.")
        unread.refuse(unread.given(recipe), unread_of(recipe, strategy=recipe.strategy, task=recipe.task))
        _refuse_idle_plateau(recipe)
        return recipe

    @classmethod
    def from_toml(cls, path: str | Path, *assignments: str) -> Recipe:
        """Return the recipe of a TOML file, with overrides; a relative `data` is relative to the working folder."""
        tree = _from_file(Path(path), assignments)
        if "data" not in tree and not any(a.startswith("data=") for a in assignments):
            raise SettingError(f'{path}: says no data. Add a line such as: data = "photos/"')
        tree = config.override(tree, assignments)
        return cls.from_settings(tree.pop("data"), base=tree)

    def identity(self) -> str:
        """Return a hash of everything that decides the result: what a resumed run must share."""
        return identity_of(self)


def read(data: str | None, recipe: Iterable[str], assignments: Iterable[str]) -> Recipe:
    """Return the recipe that a command line names: data, TOML files in order, then key=value."""
    where, tree = assembled(data, recipe, assignments, "Name a folder or a manifest, for example: pretune finetune photos/")
    return Recipe.from_settings(where, base=tree)


def unread_of(recipe: Recipe, *, strategy: Strategy | None, task: Task | None) -> dict[str, NotUsed]:
    """Return what nothing reads under a schedule, an optimizer, a strategy and a task, by key; None is not known yet."""
    out = unread_steps(recipe.optim, recipe.schedule)
    if task is not None:
        out |= dict.fromkeys(getattr(task, "unread", ()), NotUsed(f"task={registry.name_of(task)}", "choose another task"))
    if strategy is not None:
        out |= strategies.unread(strategy)
        if not strategy.trains and recipe.augment == "none":
            out.pop("augment")
        if not strategy.trains and (task is None or isinstance(task, ChoosesThresholds)):
            out.pop("patience")  # what it sets aside chooses thresholds
    return out


def _refuse_idle_plateau(recipe: Recipe) -> None:
    """Refuse a schedule that waits for what never comes."""
    schedule, patience = recipe.schedule, recipe.training.patience
    if schedule.name != "plateau":
        return
    if patience is None:
        raise SettingError(
            "schedule=plateau drops the rate where a split that selects stops improving, and no split selects here: set patience=… "
            f"(above schedule.patience={schedule.patience}), or choose schedule=step or schedule=cosine."
        )
    if patience <= schedule.patience:
        raise SettingError(
            f"schedule=plateau would never drop the rate: patience={patience} stops training no later than schedule.patience="
            f"{schedule.patience} drops it. Raise patience or lower schedule.patience."
        )


# --- what recipes of all verbs share -------------------------------------------------------------


def unread_steps(optim: Optim, schedule: Schedule) -> dict[str, NotUsed]:
    """Return what an optimizer and a schedule do not read, by key."""
    out = unread.prefixed("optim", optim.unread()) | unread.prefixed("schedule", schedule.unread())
    return out if optim.decays else out | {"weight_decay": NotUsed(f"optim={optim.name}", "choose another optimizer")}


def identity_of(recipe: Any) -> str:
    """Return a hash of a recipe's settings but for where results go; `data` is the folder itself, however it was written."""
    tree = config.to_tree(recipe)
    for key in ("out", "resume", "keep", "cache", "cache_size", "trust"):
        tree["place"].pop(key)
    tree["data"] = str(Path(recipe.data).resolve())
    return config.digest(tree)


def trusted(recipe: Any) -> set[str]:
    """Return the modules of the person's own that a recipe names: those it trusts, and those that its networks are built by."""
    return {*modules_of(recipe.place.trust), *modules_in(config.to_tree(recipe))}


def assembled(data: str | None, recipe: Iterable[str], assignments: Iterable[str], example: str) -> tuple[str, dict[str, Any]]:
    """Return the data and the other settings that a command line names: data, TOML files in order, then key=value.

    Raises:
        SettingError: no data are named; `example` says how.
    """
    tree: dict[str, Any] = {}
    for path in recipe:
        tree |= _from_file(Path(path), assignments)
    tree = config.override(tree, assignments)
    where = data if data is not None else tree.pop("data", None)
    tree.pop("data", None)
    if where is None:
        raise SettingError(f"no data given. {example}")
    return str(where), tree


def _from_file(path: Path, assignments: Iterable[str]) -> dict[str, Any]:
    """Return the tables of a recipe file, which may come from anybody: it chooses settings, but no code.

    Raises:
        SettingError: the file is no recipe, or it names a module that the command itself does not.
    """
    tree, words = config.read_toml(path), list(assignments)
    place = tree.get("place")
    if "trust" in tree or (isinstance(place, dict) and "trust" in place):
        raise SettingError(f"{path} says trust=…, which a file cannot: write it in the command, where you know the module.")
    given = config.override({}, words)
    named = {*modules_in(given), *modules_of(given.get("trust", ()))}
    for module in sorted(modules_in(config.override(tree, words)) - named):
        raise SettingError(
            f"{path} names {module}, Python code outside of pretune. A recipe file does not decide which code runs: "
            f"where you know {module} and trust it, add trust={module} to this command."
        )
    return tree
