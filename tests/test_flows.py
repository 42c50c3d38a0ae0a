"""Whole jobs through the real command line, on images made on the spot."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pretune.cli.terminal import Terminal
from tests.command_line import pretune

QUICK = ["backbone=scratch:cnn", "image_size=32", "seed=1"]


def picture(kind: str, seed: int) -> Image.Image:
    """A bright disc or square on dark noise."""
    rng = np.random.default_rng([seed, len(kind)])
    image = Image.fromarray(rng.integers(0, 90, (48, 48, 3), dtype=np.uint8))
    x, y, r = rng.integers(14, 34), rng.integers(14, 34), rng.integers(8, 13)
    draw = ImageDraw.Draw(image)
    (draw.ellipse if kind == "disc" else draw.rectangle)(
        [x - r, y - r, x + r, y + r], fill=tuple(int(v) for v in rng.integers(160, 255, 3))
    )
    return image


def folder(root: Path, count: int = 16) -> Path:
    for kind in ("disc", "square"):
        (root / kind).mkdir(parents=True, exist_ok=True)
        for seed in range(count):
            picture(kind, seed).save(root / kind / f"{seed}.png")
    return root


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "pretune", *words]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def finetune(*words: str) -> dict[str, Any]:
    out = pretune("finetune", *words, "--json", "--offline").stdout
    assert out.count("\n") == 1, "exactly one JSON object on stdout"
    return json.loads(out)


def test_photos_to_probe_to_report_to_predictions(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    phases, shown = [], Terminal.progress
    monkeypatch.setattr(Terminal, "progress", lambda self, label, *counts: (phases.append(label), shown(self, label, *counts)))
    data = folder(home / "photos", 24)
    (data / "disc" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    metrics = finetune("photos")
    expected = ["loading PyTorch", "listing the data", "loading the backbone", "reading images", "computing features", "evaluating"]
    expected += ["computing baselines and confidence intervals", "writing the report"]
    assert [label for label in dict.fromkeys(phases) if label != "choosing the precision"] == expected, "nothing is done in silence"
    run = home / metrics["run"]
    assert metrics["strategy"] == "linear_probe"
    assert metrics["primary"]["split"] == "val"
    assert metrics["primary"]["value"] >= 0.8
    assert metrics["counts"]["dropped"] == 1
    assert {"majority", "classical"} <= set(metrics["floors"])
    assert "colours and gradient orientations" in metrics["floors"]["classical"]["what"]
    assert {"data_s", "features_s", "train_s", "total_s"} <= set(metrics["timing"])
    assert any(note.startswith("strategy linear_probe (the default") for note in metrics["notes"])
    assert any(note.startswith("features: precision=") for note in metrics["notes"]), "the dtype with its reason"
    assert not any("broken.jpg" in note for note in metrics["notes"]), "the ledger has it"
    assert "disc/broken.jpg" in (run / "ledger.csv").read_text()
    assert "broken.jpg" in (run / "report.html").read_text()
    for name in ("recipe.json", "events.jsonl", "audit.json", "environment.json", "predictions.csv"):
        assert (run / name).stat().st_size > 0

    new = home / "new"
    new.mkdir()
    picture("disc", 500).save(new / "a, b.png")
    (new / "bad.png").write_bytes(b"no picture")
    picture("square", 501).save(new / "z.png")
    rows = list(csv.DictReader(io.StringIO(pretune("predict", str(run), "new").stdout)))
    assert [row["id"] for row in rows] == ["a, b.png", "bad.png", "z.png"]
    assert [bool(row["error"]) for row in rows] == [False, True, False]
    assert [row["prediction"] for row in rows if not row["error"]] == ["disc", "square"]

    again = json.loads(pretune("evaluate", str(run), "photos", "--json").stdout)
    saved = {row["id"]: row for row in csv.DictReader((run / "predictions.csv").open())}
    assert again["counts"]["dropped"] == 1
    told = {
        row["id"]: row for row in json.loads(pretune("predict", str(run), "photos", "--json").stdout)["predictions"] if "error" not in row
    }
    assert len(saved) == metrics["counts"]["val"] > 0
    for item, row in saved.items():
        assert told[item]["prediction"] == row["prediction"]
        assert abs(told[item]["probabilities"]["disc"] - float(row["p_disc"])) < 0.02

    assert metrics["run"] in pretune("runs").stdout
    assert json.loads(pretune("inspect", metrics["run"], "--json").stdout)["strategy"] == "linear_probe"


@pytest.mark.parametrize("strategy", ["scratch", "full", "partial", "lora", "direct"])
def test_every_strategy_trains_saves_and_predicts(home: Path, strategy: str) -> None:
    folder(home / "photos")
    own = {"direct": [], "partial": ["epochs=2", "strategy.last=1"]}.get(strategy, ["epochs=2"])
    metrics = finetune("photos", f"strategy={strategy}", *own, *QUICK)
    saved = list(csv.DictReader((home / metrics["run"] / "predictions.csv").open()))
    told = json.loads(pretune("predict", metrics["run"], "photos", "--json").stdout)["predictions"]
    by_id = {row["id"]: row for row in told}
    assert len(by_id) == 32
    assert len(saved) == metrics["counts"]["val"] > 0
    for row in saved:
        assert abs(by_id[row["id"]]["probabilities"]["disc"] - float(row["p_disc"])) < 0.01
    if strategy == "lora":
        started = [json.loads(line) for line in (home / metrics["run"] / "events.jsonl").read_text().splitlines() if '"started"' in line]
        assert metrics["params"]["trainable"] == started[-1]["trainable"] > 0, "adapters count, though they are merged by now"


def losses(run: Path) -> dict[tuple[str, int], float]:
    lines = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    return {(e["phase"], e["step"]): e["loss"] for e in lines if e["event"] == "stepped"}


def test_killed_and_resumed_it_is_bit_identical(home: Path) -> None:
    folder(home / "photos")
    words = ["photos", "strategy=scratch", "epochs=8", "patience=8", "augment=light", *QUICK]
    finetune(*words, "out=whole")
    chance = random.Random(0)
    for _ in range(2):
        process = subprocess.Popen(
            command("finetune", *words, "out=cut", "resume=true", "--offline"), env=environment(), stderr=subprocess.DEVNULL
        )
        began = time.monotonic()
        while not (home / "cut" / "checkpoints").exists() and process.poll() is None and time.monotonic() - began < 60:
            time.sleep(0.02)
        time.sleep(chance.uniform(0.05, 1.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
    if not (home / "cut" / "metrics.json").exists():
        finetune(*words, "out=cut", "resume=true")
    assert losses(home / "cut") == losses(home / "whole")
    weights = [sorted((home / run / "backbone").glob("*.safetensors"))[0].read_bytes() for run in ("cut", "whole")]
    assert weights[0] == weights[1]


def test_ctrl_c_leaves_a_run_that_the_printed_line_resumes(home: Path) -> None:
    folder(home / "photos")
    words = ["photos", "strategy=scratch", "epochs=400", *QUICK, "out=stopped"]
    process = subprocess.Popen(command("finetune", *words, "--offline"), env=environment(), stderr=subprocess.PIPE, text=True)
    began = time.monotonic()
    while not (home / "stopped" / "checkpoints").exists() and process.poll() is None and time.monotonic() - began < 60:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in messages
    line = messages[messages.index("pretune finetune") :].strip().splitlines()[0]
    assert "resume=true" in line
    assert "strategy.probe" not in line, "only what differs from the defaults"
    assert "epochs=400" in line


def test_two_processes_train_one_model_and_evaluate_each_item_once(home: Path) -> None:
    folder(home / "photos")
    words = ["photos", "strategy=scratch", "epochs=3", *QUICK, "out=both"]
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "-m",
        "pretune",
        "finetune",
        *words,
        "--json",
        "--offline",
    ]
    done = subprocess.run(launch, capture_output=True, text=True, timeout=240, env=environment(), check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    metrics = json.loads(done.stdout.strip().splitlines()[-1])
    assert len(done.stdout.strip().splitlines()) == 1, "only the first rank speaks"
    rows = list(csv.DictReader((home / "both" / "predictions.csv").open()))
    assert len(rows) == len({row["id"] for row in rows}) == metrics["counts"]["val"]


def test_two_runs_share_a_cache_at_the_same_time(home: Path) -> None:
    folder(home / "photos", 30)
    fixed = ("strategy=linear_probe", "precision=float32")  # each run measures what is faster, beside the other
    runs = [
        subprocess.Popen(
            command("finetune", "photos", *QUICK, *fixed, f"out=run{i}", "--offline"),
            env=environment(),
            stderr=subprocess.PIPE,
        )
        for i in (1, 2)
    ]
    for process in runs:
        _, message = process.communicate(timeout=240)
        assert process.returncode == 0, message.decode()[-3000:]
    assert losses(home / "run1") == losses(home / "run2")


def test_a_full_disk_is_one_plain_message_and_the_run_goes_on_when_there_is_room(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pretune as pt
    from pretune import backbones
    from pretune.errors import RequestError

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    folder(home / "photos")
    settings: dict[str, Any] = {"backbone": "scratch:cnn", "image_size": 32, "strategy": "linear_probe", "epochs": 2, "out": home / "run"}
    with monkeypatch.context() as change:
        change.setattr(backbones, "save", full)
        with pytest.raises(RequestError, match=r"No space left on device\. Free some space .* resume=true"):
            pt.finetune(home / "photos", **settings)
    assert pt.finetune(home / "photos", **settings, resume=True).metrics["counts"]["used"] == 32
    with Path("/dev/full").open("w") as out:
        done = subprocess.run(
            command("predict", "run", "photos"), stdout=out, stderr=subprocess.PIPE, text=True, env=environment(), check=False
        )
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1] == "pretune: the output cannot be written or read: No space left on device"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["finetune", "photos", "stratgy=full"], "Did you mean 'strategy'"),
        (["finetune", "photos", "strategy=ful"], "Did you mean 'full'"),
        (["finetune", "photos", "backbone=package:efficientnet_lit0"], "efficientnet_lite0"),
        (["finetune", "photos", "backbone=torchvison:resnet18"], "Did you mean 'torchvision'"),
        (["finetune", "photos", "lr=-1"], "lr must be a number in (0, inf)"),
        (["finetune", "nowhere"], "nowhere"),
        (["finetune"], "no data given"),
        (["finetune", "photos", "--ofline"], "Did you mean '--offline'"),
        (["predict", "nowhere", "photos"], "nowhere"),
        (["evaluate", "photos"], "name a run and labelled data"),
        (["finetun", "photos"], "Did you mean 'finetune'"),
    ],
)
def test_what_cannot_be_carried_out_is_one_plain_message(home: Path, words: list[str], message: str) -> None:
    folder(home / "photos", 4)
    done = pretune(*words, code=2)
    assert message in done.stderr
    assert done.stdout == ""


def test_a_named_remote_backbone_fails_offline_before_any_datum_is_read(home: Path) -> None:
    done = pretune("finetune", str(folder(home / "photos", 4)), "backbone=torchvision:resnet18", "--offline", code=2)
    assert "resnet18-" in done.stderr, "names the file"
    assert not (home / "cache" / "decoded").exists()
