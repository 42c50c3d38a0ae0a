"""No setting is accepted and read by nothing: each is read by a run of these choices, or refused by its name."""

from __future__ import annotations

import csv
import dataclasses
import inspect
import re
import sys
import typing
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image

from pretune import config, registry, strategies
from pretune.augmentations import ViewAugmentation
from pretune.backbones import Backbone
from pretune.described import settings
from pretune.errors import SettingError
from pretune.labels import Labels
from pretune.pretraining import Pretraining
from pretune.recipe import Recipe, unread_of
from pretune.runner import Runner
from pretune.runner.finetune import FineTuned, FineTuning
from pretune.runner.pretrain import PretrainingJob
from pretune.sources.targets import classes_of
from pretune.tasks._base import LossSettings
from pretune.tasks._either_network import EitherNetwork
from pretune.training.optim import Name, Optim
from pretune.training.schedule import Schedule, Shape
from pretune.types import NotUsed
from pretune.unread import given, refuse
from tests.conftest import tiny_backbone
from tests.test_tasks import examples, learned, network_outputs

TEXTS = "scratch:textcnn,embedding=8,filters=8"
STRATEGIES = registry.names("strategies")
SHAPES: tuple[Shape, ...] = get_args(Shape)
OPTIMIZERS: tuple[Name, ...] = get_args(Name)

OTHERWISE: dict[str, Any] = {
    "backbone": TEXTS,
    "strategy": "lora",
    "task": "regression",
    "head": "mlp",
    "augment": "light",
    "augmentations": "noise",
    "views": 2,
    "optim": "sgd",
    "schedule": "cosine",
    "image_size": 32,
    "seconds": 1.0,
    "max_tokens": 9,
    "pooling": "max",
    "label": "label",
    "text": "text",
    "path": "path",
    "group": "person",
    "split": "part",
    "val": 0.3,
    "time": "1h",
    "epochs": 3,
    "batch_size": 7,
    "micro_batch": 3,
    "lr": 0.5,
    "weight_decay": 0.5,
    "clip": 0.5,
    "ema": 0.5,
    "patience": 2,
    "label_smoothing": 0.5,
    "class_weights": True,
    "precision": "bfloat16",
    "seed": 5,
    "out": "elsewhere",
    "resume": True,
    "keep": 3,
    "cache": "there",
    "cache_size": "1G",
    "threads": 1,
    "trust": "mine",
    # of optimizers and schedules
    "momentum": 0.5,
    "nesterov": True,
    "beta1": 0.5,
    "beta2": 0.5,
    "warmup": 0.3,
    "floor": 0.3,
    "milestones": 5,
    "gamma": 0.3,
    "decay": 0.7,
    # of pretraining
    "objective": "masked",
    "extend": "runs/before",
    "also": "more",
    "units": "character",
    "vocabulary": 50,
    "held": 0.3,
    "then": "labelled",
    "seeds": 2,
    "labels": "50",
    "then_strategy": "lora",
    "then_epochs": 2,
    "then_label": "label",
    "then_group": "person",
}
"""Values that are not the default; those of other keys are guessed."""


def keys_of(cls: type) -> dict[str, str]:
    """Return the keys of a root by the class that holds each: those of flat sections, of the optimizer and of the schedule."""
    out = {}
    hints = typing.get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        inner = next(kind for kind in (hints[field.name], *get_args(hints[field.name])) if kind is not None)
        inner = get_args(inner)[0] if get_args(inner) and dataclasses.is_dataclass(get_args(inner)[0]) else inner
        if any(isinstance(note, config.Flat) for note in getattr(hints[field.name], "__metadata__", ())):
            out |= keys_of(typing.cast("type", inner))
        else:
            out[field.name] = cls.__name__
    return out


ALL = {**keys_of(Recipe), **{f"optim.{f.name}": "Optim" for f in dataclasses.fields(Optim)}}
ALL |= {f"schedule.{f.name}": "Schedule" for f in dataclasses.fields(Schedule)}
del ALL["data"]


