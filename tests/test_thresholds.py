"""Multilabel thresholds: chosen where a part may choose, saved with the run, used by every verb."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pretune as pt
from pretune.evaluation import thresholds
from pretune.tasks.multilabel import Multilabel

LABELS = {"red": 0, "green": 1}


def manifest(root: Path, parts: dict[str, int]) -> Path:
    """Write noisy images with bright red, bright green, both or neither; green is rare."""
    rng = np.random.default_rng(0)
    root.mkdir()
    lines = ["path,label,split"]
    for part, count in parts.items():
        for i in range(count):
            flags = rng.random(2) < (0.5, 0.25)
            pixels = rng.integers(0, 120, (16, 16, 3))
            for channel in LABELS.values():
                pixels[..., channel] += 60 * flags[channel] if rng.random() < 0.9 else 0  # some images do not show it
            Image.fromarray(pixels.astype(np.uint8)).save(root / f"{part}{i}.png")
            names = "|".join(name for name, channel in LABELS.items() if flags[channel])
            lines.append(f"{part}{i}.png,{names or 'none'},{part}")
    (root / "labels.csv").write_text("\n".join(lines))
    return root / "labels.csv"


def finetune(data: Path, **settings: Any) -> pt.Run:
    quick = {"backbone": "scratch:cnn", "strategy": "linear_probe", "image_size": 16, "epochs": 20}
    return pt.finetune(data, **{**quick, **settings})


def saved(run: pt.Run) -> list[float]:
    return json.loads((run.path / "model.json").read_text())["targets"]["thresholds"]


def rows_of(run: pt.Run, part: str) -> list[dict[str, str]]:
    return [row for row in csv.DictReader((run.path / "predictions.csv").open()) if row["split"] == part]


def test_val_chooses_where_test_scores(home: Path) -> None:
    run = finetune(manifest(home / "data", {"train": 90, "val": 60, "test": 60}))
    names = run.metrics["classes"]
    val = rows_of(run, "val")
    probabilities = np.array([[float(row[f"p_{name}"]) for name in names] for row in val])
    truth = np.array([[name in row["target"].split("|") for name in names] for row in val])
    assert saved(run) == pytest.approx(thresholds.choose(probabilities, truth), abs=1e-5)
    assert any(value != 0.5 for value in saved(run))
    figures = run.metrics["test"]["per_class"]
    assert [figures[name]["threshold"] for name in names] == saved(run)
    assert any("chosen on the 60 examples of val" in note for note in run.metrics["notes"])

    told = {row["id"]: row["prediction"] for row in run.predict(home / "data") if "error" not in row}
    compared = 0
    for row in rows_of(run, "test"):
        near = any(abs(float(row[f"p_{name}"]) - cut) < 0.01 for name, cut in zip(names, saved(run), strict=True))
        compared += not near
        assert near or told[row["id"]] == row["prediction"], "predict gives the labels that were scored"
    assert compared > 30
    again = run.evaluate(home / "data" / "labels.csv", part="test")
    assert [again["metrics"]["per_class"][name]["threshold"] for name in names] == saved(run)


def test_val_alone_is_the_score_and_chooses_nothing(home: Path) -> None:
    data = manifest(home / "data", {"train": 120, "val": 60})
    run = finetune(data)
    assert set(saved(run)) == {0.5}
    assert any(note.startswith("thresholds stay at 0.5") for note in run.metrics["notes"])
    patient = finetune(data, patience=20)
    assert set(saved(patient)) != {0.5}
    assert any("examples of select" in note for note in patient.metrics["notes"])


def test_thresholds_of_a_solved_head_are_chosen_on_training_examples_that_it_did_not_learn_from(home: Path) -> None:
    data = manifest(home / "data", {"train": 120, "val": 60})
    run = finetune(data, epochs=None, predictor="network")
    assert set(saved(run)) != {0.5}
    assert any("chosen on 120 training examples, each held out once (cross-validation)" in note for note in run.metrics["notes"])
    figures = run.metrics["val"]["per_class"]
    assert [row["threshold"] for row in figures.values()] == saved(run)


def test_a_threshold_of_the_person_stays(home: Path) -> None:
    data = manifest(home / "data", {"train": 60, "val": 40, "test": 40})
    run = finetune(data, task=Multilabel(threshold=0.4))
    assert set(saved(run)) == {0.4}
    assert not any(note.startswith("thresholds") for note in run.metrics["notes"])
