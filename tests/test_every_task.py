"""Every registered task through every verb, on tiny data with a tiny network: a new task is held to all of this by one entry of `CASES`."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pretune import registry
from pretune.models import Model
from pretune.pretraining import Pretraining
from pretune.runner import gain
from pretune.runner.deadline import Deadline
from pretune.training.run_dir import RunDir
from pretune.training.step import Stepper
from pretune.types import Batch, Features, StepOutput
from tests.command_line import pretune
from tests.every_task import CASES, NAMES, SAME, TEXT, THINGS
from tests.test_docs import ROOT

QUIET = ("--json", "--offline")
EPOCHS = ("epochs=3",)


def test_every_task_has_a_case() -> None:
    assert CASES.keys() == set(registry.names("tasks"))


def finetune(name: str, *settings: str, code: int = 0) -> Any:
    """Fine-tune the tiny network of a task and return its metrics; of a run that ends otherwise what it printed."""
    case = CASES[name]
    done = pretune("finetune", case.data, *case.settings, *SAME, *settings, *QUIET, code=code)
    return done.stderr if code else json.loads(done.stdout)


@pytest.fixture(scope="module", params=list(CASES))
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A task, its data in the working folder, and the metrics of a finished run there."""
    home = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as change:
        change.setenv("PRETUNE_CACHE", str(home / "cache"))
        change.chdir(home)
        CASES[request.param].write(home)
        yield request.param, finetune(request.param, *EPOCHS, "out=run")


