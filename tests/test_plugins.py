"""Components of other packages: they keep their names in files and on command lines, and work from training to prediction."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

import pretune as pt
from pretune import config, registry
from pretune.commands import as_assignments, resume_line
from pretune.errors import DataError, SettingError
from pretune.pretraining import Pretraining
from pretune.recipe import Recipe
from pretune.strategies.lora import LoRA
from pretune.tasks.classification import Classification
from tests.test_docs import ROOT, blocks
from tests.test_flows import folder

PARTS = '''
from dataclasses import dataclass, replace
from typing import ClassVar

from pretune.augmentations import BatchAugmentation
from pretune.strategies.full import Full


@dataclass(frozen=True, kw_only=True)
class Cautious(Full):
    """Everything learns, slowly."""

    care: int = 2


@dataclass(frozen=True, kw_only=True)
class Negative(BatchAugmentation):
    """Half of the images as their negatives."""

    modalities: ClassVar[frozenset[str]] = frozenset({"image"})
    every: int = 2

    def apply(self, batch, generator, classes):
        x = batch.inputs.tensor.clone()
        x[:: self.every] = 255 - x[:: self.every]
        return replace(batch, inputs=batch.inputs.with_tensor(x))


class Plain:
    """No dataclass."""


@dataclass(frozen=True, kw_only=True)
class Alone:
    """Not derived from Strategy."""
'''
POINTS = """
[pretune.strategies]
careful = extras:Cautious
plain = extras:Plain
alone = extras:Alone
gone = extras.nowhere:Gone
lora = extras:Cautious
[pretune.augmentations]
negative = extras:Negative
[pretune.tasks]
ordinal = extras:Ordinal
[pretune.objectives]
rotation = extras:Rotation
[pretune.backbones]
lab = extras:Lab
"""


@pytest.fixture
def extras(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed package whose classes are defined in modules of other names than those they are published by."""
    site = home / "site"
    (site / "extras").mkdir(parents=True)
    (site / "extras" / "_parts.py").write_text(PARTS)
    names = {"task": "Ordinal", "objective": "Rotation", "backbone": "Lab"}
    for page in names:
        (site / "extras" / f"_{page}.py").write_text(
            blocks(ROOT / "docs" / "extend" / f"{page}.md")[0].replace("/srv/lab", str(home / "lab"))
        )
    imports = [f"from extras._{page} import {name}" for page, name in names.items()]
    (site / "extras" / "__init__.py").write_text("\n".join(["from extras._parts import Alone, Cautious, Negative, Plain", *imports]))
    (site / "extras-1.0.dist-info").mkdir()
    (site / "extras-1.0.dist-info" / "entry_points.txt").write_text(POINTS)
    (site / "extras-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: extras\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(site))
    registry._plugins.cache_clear()
    yield site
    for name in [name for name in sys.modules if name.partition(".")[0] == "extras"]:
        del sys.modules[name]
    registry._plugins.cache_clear()


WORDS = "strategy=careful strategy.care=3 augmentations=negative,flip augmentations.negative.every=3 task=ordinal backbone=lab:first"


def test_a_recipe_with_components_of_another_package_comes_back(extras: Path) -> None:
    made = Recipe.from_settings("photos/", *WORDS.split())
    tree = json.loads(json.dumps(config.to_tree(made)))
    assert (tree["strategy"]["name"], tree["strategy"]["care"], tree["task"]["name"]) == ("careful", 3, "ordinal")
    assert [part["name"] for part in tree["augmentations"]] == ["negative", "flip"]
    assert config.build(Recipe, tree) == made
    assert made.identity() != Recipe.from_settings("photos/", *WORDS.replace("care=3", "care=4").split()).identity()
    assert Recipe.from_settings("photos/", *shlex.split(" ".join(as_assignments(made)))) == made
    assert "strategy=careful" in resume_line(made, Path("run"))
    pretraining = Pretraining.from_settings("photos/", "objective=rotation")
    assert config.build(Pretraining, json.loads(json.dumps(config.to_tree(pretraining)))) == pretraining


def test_it_trains_predicts_and_resumes_with_them(extras: Path, home: Path) -> None:
    folder(home / "photos", 8)
    lab = registry.load("backbones", "lab")(folder=str(home / "lab"))
    (home / "lab").mkdir()
    save_file(lab.build("first").stages.state_dict(), home / "lab" / "first.safetensors")
    settings = {"epochs": 1, "precision": "float32", "threads": 1, "image_size": 16}
    run = pt.run(Recipe.from_settings("photos", *WORDS.split(), *(f"{k}={v}" for k, v in settings.items()), "out=run"))
    metrics = run.metrics
    assert (metrics["strategy"], metrics["task"], metrics["backbone"]) == ("careful", "ordinal", "lab:first")
    told = run.predict("photos")
    assert len(told) == 16
    assert {row["prediction"] for row in told} <= {"disc", "square"}
    assert run.evaluate("photos")["counts"]["used"] == 16
    registry._plugins.cache_clear()
    (extras / "extras-1.0.dist-info" / "entry_points.txt").write_text("")
    with pytest.raises(DataError, match=r"model\.json: no task is called 'ordinal'"):
        run.predict("photos")


def test_an_objective_of_another_package_pretrains_a_network_that_is_fine_tuned(extras: Path, home: Path) -> None:
    folder(home / "photos", 8)
    small = {"backbone": "scratch:cnn,width=8,depth=1", "image_size": 16, "epochs": 1, "precision": "float32", "threads": 1}
    run = pt.pretrain("photos", objective="rotation", batch_size=4, **small)
    assert run.path.name == "photos-rotation-001"
    assert run.metrics["objective"] == "rotation"
    done = pt.finetune("photos", backbone=f"run:{run.path}", epochs=1, threads=1, precision="float32")
    assert done.metrics["counts"]["used"] == 16


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("plain", "extras:Plain of package extras is no strategy: it must be a frozen dataclass"),
        ("alone", "extras:Alone of package extras is no strategy: it must be a frozen dataclass derived from Strategy (docs/extend/)"),
        ("gone", "extras.nowhere:Gone of package extras cannot be imported for strategy 'gone': No module named 'extras.nowhere'"),
        ("lora", "more than one strategy is called 'lora': pretune itself; extras:Cautious of package extras. Rename or uninstall"),
    ],
)
def test_a_broken_or_ambiguous_component_is_one_sentence(extras: Path, name: str, told: str) -> None:
    with pytest.raises(SettingError) as raised:
        Recipe.from_settings("photos/", f"strategy={name}")
    assert told in str(raised.value)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (LoRA, r"strategy is the class LoRA; give an instance of it: LoRA\(\)"),
        (Classification(), "strategy must be a strategy; Classification is none"),
        (5, "strategy must be the name of a strategy, a table with its name, or a component; got 5"),
    ],
)
def test_what_is_no_strategy_is_refused_in_python_too(given: Any, told: str) -> None:
    with pytest.raises(SettingError, match=told):
        Recipe.from_settings("photos/", strategy=given)


def test_python_may_give_paths_and_components_to_every_verb(home: Path) -> None:
    folder(home / "photos", 4)
    found = pt.audit("photos", cache=home / "elsewhere", task=Classification())
    assert found.counts["used"] == 8
    assert (home / "elsewhere").exists()
    made = Recipe.from_settings("photos", base={"strategy": LoRA(rank=2), "cache": home / "elsewhere"})
    assert made.strategy == LoRA(rank=2)
    assert Recipe.from_settings("photos", "strategy.rank=4", base={"strategy": {"name": "lora"}}).strategy == LoRA(rank=4)


def test_a_component_that_only_python_has_is_resumed_from_python() -> None:
    from dataclasses import dataclass

    from pretune.strategies.full import Full

    @dataclass(frozen=True, kw_only=True)
    class MyOwn(Full):
        """Not installed."""

    made = Recipe.from_settings("photos/", strategy=MyOwn())
    assert config.to_tree(made)["strategy"]["name"] == "my_own"
    assert resume_line(made, Path("run")) == "the same Python call (it gives MyOwn) with out='run', resume=True"
