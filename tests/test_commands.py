"""A recipe written back as words: short, and the same recipe again."""

from __future__ import annotations

import shlex
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from pretune.cli import environment
from pretune.cli.environment import others
from pretune.commands import as_assignments, resume_line
from pretune.errors import RequestError
from pretune.pretraining import Pretraining
from pretune.recipe import Recipe
from pretune.runner.folder import open_folder
from pretune.runner.reporter import Silent
from pretune.training.device import Device


@pytest.mark.parametrize(
    "words",
    [
        "",
        "strategy=full",
        "strategy=full strategy.lr_decay=0.9 epochs=3 clip=auto",
        "strategy=lora strategy.rank=4 backbone=torchvision:resnet18 image_size=64",
        "optim=sgd optim.momentum=0.8 schedule=constant schedule.warmup=0.2",
        "augmentations=flip,rotation augmentations.rotation.degrees=20.0",
        "head=mlp task=multilabel task.threshold=0.4 label='two words'",
        "time=90.0 class_weights=true seed=7 out=elsewhere",
    ],
)
def test_it_comes_back_as_it_was_typed(words: str) -> None:
    made = Recipe.from_settings("photos/", *shlex.split(words))
    written = as_assignments(made)
    assert sorted(shlex.split(" ".join(written))) == sorted(shlex.split(words))
    assert Recipe.from_settings("photos/", *shlex.split(" ".join(written))) == made


def test_pretraining_comes_back_as_it_was_typed() -> None:
    made = Pretraining.from_settings(
        "corpus/", "also=more texts/,others.txt", "labels=50.0,0.5", "then=task.csv", "augment=none", "micro_batch=4"
    )
    written = shlex.split(" ".join(as_assignments(made)))
    assert Pretraining.from_settings("corpus/", *written) == made
    assert {"also=more texts/,others.txt", "labels=50.0,0.5"} <= set(written)


def test_the_line_that_resumes_is_quoted() -> None:
    line = resume_line(Recipe.from_settings("my photos/", "strategy=full"), Path("runs/my photos-001"))
    assert shlex.split(line) == ["pretune", "finetune", "my photos/", "strategy=full", "out=runs/my photos-001", "resume=true"]


def test_the_wait_policy_follows_what_runs_now() -> None:
    assert others("3.20 2.18 0.12 1/80 11206") == 0
    assert others("0.00 0.00 0.00 4/80 11206") == 3


@pytest.mark.skipif(not Path("/proc/loadavg").exists(), reason="reads what Linux tells")
@pytest.mark.parametrize(("seen", "policy"), [([0.0], "ACTIVE"), ([9.0, 0.1], "ACTIVE"), ([9.0, 9.0, 9.0], "PASSIVE")])
def test_a_program_that_only_starts_beside_us_does_not_make_the_machine_busy(
    seen: list[float], policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter(seen)
    monkeypatch.setattr(environment, "_running", lambda _: next(looks) * environment.os.cpu_count())
    monkeypatch.setattr(environment, "_LATER", 0)
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    environment.prepare_environment()
    assert environment.os.environ["OMP_WAIT_POLICY"] == policy


def test_two_runs_never_share_a_folder(home: Path) -> None:
    recipe = Recipe.from_settings("photos/", f"out={home / 'mine'}")
    alone = Device(device=torch.device("cpu"))
    with ExitStack() as claims:
        opened, resumed = open_folder(recipe, "photos", alone, Silent(), claims)
        assert (opened.path, resumed) == (home / "mine", False)
        with pytest.raises(RequestError, match="belongs to a run that is not over"):
            open_folder(recipe, "photos", alone, Silent(), claims)
        unnamed = Recipe.from_settings("photos/")
        assert [open_folder(unnamed, "photos", alone, Silent(), claims)[0].path.name for _ in range(2)] == ["photos-001", "photos-002"]
    with ExitStack() as claims:
        assert open_folder(recipe, "photos", alone, Silent(), claims)[0].path == home / "mine"


def test_a_run_of_several_processes_is_resumed_by_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    line = resume_line(Recipe.from_settings("photos/", "strategy=full"), Path("run"))
    assert line == "torchrun --nproc-per-node 2 -m pretune finetune photos/ strategy=full out=run resume=true"
