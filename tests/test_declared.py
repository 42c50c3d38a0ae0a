"""Settings read from source are those of the classes themselves: keys, types, defaults, docs, and what they accept."""

from __future__ import annotations

import dataclasses
import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pretune import config, declared, registry
from pretune.cli import early
from pretune.cli.arguments import parse
from pretune.cli.verbs import VERBS
from pretune.described import settings
from pretune.errors import SettingError
from pretune.schema import default_of

ROOTS = sorted({verb.settings for verb in VERBS.values() if verb.settings})
PARTS = ["pretune.training.optim:Optim", "pretune.training.schedule:Schedule"]
MEMBERS = [(family, name) for family in registry.FAMILIES for name in registry.names(family)]


def shape(cls: Any) -> list[tuple[Any, ...]]:
    """Return what a person can see of a class's settings."""
    defaults = {field.name: default_of(field) for field in dataclasses.fields(cls) if field.init}
    found = [(name, config.to_tree(value)) for name, value in defaults.items() if value is not dataclasses.MISSING]
    return [*found, *(dataclasses.astuple(setting) for setting in settings(cls))]


@pytest.mark.parametrize("place", [*ROOTS, *PARTS])
def test_settings_of_a_verb_are_read_from_source_as_they_are(place: str) -> None:
    module, _, name = place.partition(":")
    assert shape(declared.declared(place)) == shape(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize(("family", "name"), MEMBERS)
def test_settings_of_a_component_are_read_from_source_as_they_are(family: str, name: str) -> None:
    assert shape(declared.load(family, name)) == shape(registry.load(family, name))


def test_a_component_that_there_is_not_is_refused_like_elsewhere() -> None:
    with pytest.raises(SettingError, match="Did you mean 'lora'"):
        declared.load("strategies", "lor")


REFUSED = [
    ("finetune", ["schedule=plateau"]),
    ("finetune", ["schedule=plateau", "schedule.patience=5", "patience=3"]),
    ("finetune", ["optim.momentum=0.9"]),
    ("finetune", ["optim=sgd", "optim.momentum=0", "optim.nesterov=true"]),
    ("finetune", ["optim=adagrad", "optim.beta2=0.5"]),
    ("finetune", ["strategy=direct", "epochs=3"]),
    ("finetune", ["strategy=partial", "strategy.last=1", "strategy.gradual=true"]),
    ("finetune", ["augment=light", "augmentations=flip"]),
    ("finetune", ["task=regression", "class_weights=true"]),
    ("finetune", ["schedule.gamma=0.5"]),
    ("finetune", ["augmentations=erasing", "augmentations.erasing.area=0.5,0.1"]),
    ("pretrain", ["schedule.gamma=0.5"]),
    ("pretrain", ["then_epochs=3"]),
    ("pretrain", ["schedule=plateau"]),
]


@pytest.mark.parametrize(("verb", "settings"), REFUSED)
def test_what_several_settings_refuse_together_is_refused_before_torch_in_the_same_words(verb: str, settings: list[str]) -> None:
    module, _, name = str(VERBS[verb].settings).partition(":")
    messages = []
    for cls, built in (
        (declared.declared(f"{module}:{name}"), declared.declared(f"{module}:built")),
        (getattr(importlib.import_module(module), name), importlib.import_module(module).built),
    ):
        with pytest.raises(SettingError) as error:
            built(cls, config.override({}, settings) | {"data": "photos"})
        messages.append(str(error.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("settings", [["schedule.decay=0.3"], ["optim=sgd", "optim.momentum=0.9", "optim.nesterov=true"]])
def test_settings_that_go_together_are_not_refused(settings: list[str]) -> None:
    built = declared.declared("pretune.pretraining:built")
    assert built(declared.declared("pretune.pretraining:Pretraining"), config.override({}, settings) | {"data": "photos"}).data == "photos"


def test_a_setting_of_a_run_s_task_is_refused_at_predict_with_the_way_to_write_it(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.json").write_text('{"task": {"name": "translation"}}')
    (tmp_path / "new.txt").write_text("a line")
    words = ["predict", str(tmp_path / "run"), str(tmp_path / "new.txt")]
    with pytest.raises(SettingError, match=r"'beams': it is one of the run's task\. Write task\.beams=1\.$"):
        early.check(parse([*words, "beams=1"]))
    early.check(parse([*words, "task.beams=1"]))


def test_refusals_of_several_settings_need_no_torch() -> None:
    code = (
        "import sys; from pretune.cli import early; from pretune.cli.arguments import parse\n"
        "from pretune.errors import SettingError\n"
        "for words in (['finetune', '.', 'strategy=direct', 'epochs=3'], ['pretrain', '.', 'then_epochs=3']):\n"
        "    try: early.check(parse(words))\n"
        "    except SettingError as error: print(error)\n"
        "print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "epochs is not used by strategy=direct" in out
    assert "then_epochs is not used by pretraining without then=" in out
    assert out.endswith("False\n")
