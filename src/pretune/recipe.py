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
from pretune.sources.table import Columns
from pretune.sources.target_type import TargetType
from pretune.strategies import Strategy
from pretune.tasks import Task
from pretune.training.optim import Optim
from pretune.training.schedule import Schedule
from pretune.types import NotUsed

MOST_THREADS = 1024
"""More would not start, or take all memory."""


Pooling = Literal["mean", "mean_std", "first", "last", "max", "layers", "last4_mean_std", "layers_mean_std"]
"""From a map (H, W) or a sequence to one vector; `models.pooling` computes them."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What the model is shown; auto is what its weights were trained with."""

    image_size: Annotated[int | None, Within(8, 4096)] = None
    """Images: side of the square input in pixels."""
    fit: Literal["crop", "squash", "pad"] | None = None
    """Images: how an image becomes a square. crop cuts off the ends, squash changes the aspect ratio, pad adds borders of the mean
    colour."""
    seconds: Annotated[float | None, Within(0.02, 3600)] = None
    """Audio: length of the input window; auto covers 95 of 100 training clips completely, up to 10 s."""
    max_tokens: Annotated[int | None, Within(4)] = None
    """Text: maximum number of tokens; longer texts are truncated."""
    pooling: Pooling | None = None
    """Pooling of the feature map or token sequence into one vector; std is the standard deviation, layers concatenates all layers,
    last4 the last four. auto: for a linear probe, the pooling with the lowest cross-validated loss."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """How long and how fast."""

    time: Annotated[float | None, Duration()] = None
    """Time limit for the whole command, for example 10m; training is scheduled to fit."""
    epochs: Annotated[int | None, Within(1)] = None
    """Passes over the training split; auto is the strategy's default."""
    batch_size: Annotated[int | None, Within(1)] = None
    """Global batch size (summed over all processes)."""
    micro_batch: Annotated[int | None, Within(1)] = None
    """Examples computed at once by a process; gradients are accumulated over a batch. auto is the whole batch, or what needs less memory
    and no more time."""
    lr: Annotated[float | None, Within(0, above=True)] = None
    """Peak learning rate; auto is the strategy's default."""
    weight_decay: Annotated[float | None, Within(0)] = None
    """Decoupled weight decay of weight matrices; auto is the strategy's default."""
    clip: Annotated[float | None, Within(0, above=True)] = 1.0
    """Maximum gradient norm; none disables clipping."""
    ema: Annotated[float | None, Within(0, 1)] = None
    """Decay of an exponential moving average of the weights, for example 0.999; the averaged weights are saved."""
    patience: Annotated[int | None, Within(1)] = None
    """Early stopping: epochs without improvement before training stops and the best weights are restored; a fraction of train is set
    aside to select on."""
    label_smoothing: Annotated[float, Within(0, 0.9)] = 0.0
    """Fraction of each target that is spread over all classes."""
    class_weights: bool = False
    """Weight classes by 1 / frequency in the loss; use for imbalanced classes."""
    precision: Literal["float32", "bfloat16"] | None = None
    """Precision of the forward pass; auto times both where the processor has bfloat16, and reports its choice."""
    seed: Annotated[int, Within(0)] = 0
    """Random seed of splits, order, augmentation and initial weights."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Output location and resource limits."""

    out: Path | None = None
    """Run folder; auto is runs/DATA-STRATEGY-NUMBER."""
    resume: bool = False
    """Resume the most recent unfinished run with exactly these settings (or the one in `out`)."""
    keep: Annotated[int, Within(1)] = 2
    """Number of checkpoints kept while training."""
    cache: Path | None = None
    """Folder of decoded data and features; auto is $PRETUNE_CACHE or ~/.cache/pretune."""
    cache_size: Annotated[int | None, Bytes()] = None
    """Maximum size of that folder; auto is half of the free space on its disk."""
    threads: Annotated[int | None, Within(1, MOST_THREADS)] = None
    """CPU threads for computing and decoding together; auto is OMP_NUM_THREADS where it is set, else all cores this process may use."""
    trust: tuple[str, ...] = ()
    """Your own Python modules that a run given as run:PATH may import to build its network; only in the command, never in a TOML file."""