def value_of(key: str) -> Any:
    section, _, name = key.rpartition(".")
    if section and name == "name":
        return {"optim": "sgd", "schedule": "cosine"}[section]
    return OTHERWISE[name] if name in OTHERWISE else guessed(key)


def guessed(key: str) -> Any:
    """Return a value of a key that this table does not know yet, which is not its default."""
    root = Recipe if key in ALL else Pretraining
    shown = next(setting.type for setting in settings(root) if setting.key == key)
    choices = shown.split(" | ")
    for value in (*choices, "true", "3", "0.5", "x"):
        try:
            if key in given(root.from_settings("data", f"{key}={value}")):
                return value
        except SettingError:
            continue
    raise AssertionError(f"give {key} a value in OTHERWISE")


# --- what is refused is what is declared -------------------------------------------------------------


@pytest.mark.parametrize("key", sorted(set(ALL) - {"strategy", "augmentations", "patience"}))  # patience chooses thresholds too: see below
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_key_is_refused_by_name_exactly_where_its_owners_do_not_read_it(key: str, strategy: str) -> None:
    settings = {"strategy": strategy, key: value_of(key)}
    if key == "schedule.patience":
        settings |= {"schedule.name": "plateau", "patience": 9} if strategy != "direct" else {}
    section = key.partition(".")[0]
    unread = strategies.unread(registry.load("strategies", strategy)())
    own = {f"optim.{k}" for k in Optim().unread()} | {f"schedule.{k}" for k in Schedule().unread()} - {"schedule.patience"}
    refused = key in unread or section in unread or key in own
    words = [f"{name}={value}" for name, value in settings.items()]
    if refused:
        with pytest.raises(SettingError, match=rf"{re.escape(section)}.* (is|are) not used by "):
            Recipe.from_settings("data", *words)
    else:
        assert key in given(Recipe.from_settings("data", *words)) or key.endswith(".name")


@pytest.mark.parametrize("name", SHAPES)
def test_a_schedule_reads_what_it_does_not_refuse(name: Shape) -> None:
    """Each of its settings changes the course, or is refused; `patience` is the loop's."""
    plain = Schedule(name=name)
    for key in ("warmup", "floor", "milestones", "gamma", "decay"):
        other = Schedule(name=name, **{key: OTHERWISE[key]})
        changed = [other.factor(p / 50, p // 25) != plain.factor(p / 50, p // 25) for p in range(51)]
        assert any(changed) == (key not in plain.unread()), key
    assert ("patience" in plain.unread()) == (name != "plateau")
    assert "gamma" in Schedule(name="step", milestones=1).unread()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_has_what_it_does_not_refuse(name: Name) -> None:
    if name == "muon":
        assert set(Optim(name=name).unread()) == {"nesterov"}
        assert Optim(name=name).decays
        return
    cls: Any = next(c for n, c in vars(torch.optim).items() if n.lower() == name and isinstance(c, type))
    takes = inspect.signature(cls).parameters
    there = {"momentum": "momentum" in takes, "nesterov": "nesterov" in takes, "beta1": "betas" in takes, "beta2": "betas" in takes}
    assert {key: key not in Optim(name=name).unread() for key in there} == there
    assert Optim(name=name).decays == ("weight_decay" in takes)


@pytest.mark.parametrize("task", registry.names("tasks"))
def test_a_loss_reads_what_its_task_does_not_refuse(task: str) -> None:
    component, more = registry.load("tasks", task)(), ()
    if isinstance(component, EitherNetwork):  # what is not used depends on the network
        component, more = dataclasses.replace(component, network="language_model"), ("task.network=language_model",)
    encoded = {"classification": torch.tensor([0, 0, 0, 1]), "multilabel": torch.tensor([[1.0, 0], [1, 0], [1, 0], [0, 1]])}
    if component.reads.form == "own":
        rows, modality = examples(component)
        space = component.fit(rows, classes_of([row.target for row in rows]))
        labels = component.encode(rows, space, modality)
        _, outputs, _ = network_outputs(component, labels, space)
    else:
        labels = Labels.of(encoded.get(task, torch.tensor([0.1, 0.2, 0.3, 0.4])))
        space = component.space(classes=("a", "b")) if task in encoded else component.space()
        outputs = torch.tensor([[0.5, -0.5]] * 4) if task in encoded else torch.tensor([[0.5]] * 4)
    plain = component.loss(space, labels, LossSettings())(outputs, learned(labels))
    for field in dataclasses.fields(LossSettings):
        other = component.loss(space, labels, LossSettings(**{field.name: OTHERWISE[field.name]}))(outputs, learned(labels))
        assert bool(other != plain) == (field.name not in component.unread), field.name
    for key in component.unread:
        with pytest.raises(SettingError, match=f"{key} is not used by task={task}"):
            Recipe.from_settings("data", f"task={task}", *more, f"{key}={OTHERWISE[key]}")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["schedule=plateau"], "set patience="),
        (["schedule=plateau", "patience=3"], "Raise patience"),
        (["optim=muon", "optim.nesterov=true"], "optim.nesterov is not used by optim=muon; remove it, or choose optim=sgd"),
        (["optim=rprop", "weight_decay=0.1"], "weight_decay is not used by optim=rprop"),
        (["optim=sgd", "optim.momentum=0", "optim.nesterov=true"], "needs optim.momentum above 0"),
        (["strategy=direct", "epochs=3", "lr=0.1"], "epochs, lr are not used by strategy=direct, which trains nothing; remove them"),
        (["strategy=direct", "task=classification", "patience=3"], "patience is not used by strategy=direct"),
        (["strategy=partial", "strategy.last=1", "strategy.gradual=true"], "strategy.gradual is not used by strategy.last=1"),
        (["schedule=cosine", "schedule.gamma=0.5"], "schedule.gamma is not used by schedule=cosine; remove it, or choose schedule=step"),
    ],
)
def test_what_is_refused_is_named_with_a_cure(words: list[str], told: str) -> None:
    with pytest.raises(SettingError, match=re.escape(told)):
        Recipe.from_settings("data", *words)