def flat(figures: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers of metrics by name, those of each class too."""
    of_classes = {f"{name} of {kind}": value for kind, of in figures.get("per_class", {}).items() for name, value in of.items()}
    return {name: value for name, value in {**figures, **of_classes}.items() if not isinstance(value, dict | list)}


def test_audit_and_run_read_the_same(finished: tuple[str, dict[str, Any]]) -> None:
    name, metrics = finished
    named = [word for word in CASES[name].settings if word.startswith("task=")]
    audit = json.loads(pretune("audit", CASES[name].data, *named, "--json").stdout)
    assert audit["task"] == metrics["task"] == name
    assert audit["counts"]["used"] == metrics["counts"]["used"]
    assert audit["counts"]["dropped"] == metrics["counts"]["dropped"] == 0


def test_the_score_has_an_interval_baselines_and_a_report(finished: tuple[str, dict[str, Any]]) -> None:
    _, metrics = finished
    primary = metrics["primary"]
    held = metrics[primary["split"]]
    assert primary["split"] == "val"
    assert math.isfinite(primary["value"])
    low, high = held["interval"][primary["name"]]
    assert low <= held[primary["name"]] <= high
    assert metrics["floors"]
    page = Path("run/report.html").read_text()
    assert "baseline" in page
    assert len(list(Path("run").glob("predictions.csv"))) == 1


def test_a_saved_run_has_the_figures_of_the_fresh_one(finished: tuple[str, dict[str, Any]]) -> None:
    name, metrics = finished
    again = json.loads(pretune("evaluate", "run", CASES[name].data, "part=val", *QUIET).stdout)
    assert again["counts"] == {"used": metrics["counts"]["val"], "dropped": 0}
    fresh = flat(metrics["val"])
    for key, value in flat(again["metrics"]).items():
        assert value == fresh[key] if value is None else value == pytest.approx(fresh[key], rel=1e-5, abs=1e-6), key
    assert again["primary"]["interval"] == pytest.approx(metrics["val"]["interval"][metrics["primary"]["name"]], rel=1e-5, abs=1e-6)


def test_a_bad_input_has_its_own_row_and_changes_no_other(finished: tuple[str, dict[str, Any]]) -> None:
    name, _ = finished
    found = []
    for bad in (True, False):
        folder = Path(f"inputs-{bad}")
        folder.mkdir()
        found.append(json.loads(pretune("predict", "run", CASES[name].inputs(folder, bad), *QUIET).stdout)["predictions"])
    with_bad, clean = found
    assert ["error" in row for row in with_bad] == [False, True, False]
    assert [row["id"] for row in with_bad] == sorted({row["id"] for row in with_bad})
    for row, alone in zip((with_bad[0], with_bad[2]), clean, strict=True):
        assert comparable(row) == comparable(alone)


def comparable(answer: dict[str, Any]) -> Any:
    """Return an answer without its id, and numbers as far as they do not depend on what stood in the batch."""

    def rounded(value: Any) -> Any:
        if isinstance(value, float):
            return pytest.approx(value, rel=1e-3, abs=1e-4)
        if isinstance(value, dict):
            return {key: rounded(one) for key, one in value.items()}
        return [rounded(one) for one in value] if isinstance(value, list) else value

    return rounded({key: value for key, value in answer.items() if key != "id"})


def test_stopped_after_a_step_and_resumed_it_is_the_same_run(finished: tuple[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    name, metrics = finished
    taken: list[Stepper] = []
    step = Stepper.__call__

    def counted(self: Stepper, batch: Batch) -> StepOutput:
        taken.append(self)
        if len(taken) == 4:
            signal.raise_signal(signal.SIGINT)
        return step(self, batch)

    with monkeypatch.context() as change:
        change.setattr(Stepper, "__call__", counted)
        last = finetune(name, *EPOCHS, "out=cut", code=130).strip().splitlines()[-1]
    assert "resume=true" in last
    assert len(losses("cut")) == 4 < len(losses("run"))
    assert finetune(name, *EPOCHS, "out=cut", "resume=true")["val"] == metrics["val"]
    assert losses("cut") == losses("run")
    for file in ("model.json", "predictions.csv", *(f"weights/{path.name}" for path in Path("run/weights").iterdir())):
        assert (Path("cut") / file).read_bytes() == (Path("run") / file).read_bytes(), file


def losses(run: str) -> list[tuple[str, int, float]]:
    return [(event["phase"], event["step"], event["loss"]) for event in RunDir(Path(run)).events() if event["event"] == "stepped"]


def test_the_time_that_is_given_is_kept_and_the_run_can_be_used(
    finished: tuple[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each example that a network is shown costs half a second of a clock that stands still otherwise."""
    name, _ = finished
    seconds = [0.0]
    forward = Model.before_head

    def slow(self: Model, features: Features, start: int = 0) -> Features:
        seconds[0] += 0.5 * len(features.tensor)
        return forward(self, features, start)

    with monkeypatch.context() as change:
        change.setattr(Model, "before_head", slow)
        change.setattr("pretune.runner.runner.Deadline", lambda total, started: Deadline(total, 0.0, lambda: seconds[0]))
        metrics = finetune(name, "out=timed", "time=90s")
    assert 0.7 * 90 <= seconds[0] <= 1.1 * 90
    assert metrics["primary"]["value"] is not None
    rows = json.loads(pretune("predict", "timed", CASES[name].inputs(folder_of("timed-inputs"), False), *QUIET).stdout)["predictions"]
    assert not any("error" in row for row in rows)


def folder_of(name: str) -> Path:
    Path(name).mkdir()
    return Path(name)


# --- pretraining and several processes -----------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.named])
def test_labels_for_then_are_sampled_of_every_task(name: str, home: Path) -> None:
    case = CASES[name]
    case.write(home)
    task = gain.read_task(Pretraining.from_settings(case.data, f"then={case.data}", "labels=8"))
    assert registry.name_of(task.task) == name
    whole, few = (gain._labelled(task, labels, 0) for labels in (None, 8))
    train = [row for row in task.rows if few.get(row.id) == "train"]
    assert len(train) == 8 < sum(split == "train" for split in whole.values())
    assert {row.id for row in task.rows if row.split == "val"} <= few.keys()
    if task.task.compares:
        assert len({row.group for row in train}) == 4, "both texts of four pairs"


def test_then_measures_a_task_that_has_no_classical_model(home: Path) -> None:
    CASES["retrieval"].write(home)
    (home / "corpus.txt").write_text("".join(f"how is a {a} {b} made and why\n" for a in NAMES for b in THINGS for _ in range(9)))
    settings = ("objective=masked", TEXT, "max_tokens=16", "epochs=1", "batch_size=8", "precision=float32", "threads=1")
    gain = ("then=data.csv", "labels=8", "seeds=1", "then_epochs=1")
    told = json.loads(pretune("pretrain", "corpus.txt", *settings, *gain, "out=run", *QUIET).stdout)
    assert [row["metric"] for row in told["gain"]["runs"]] == ["mrr"] * 3


def test_two_processes_evaluate_every_example_once_and_have_the_figures_of_one(home: Path) -> None:
    names = ("token_classification", "retrieval", "detection", "text_generation")
    commands = []
    for name in names:
        (home / name).mkdir()
        CASES[name].write(home / name)
        commands.append(
            ["finetune", f"{name}/{CASES[name].data}", *CASES[name].settings, *SAME, "epochs=1", f"out={name}/run", "--offline"]
        )
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "tests.two_commands", json.dumps(commands)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
    done = subprocess.run(launch, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for name in names:
        metrics = json.loads((home / name / "run" / "metrics.json").read_text())
        again = json.loads(pretune("evaluate", f"{name}/run", f"{name}/{CASES[name].data}", "part=val", *QUIET).stdout)
        assert again["counts"]["used"] == metrics["counts"]["val"]
        for key, value in flat(again["metrics"]).items():
            fresh = flat(metrics["val"])[key]
            assert value == fresh if value is None else value == pytest.approx(fresh, rel=1e-4, abs=1e-5), (name, key)
        with (home / name / "run" / "predictions.csv").open() as stream:
            ids = [row["id"] for row in csv.DictReader(stream)]
        assert len(ids) == len(set(ids)) > 0