@dataclass(frozen=True, kw_only=True)
class Splits:
    """How data without splits are split."""

    val: Annotated[float, Within(0, 0.9, above=True)] = 0.2
    """Fraction of the examples that is held out as `val`, where the data have no splits."""
    min_examples: Annotated[int, Within(1, 1_000_000)] = 2
    """Classes with fewer usable examples are dropped; 1 keeps classes that cannot be evaluated."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that makes a run, resolved or auto (None)."""

    verb: ClassVar[str] = "finetune"

    data: str
    """A folder, or a manifest (CSV, JSONL, Parquet)."""
    backbone: str | None = None
    """SOURCE:NAME, for example torchvision:resnet50; auto is the best installed package."""
    strategy: Annotated[Strategy | None, Member("strategies")] = None
    """How the pretrained network is used; auto is what the task suggests (mostly linear_probe), or scratch without pretrained weights."""
    task: Annotated[Task | None, Member("tasks")] = None
    """What is predicted; auto infers it from the targets."""
    head: Annotated[Head | None, Member("heads")] = None
    """What turns features into outputs; auto is the task's: linear, or convolution where speech is recognised."""
    predictor: Literal["network", "baseline"] | None = None
    """What the run predicts with; auto is the network, or the classical baseline where cross-validation or a selecting split favours it."""
    augment: Literal["none", "light", "medium", "strong"] | None = None
    """Augmentation preset; auto is the strategy's default."""
    augmentations: tuple[Annotated[Augmentation, Member("augmentations")], ...] = ()
    """List of augmentations instead of a preset, for example flip,rotation."""
    views: Annotated[int, Within(1, 64)] = 1
    """Augmented views of each example whose features are cached."""
    optim: Optim | None = None
    """Optimizer; auto is adamw, or what the task suggests (muon for translation)."""
    schedule: Schedule = field(default_factory=Schedule)
    """Learning-rate schedule."""
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
        return built(cls, tree)

    @classmethod
    def from_toml(cls, path: str | Path, *assignments: str) -> Recipe:
        """Return the recipe of a TOML file, with overrides; a relative `data` is relative to the working folder."""
        tree = _from_file(Path(path), assignments)
        if "data" not in tree and not any(a.startswith("data=") for a in assignments):
            raise SettingError(f'{path}: says no data. Add a line such as: data = "photos/"')
        tree = config.override(tree, assignments)
        return cls.from_settings(tree.pop("data"), base=tree)

    @property
    def target_type(self) -> TargetType | None:
        """The type of target that the task takes; None where no task is named."""
        return None if self.task is None else self.task.target_type

    def identity(self) -> str:
        """Return a hash of everything that decides the result: what a resumed run must share."""
        return identity_of(self)


def read_recipe(data: str | None, recipe: Iterable[str], assignments: Iterable[str]) -> Recipe:
    """Return the recipe that a command line names: data, TOML files in order, then key=value."""
    where, tree = assembled(data, recipe, assignments, "Name a folder or a manifest, for example: pretune finetune photos/")
    return Recipe.from_settings(where, base=tree)


def unread_of(recipe: Recipe, *, strategy: Strategy | None, task: Task | None) -> dict[str, NotUsed]:
    """Return what nothing reads under a schedule, an optimizer, a strategy and a task, by key; None is not known yet."""
    out = unread_steps(recipe.optim or Optim(), recipe.schedule)
    if task is not None:
        out |= dict.fromkeys(task.unread, NotUsed(f"task={registry.name_of(task)}", "choose another task"))
    if strategy is not None:
        out |= strategies.unread(strategy)
        if not strategy.trains and recipe.augment == "none":
            out.pop("augment")
        if not strategy.trains and (task is None or task.tunes):
            out.pop("patience")  # what it sets aside chooses thresholds
    return out


def built(cls: type[Recipe], tree: dict[str, Any]) -> Recipe:
    """Return the settings that a tree of tables holds.

    Raises:
        SettingError: an unknown key or name, a bad value, or a setting that nothing would read under the others.
    """
    recipe = config.build(cls, tree)
    if recipe.augment is not None and recipe.augmentations:
        raise SettingError("augment names a preset and augmentations lists single ones; give one of the two.")
    unread.refuse(unread.given(recipe), unread_of(recipe, strategy=recipe.strategy, task=recipe.task))
    _refuse_idle_plateau(recipe)
    return recipe


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