def test_what_direct_reads_is_accepted() -> None:
    assert Recipe.from_settings("data", "strategy=direct", "augment=none", "seed=3", "precision=float32").augment == "none"
    assert Recipe.from_settings("data", "strategy=direct", "task=multilabel", "patience=3").training.patience == 3
    assert Recipe.from_settings("data", "schedule=plateau", "patience=4").schedule.name == "plateau"


@pytest.mark.parametrize("key", sorted(set(keys_of(Pretraining)) - {"data", "extend", "objective", "then"}))
def test_every_key_of_pretraining_is_read_or_refused_by_name(key: str) -> None:
    gain = key in ("seeds", "labels") or key.startswith("then_")
    finetuning = ("patience", "label_smoothing", "class_weights", "pooling", "decimal")
    if gain or key in finetuning:
        with pytest.raises(SettingError, match=f"{key} is not used by pretraining"):
            Pretraining.from_settings("data", f"{key}={value_of(key)}")
    if key not in finetuning:
        recipe = Pretraining.from_settings("data", f"{key}={value_of(key)}", *(["then=labelled"] if gain else []))
        assert key in given(recipe)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["schedule=plateau"], "pretraining does not have"),
        (["schedule.gamma=0.5"], "schedule.gamma is not used by schedule=wsd"),
        (["optim=muon", "optim.nesterov=true"], "optim.nesterov is not used by optim=muon"),
        (["extend=runs/a", "backbone=scratch:gpt"], "backbone is not used by extend="),
    ],
)
def test_what_pretraining_refuses_is_named(words: list[str], told: str) -> None:
    with pytest.raises(SettingError, match=re.escape(told)):
        Pretraining.from_settings("data", *words)


def test_a_part_of_the_schedule_of_pretraining_leaves_the_rest_as_it_was() -> None:
    assert Pretraining.from_settings("data", "schedule.warmup=0.2").schedule == Schedule(name="wsd", warmup=0.2, decay=0.5)
    assert Pretraining.from_settings("data", "schedule=cosine").schedule == Schedule(name="cosine")


