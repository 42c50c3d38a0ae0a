"""docs/security.md: what others made (run folders, weights, recipes, data) is data; nothing in it decides which code runs."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import pretune as pt
from pretune import backbones
from pretune.cli import main
from pretune.deploy import report
from pretune.errors import RequestError, SettingError, WeightsError
from pretune.recipe import read_recipe as read_recipe
from pretune.runner import Silent
from pretune.runner.folder import open_folder
from pretune.training.device import Device
from tests import fake_run, saved_runs

MODULE = """
from contextlib import ExitStack
from pathlib import Path
from subprocess import run
from torch import nn

Path("imported").touch()


def make_model(width: int = 4) -> nn.Module:
    Path("called").touch()
    return nn.Sequential(nn.Conv2d(3, width, 3, 2), nn.ReLU())
"""


@pytest.fixture
def here(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with a module that leaves a trace where it is imported, and one where it is called."""
    (home / "theirs_42.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(home))
    monkeypatch.delitem(sys.modules, "theirs_42", raising=False)
    saved_runs.photos(home / "photos")
    return home


def traces(folder: Path) -> set[str]:
    return {name for name in ("imported", "called", "ran") if (folder / name).exists()}


def run_naming(folder: Path, id: str, settings: dict[str, Any] | None = None, make: Callable[[Path], Path] = saved_runs.classifier) -> Path:
    """Return a finished run whose backbone says that it is built by `id`."""
    run = make(folder)
    saved_runs.edit(run / "backbone" / "builder.json", lambda told: told.update(id=id, settings=settings or {}))
    return run


READERS: dict[str, Callable[[Path, Path], Any]] = {
    "predict": lambda run, home: list(pt.predict(run, home / "photos")),
    "evaluate": lambda run, home: pt.evaluate(run, home / "photos"),
    "finetune": lambda run, home: pt.finetune(home / "photos", backbone=f"run:{run}", out=home / "out"),
    "finetune from its backbone folder": lambda run, home: pt.finetune(home / "photos", backbone=f"run:{run}/backbone", out=home / "out"),
    "finetune from scratch": lambda run, home: pt.finetune(home / "photos", backbone=f"run:{run}", strategy="scratch", out=home / "out"),
    "pretrain": lambda run, home: pt.pretrain(home / "photos", backbone=f"run:{run}", out=home / "out"),
    "distil": lambda run, home: pt.pretrain(
        home / "photos", objective={"name": "distillation", "teacher": f"run:{run}"}, backbone="scratch:cnn,width=8", out=home / "out"
    ),
}


@pytest.mark.parametrize("verb", READERS)
def test_no_verb_runs_code_that_a_run_folder_names(here: Path, verb: str) -> None:
    attack = run_naming(here / "attack", "file:w.pth@os:system", {"command": "touch ran"})
    own = run_naming(here / "own", "file:w.pth@theirs_42:make_model")
    for run, message in ((attack, "would call os:system"), (own, "add trust=theirs_42 to this command")):
        with pytest.raises(RequestError, match=message):
            READERS[verb](run, here)
    assert traces(here) == set()


def test_generate_runs_no_code_that_a_run_folder_names(here: Path) -> None:
    run = run_naming(here / "own", "file:w.pth@theirs_42:make_model", make=saved_runs.painter)
    with pytest.raises(SettingError, match="add trust=theirs_42 to this command"):
        pt.generate(run)
    taught = saved_runs.writer(here / "taught")
    teacher = {"name": "distillation", "teacher": "file:w.pth@theirs_42:make_model"}
    saved_runs.edit(taught / "model.json", lambda told: told.update(objective=teacher))
    with pytest.raises(SettingError, match="add trust=theirs_42 to this command"):
        pt.generate(taught)
    assert traces(here) == set()


def test_a_run_that_is_extended_names_no_code(here: Path) -> None:
    run = saved_runs.painter(here / "run")
    teacher = {"name": "distillation", "teacher": "file:w.pth@theirs_42:make_model"}
    resolved = {"objective": teacher, "optim": {"name": "adamw"}, "fresh": True}
    saved_runs.edit(run / "recipe.json", lambda told: told.update(resolved=resolved))
    with pytest.raises(SettingError, match="add trust=theirs_42 to this command"):
        pt.pretrain(here / "photos", extend=str(run))
    assert traces(here) == set()


def test_a_module_that_the_command_names_is_used(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(_network().state_dict(), here / "w.pth")
    backbone = backbones.load("file:w.pth@theirs_42:make_model")
    run = saved_runs.classifier(here / "run")
    backbones.save(backbone, run / "backbone")
    saved_runs.edit(run / "model.json", lambda told: told.update(weights="weights/own.safetensors"))
    saved_runs.save_head(backbone, run / "weights" / "own.safetensors")
    assert main(["predict", str(run), "photos"]) == 2
    assert "add trust=theirs_42" in capsys.readouterr().err
    for trust in ("theirs_42", "other,theirs_42"):
        assert main(["predict", str(run), "photos", f"trust={trust}"]) == 0
        assert len(capsys.readouterr().out.splitlines()) == 1 + 6
    assert main(["evaluate", str(run), "photos", "trust=theirs_42"]) == 0
    assert "6 used" in capsys.readouterr().out
    assert main(["evaluate", str(run), "photos", "reporter=x"]) == 2
    assert "evaluate has no setting 'reporter'" in capsys.readouterr().err
    folder = pt.finetune(here / "photos", backbone=f"run:{run}", strategy="scratch", epochs=1, trust="theirs_42", out=here / "tuned").path
    assert len(list(pt.predict(folder, here / "photos", trust=["theirs_42"]))) == 6


def test_trusting_a_module_is_not_trusting_what_it_imports(here: Path) -> None:
    run = run_naming(here / "run", "file:w.pth@theirs_42:run", {"args": "touch ran", "shell": True})
    with pytest.raises(SettingError, match="only imports from elsewhere"):
        list(pt.predict(run, here / "photos", trust="theirs_42"))
    with pytest.raises(SettingError, match="part of Python"):
        list(pt.predict(run_naming(here / "python", "file:w@subprocess:run"), here / "photos", trust="subprocess"))
    assert "ran" not in traces(here)


def test_a_recipe_file_decides_on_no_code(here: Path) -> None:
    recipe = here / "theirs.toml"
    recipe.write_text('backbone = "file:w.pth@theirs_42:make_model"\n')
    with pytest.raises(SettingError, match="add trust=theirs_42 to this command"):
        read_recipe("photos", [str(recipe)], [])
    with pytest.raises(SettingError, match="add trust=theirs_42"):
        pt.Recipe.from_toml(recipe, "data=photos")
    assert read_recipe("photos", [str(recipe)], ["trust=theirs_42"]).place.trust == ("theirs_42",)
    assert read_recipe("photos", [str(recipe)], ["backbone=scratch:cnn"]).backbone == "scratch:cnn"
    for content in ('trust = ["theirs_42"]\n', '[place]\ntrust = ["theirs_42"]\n'):
        recipe.write_text(content)
        with pytest.raises(SettingError, match="which a file cannot"):
            read_recipe("photos", [str(recipe)], [])
    assert traces(here) == set()


def test_what_is_trusted_does_not_change_what_a_run_is(here: Path) -> None:
    plain = pt.Recipe.from_settings("photos")
    assert pt.Recipe.from_settings("photos", trust="theirs_42").identity() == plain.identity()


# --- what libraries would do --------------------------------------------------------------------------


def test_a_transformers_folder_with_code_is_refused_without_a_question(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question was asked"))
    folder = here / "model"
    folder.mkdir()
    (folder / "evil.py").write_text('from pathlib import Path\nPath("ran").touch()\n')
    auto = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model", "AutoTokenizer": ["evil.Tokenizer", None]}
    for kind in ("unknown-kind", None, ["bert"]):
        (folder / "config.json").write_text(json.dumps({"model_type": kind, "auto_map": auto}))
        with pytest.raises(WeightsError, match=r"Python code that comes with the weights.*never run"):
            backbones.load(f"transformers:{folder}", offline=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2", "auto_map": auto}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"auto_map": auto}))
    with pytest.raises(WeightsError, match="could not be loaded"):  # by the class of transformers itself
        backbones.load(f"transformers:{folder}", offline=True)
    run = run_naming(here / "run", "transformers:x", {"config": {"model_type": "unknown-kind", "auto_map": auto}})
    with pytest.raises(WeightsError, match="never run"):
        list(pt.predict(run, here / "photos"))
    assert traces(here) == set()


HIDDEN = {
    "of a part": {"text_config": {"model_type": "gpt2", "auto_map": {"AutoModel": "x--evil.Model"}}},
    "of the hub": {"text_config": {"_attn_implementation_internal": "somebody/kernel"}},
    "another network": {"parts": [{"backbone": "somebody/else", "use_pretrained_backbone": True}]},
}


@pytest.mark.parametrize("what", HIDDEN)
def test_a_config_hides_no_code_in_its_parts(here: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question was asked"))
    config = {"model_type": "gpt2", **HIDDEN[what]}
    run = run_naming(here / "run", "transformers:x", {"config": config})
    (here / "model").mkdir()
    (here / "model" / "config.json").write_text(json.dumps(config))
    for use in (lambda: list(pt.predict(run, here / "photos")), lambda: backbones.load(f"transformers:{here / 'model'}", offline=True)):
        with pytest.raises(WeightsError, match=r"never run|never fetched|to be downloaded"):
            use()


def test_a_run_that_is_resumed_writes_through_no_link(here: Path) -> None:
    recipe = pt.Recipe.from_settings("photos", resume=True, out="theirs")
    (here / "theirs").mkdir()
    (here / "theirs" / "recipe.json").write_text(json.dumps({"identity": recipe.identity()}))
    (here / "mine.txt").write_text("mine")
    (here / "theirs" / "events.jsonl").symlink_to(here / "mine.txt")
    with pytest.raises(RequestError, match=r"events\.jsonl is a link to"):
        open_folder(recipe, "photos", Device(device=torch.device("cpu")), Silent(), ExitStack())
    assert (here / "mine.txt").read_text() == "mine"


def test_a_run_folder_names_no_other_file(here: Path) -> None:
    secret = here / "secret.json"
    secret.write_text("{}")
    (here / "config.json").write_text('{"model_type": "bert"}')
    named: list[tuple[str, dict[str, Any]]] = [
        ("timm:test_resnet", {"checkpoint_path": str(secret)}),
        ("package:efficientnet_lite0", {"checkpoint_path": str(secret)}),
        ("scratch:timm:test_resnet", {"pretrained_cfg": {"file": str(secret)}}),
        (f"run:{here / 'other'}", {}),
        (f"transformers:{here}", {}),
        (f"transformers:{here}", {"config": str(secret)}),
    ]
    for number, (id, settings) in enumerate(named):
        run = run_naming(here / f"run-{number}", id, settings)
        with pytest.raises(RequestError) as caught:
            list(pt.predict(run, here / "photos"))
        assert "builder.json" in str(caught.value), id


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "weights/../../secret", "", "a\0b"])
def test_a_run_folder_has_its_files_inside(here: Path, name: str) -> None:
    (here / "secret").write_text("{}")
    run = saved_runs.classifier(here / "run")
    saved_runs.edit(run / "model.json", lambda told: told.update(weights=name))
    with pytest.raises(RequestError, match="refers to its own files only"):
        list(pt.predict(run, here / "photos"))
    tokenizer = saved_runs.writer(here / "writer")
    saved_runs.edit(tokenizer / "backbone" / "builder.json", lambda told: told.update(files=[name]))
    with pytest.raises(RequestError, match="refers to its own files only"):
        pt.generate(tokenizer)


def _network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU())


# --- what a report shows --------------------------------------------------------------------------------

PAYLOAD = '</script></style></title><img src=x onerror="ran()">\'"><script>ran()</script>{{ 7 * 7 }}'


def _spoiled(value: Any, kept: tuple[str, ...] = ()) -> Any:
    """Return a JSON value with markup in place of every text, but for the entries that say what the others are."""
    if isinstance(value, dict):
        return {key: inside if key in kept else _spoiled(inside, kept) for key, inside in value.items()}
    if isinstance(value, list):
        return [_spoiled(inside, kept) for inside in value]
    return PAYLOAD if isinstance(value, str) else value


@pytest.mark.parametrize("make", [fake_run.multilabel, saved_runs.classifier])
def test_whatever_a_run_folder_says_the_report_holds_no_markup_of_it(tmp_path: Path, make: Callable[..., Path]) -> None:
    run = make(tmp_path / "run")
    for name in ("metrics.json", "audit.json", "recipe.json", "environment.json"):
        told = _spoiled(json.loads((run / name).read_text()), ("name", "split", "task"))
        (run / name).write_text(json.dumps(told))
    events = [_spoiled(json.loads(line), ("event", "phase", "split")) for line in (run / "events.jsonl").read_text().splitlines()]
    (run / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    for path in (run / "pictures").glob("*.json"):
        path.write_text(json.dumps(_spoiled(json.loads(path.read_text()), ("id", "picture"))))
    saved_runs.edit(run / "metrics.json", lambda told: told.update(backbone=PAYLOAD, strategy=PAYLOAD, diagnosis=[PAYLOAD]))
    page = report.write(run).read_text()
    assert "ran()" in page
    assert "<img src=x" not in page
    assert "<script" not in page
    assert "49" not in page.partition("ran()")[2][:40]


def test_a_report_embeds_files_of_its_run_only(tmp_path: Path) -> None:
    run = saved_runs.classifier(tmp_path / "run")
    (tmp_path / "secret.png").write_bytes(b"secret")
    for name in ("../../secret.png", str(tmp_path / "secret.png")):
        (run / "pictures" / "batch.json").write_text(
            json.dumps([{"note": "", "rows": [{"heading": "", "tiles": [{"picture": name, "caption": ""}]}]}])
        )
        with pytest.raises(RequestError, match="refers to its own files only"):
            report.write(run)


# --- the page itself --------------------------------------------------------------------------------------


def test_every_promise_names_a_test_that_is_there() -> None:
    page = (Path(__file__).parent.parent / "docs" / "security.md").read_text()
    named = re.findall(r"`(test_\w+)\.py::(test_\w+)`", page)
    assert len(named) > 15
    for file, test in named:
        assert f"def {test}(" in (Path(__file__).parent / f"{file}.py").read_text(), f"{file}::{test}"