def test_keys_are_given_as_they_are_written() -> None:
    recipe = Recipe.from_settings("data", "strategy=lora", "strategy.rank=4", "epochs=3", "optim=sgd", "head=mlp", "head.hidden=7")
    assert given(recipe) == ["data", "strategy", "strategy.rank", "head", "head.hidden", "optim", "optim.name", "epochs"]
    refuse(["epochs"], {})
    with pytest.raises(SettingError, match="a, b are not used by x; remove them, or y"):
        refuse(["a", "c", "b"], {"a": NotUsed("x", "y"), "b": NotUsed("x", "y")})


# --- what is not refused is read by a run ------------------------------------------------------------


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("unread") / "texts.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label", "value", "tags"])
        for i in range(60):
            label = "rare" if i % 3 == 0 else "common"
            writer.writerow([f"{label} words number {i} of {'abcdefgh'[i % 8]}", label, i * 1.5 + 0.25, "a|b" if i % 2 else "b"])
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    for i in range(16):
        (root / "ab"[i % 2]).mkdir(exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 255, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "ab"[i % 2] / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


IGNORED = (
    "pretune.config",
    "pretune.unread",
    "pretune.recipe",
    "pretune.pretraining",
    "pretune.runner.refusals",
    "pretune.commands",
    "dataclasses",
    __name__,
)
"""Modules that look at settings without using them."""
LOOKING = ("unread", "__post_init__", "__eq__", "__repr__", "__hash__", "decays")


def watched(monkeypatch: pytest.MonkeyPatch, *classes: type) -> set[str]:
    """Return the set in which every field that any other code reads is noted from now on, as `Class.field`."""
    read: set[str] = set()
    for cls in classes:
        names = {field.name for field in dataclasses.fields(cls)}

        def noted(self: Any, name: str, names: set[str] = names) -> Any:
            frame = sys._getframe(1)
            here = frame.f_globals.get("__name__", "")
            if name in names and here not in IGNORED and frame.f_code.co_name not in LOOKING:
                read.add(f"{type(self).__name__}.{name}")
            return object.__getattribute__(self, name)

        monkeypatch.setattr(cls, "__getattribute__", noted, raising=False)
    return read


def sections(cls: type) -> list[type]:
    """Return the classes that hold a root's keys."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return [cls, *(get_args(h)[0] for h in hints.values() if any(isinstance(n, config.Flat) for n in getattr(h, "__metadata__", ())))]


def run(recipe: Recipe, monkeypatch: pytest.MonkeyPatch, loss: Any = None) -> Any:
    monkeypatch.setattr(FineTuning, "record", lambda job, state: FineTuned(folder=state.run.folder, metrics={}, state=state))
    return Runner(FineTuning(recipe=recipe, loss=loss)).run_job().state


def pretrain(recipe: Pretraining) -> None:
    Runner(PretrainingJob(recipe=recipe)).run_job()


def recipe_of(data: Path, folder: Path, cache: Path, *words: str, **settings: Any) -> Recipe:
    backbone = {"backbone": TEXTS} if data.suffix else {"backbone": "scratch:cnn", "image_size": 16}
    base = {**backbone, "threads": 1, "precision": "float32", "out": str(folder), "cache": str(cache), "epochs": 2, **settings}
    return Recipe.from_settings(str(data), *words, base=base)


COMBINED = [("linear_probe", "regression"), ("scratch", "multilabel"), ("direct", "multilabel")]


@pytest.mark.parametrize(("strategy", "task"), [*((name, "classification") for name in STRATEGIES), *COMBINED])
def test_every_key_that_is_not_refused_is_read_by_a_run(
    texts: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str, task: str
) -> None:
    """A new key that nothing reads fails here, whatever it is called."""
    component = registry.load("strategies", strategy)
    owners = [*sections(Recipe), component, Schedule, Optim]
    label = {"classification": "label", "regression": "value", "multilabel": "tags"}[task]
    words = [f"strategy={strategy}", f"task={task}", f"label={label}"]
    words += {"partial": ["strategy.last=1"], "lora": ["strategy.last=2"]}.get(strategy, [])
    epochs: dict[str, Any] = {"epochs": None} if strategy == "direct" else {}
    backbone = {"backbone": "scratch:transformer,width=16,layers=2,heads=2"} if strategy == "lora" else {}
    recipe = recipe_of(texts, tmp_path / "run", cache, *words, **epochs, **backbone)
    read = watched(monkeypatch, *owners)
    run(recipe, monkeypatch)
    unread = unread_of(recipe, strategy=recipe.strategy, task=recipe.task)
    everything = {f"{cls}.{key}": key for key, cls in keys_of(Recipe).items()}
    for cls in (Schedule, Optim):
        everything |= {f"{cls.__name__}.{f.name}": f"{cls.__name__.lower()}.{f.name}" for f in dataclasses.fields(cls)}
    everything |= {f"{component.__name__}.{f.name}": f"strategy.{f.name}" for f in dataclasses.fields(component)}
    skipped = {key for key in everything.values() if key in unread or key.partition(".")[0] in unread}
    elsewhere = {"trust"}  # read by the verb, around the run
    assert read & everything.keys(), "keys are watched"
    for key in {key for name, key in everything.items() if name not in read} - skipped - elsewhere:
        with pytest.raises(SettingError, match=f"{key} .*not used by"):
            run(recipe_of(texts, tmp_path / "other", cache, *words, f"{key}={OTHERWISE[key]}", **epochs, **backbone), monkeypatch)


def run_pretraining(data: str, words: list[str]) -> None:
    pretrain(Pretraining.from_settings(data, *words))


@pytest.mark.parametrize("objective", ["causal", "contrastive", "supervised"])
def test_every_key_that_pretraining_does_not_refuse_is_read(
    photos: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objective: str
) -> None:
    """A key that no code reads has to be refused with this objective."""
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n\n".join(f"the cat of number {i} sat on {i * 7 % 13} mats" for i in range(200)))
    tiny = ["epochs=1", "batch_size=4", "threads=1", "precision=float32", f"cache={cache}"]
    tiny += ["backbone=scratch:gpt,width=16,layers=1,heads=2", "max_tokens=16"] if objective == "causal" else ["image_size=16"]
    data = str(corpus if objective == "causal" else photos)
    recipe = Pretraining.from_settings(data, f"objective={objective}", *tiny, f"out={tmp_path / 'run'}")
    component = registry.load("objectives", objective)
    with monkeypatch.context() as patch:
        read = watched(patch, *sections(Pretraining), component)
        pretrain(recipe)
    everything = {f"{cls}.{key}": key for key, cls in keys_of(Pretraining).items()}
    everything |= {f"{component.__name__}.{f.name}": f"objective.{f.name}" for f in dataclasses.fields(component)}
    elsewhere = {"trust", "then"}  # read by the verb, around the run
    assert read & everything.keys(), "keys are watched"
    for key in {key for name, key in everything.items() if name not in read} - elsewhere:
        with pytest.raises(SettingError, match=key):
            pretrain(
                Pretraining.from_settings(data, f"objective={objective}", *tiny, f"{key}={value_of(key)}", f"out={tmp_path / 'other'}")
            )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["views=8"], "views is not used by a run without an augmentation that cuts views: all of them would be equal; remove it, or add"),
        (["views=8", "augmentations=flip"], "augmentation"),
        (["views=8", "augment=light"], "views is not used by a run whose features are not cached: flip changes every batch"),
        (["views=8", "strategy=full", "augmentations=random_resized_crop"], "views is not used by strategy=full, which trains the first"),
        (["optim=muon"], "optim is not used by strategy=linear_probe, which trains no matrix between hidden layers"),
        (["label=kind"], "label=kind names a column"),
    ],
)
def test_what_only_a_plan_can_tell_is_refused_before_anything_is_decoded(
    photos: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], told: str
) -> None:
    strategy = {} if any(word.startswith("strategy=") for word in words) else {"strategy": "linear_probe"}
    decoded: list[Any] = []
    monkeypatch.setattr("pretune.runner.finetune.prepare", lambda *given: decoded.append(given))
    with pytest.raises(SettingError, match=re.escape(told)):
        run(recipe_of(photos, tmp_path / "run", cache, *words, **strategy), monkeypatch)
    assert not decoded
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["augment=light"], "augment is not used by the modality text: this preset is empty there"),
        (["pooling=max"], "pooling is not used by scratch:textcnn, whose features are pooled already"),
        (["text=text", "path=label"], "path"),
        (["task=regression", "label=value", "class_weights=true"], "class_weights is not used by task=regression"),
        (["label=value", "class_weights=true"], "class_weights is not used by task=regression"),
    ],
)
def test_what_texts_do_not_read_is_refused(
    texts: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], told: str
) -> None:
    label = [] if any(word.startswith("label=") for word in words) else ["label=label"]
    with pytest.raises(SettingError, match=re.escape(told)):
        run(recipe_of(texts, tmp_path / "run", cache, "strategy=linear_probe", *label, *words), monkeypatch)


def test_a_share_to_hold_out_is_refused_where_the_data_have_parts(
    texts: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parted = tmp_path / "parted.csv"
    lines = texts.read_text().splitlines()
    parted.write_text("\n".join([f"{lines[0]},split", *(f"{line},{'val' if i % 4 == 0 else 'train'}" for i, line in enumerate(lines[1:]))]))
    words = ["strategy=linear_probe", "label=label", "val=0.3"]
    with pytest.raises(
        SettingError, match="val is not used by data that name their own validation or test split; remove it, or set split=new"
    ):
        run(recipe_of(parted, tmp_path / "run", cache, *words), monkeypatch)
    assert run(recipe_of(parted, tmp_path / "run", cache, *words, "split=new"), monkeypatch) is not None


def test_what_a_caller_brings_takes_the_place_of_settings(
    texts: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["strategy=linear_probe", "label=label"]
    recipe = recipe_of(texts, tmp_path / "run", cache, *words, "label_smoothing=0.1")
    with pytest.raises(SettingError, match="label_smoothing is not used by a loss of your own"):
        run(recipe, monkeypatch, torch.nn.functional.cross_entropy)


@pytest.mark.parametrize(
    ("words", "cached"), [(["augmentations=random_resized_crop"], False), (["augmentations=random_resized_crop", "views=3"], True)]
)
def test_an_augmentation_that_cuts_views_is_used_by_a_probe(
    photos: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], cached: bool
) -> None:
    """Of one view nothing could be cached: every epoch cuts another."""
    outcome = run(
        recipe_of(photos, tmp_path / "run", cache, "strategy=linear_probe", "augmentations=random_resized_crop", *words), monkeypatch
    )
    assert (outcome.frozen is not None) == cached
    assert any("random_resized_crop changes the frozen layers' input" in note for note in outcome.run.reporter.notes) == (not cached)


def test_muon_makes_hidden_matrices_orthogonal_in_fine_tuning_and_no_others() -> None:
    from pretune.models import Model
    from pretune.models.heads.linear import Linear
    from pretune.strategies.full import Full

    model = Model(_two_layers(), Linear(), 3)
    made = Full(probe_first=False).apply(model, Full(probe_first=False).phases(3)[0])
    hidden = {name for group in made if group.hidden for name, _ in group}
    assert hidden == {"stages.stem.module.weight", "stages.last.module.weight"}


def _two_layers() -> Backbone:
    return tiny_backbone()


def test_only_one_part_cuts_views() -> None:
    """Whoever adds a second one has to say in which order they cut."""
    cutting: list[Any] = [registry.load("augmentations", name) for name in registry.names("augmentations")]
    views = [part for part in cutting if issubclass(part, ViewAugmentation)]
    modalities = [modality for part in views for modality in part.modalities]
    assert len(modalities) == len(set(modalities))
