"""The learning curve on held-out examples: it costs little, chooses nothing, and is the same after a resume."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import pretune as pt
from pretune.deploy import _curves
from pretune.runner import curve, score
from pretune.runner.curve import ENOUGH, LEAST, CurvePlan, planned
from tests.test_flows import folder
from tests.test_intervals import evaluated, stepped


@pytest.mark.parametrize(
    ("epochs", "examples", "affordable", "plan"),
    [
        (10, 50, 1e9, (50, 1)),  # all, each epoch
        (10, 1000, 3000, (300, 1)),  # a sample that is large enough, each epoch
        (20, 1000, 2000, (200, 2)),  # every second epoch rather than fewer than 200 examples
        (100, 150, 1500, (150, 10)),  # all, every tenth epoch
        (20, 1000, 500, (100, 4)),  # five points of fewer examples
        (3, 1000, 90, (30, 1)),
        (1, 1000, 90, (90, 1)),
        (10, 40, 0.5, (LEAST, 2)),  # hardly anything may be measured
        (2, 5, 0.5, (5, 1)),
    ],
)
def test_a_curve_has_fewer_examples_or_fewer_points_where_all_would_cost_too_much(
    epochs: int, examples: int, affordable: float, plan: tuple[int, int]
) -> None:
    assert planned(epochs=epochs, examples=examples, affordable=affordable) == CurvePlan(examples=plan[0], every=plan[1])


def test_a_curve_costs_no_more_than_it_may_unless_it_is_the_least_that_says_anything() -> None:
    for epochs in (1, 2, 3, 7, 20, 50):
        for examples in (3, 40, 900, 20_000):
            for affordable in (10.0, 70.0, 300.0, 4e4):
                plan = planned(epochs=epochs, examples=examples, affordable=affordable)
                points = -(-epochs // plan.every)
                assert 1 <= plan.examples <= examples
                assert points * plan.examples <= max(affordable, points * min(examples, LEAST))
                assert points >= min(epochs, 4)
                assert plan.every == 1 or plan.examples <= max(LEAST, ENOUGH) * 2


SETTINGS: dict[str, Any] = {"backbone": "scratch:cnn,width=8,depth=1", "strategy": "scratch", "image_size": 16, "epochs": 4, "threads": 1}


def test_every_run_that_takes_steps_has_the_curve_of_its_validation_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it at each epoch where it is cheap; a sample where it is not; the model is the same one either way."""
    folder(tmp_path / "photos", 12)
    monkeypatch.setattr(curve, "LEAST", 2)
    monkeypatch.setattr(curve, "FREE", 1e9)
    whole = pt.finetune(tmp_path / "photos", out=tmp_path / "whole", **SETTINGS)
    monkeypatch.setattr(curve, "FREE", 0.0)
    monkeypatch.setattr(curve, "SHARE", 1e-9)
    few = pt.finetune(tmp_path / "photos", out=tmp_path / "few", **SETTINGS)
    events = {run.path: [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()] for run in (whole, few)}
    points = {path: [e for e in seen if e["event"] == "evaluated"] for path, seen in events.items()}
    count = whole.metrics["counts"]["val"]
    assert [(e["epoch"], e["split"], e["examples"]) for e in points[whole.path]] == [(epoch, "val", count) for epoch in (1, 2, 3, 4)]
    assert {(e["split"], e["examples"], e["best"]) for e in points[few.path]} == {("val", 2, False)}
    weights = [(run.path / "weights" / "last.safetensors").read_bytes() for run in (whole, few)]
    assert weights[0] == weights[1], "how much is drawn changes nothing"
    assert whole.metrics["val"]["accuracy"] == few.metrics["val"]["accuracy"]
    assert whole.metrics["diagnosis"] == few.metrics["diagnosis"]
    assert points[whole.path][-1]["metrics"]["accuracy"] == pytest.approx(whole.metrics["val"]["accuracy"])
    page = (few.path / "report.html").read_text()
    assert f"its curve is for information only, measured on 2 of its {count} examples, as more would have taken over a tenth" in page
    assert "No weights, epoch or advice were chosen by it" in page


def test_a_resumed_run_measures_what_was_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan is made by the clock once, and read from then on."""
    folder(tmp_path / "photos", 12)
    out = tmp_path / "run"
    out.mkdir()
    (out / "decisions.jsonl").write_text(json.dumps({"0/curve": {"examples": 3, "every": 2}}) + "\n")
    monkeypatch.setattr(curve, "planned", lambda **_: pytest.fail("planned anew"))
    run = pt.finetune(tmp_path / "photos", out=out, **SETTINGS)
    events = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    assert [(e["epoch"], e["examples"]) for e in events if e["event"] == "evaluated"] == [(2, 3), (4, 3)]


def test_a_split_that_selects_is_the_curve_and_no_other_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path / "photos", 12)
    monkeypatch.setattr(score, "sampled", lambda *_, **__: pytest.fail("a curve was sampled"))
    run = pt.finetune(tmp_path / "photos", out=tmp_path / "run", patience=3, **SETTINGS)
    events = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    assert {(e["split"], e["examples"]) for e in events if e["event"] == "evaluated"} == {("select", None)}
    assert "for information only" not in (run.path / "report.html").read_text()


# --- what the report says of it ------------------------------------------------------------------

SCORE = _curves.Score(split="val", metrics={"accuracy": 0.9}, examples=50, counts={"val": 50})


def test_the_score_ends_a_curve_that_has_no_point_there() -> None:
    steps = [{**event, "epoch": 0} for event in stepped([1.0, 0.5, 0.2])]
    built = _curves.build(steps, "accuracy", SCORE)
    assert built is not None
    assert [chart["title"] for chart in built["phases"][0]["charts"]] == ["loss", "accuracy", "learning rate"]
    point = {**evaluated([0.7])[0], "step": 2, "examples": 50}
    drawn = _curves.build([*steps, point], "accuracy", SCORE)
    assert drawn is not None
    assert str(drawn["phases"][0]["charts"][1]["drawing"]).count("<circle") == 1, "it was measured at its end"
    assert drawn["chooses"].startswith("val is also what the run is scored on: its curve is for information only. No weights")


def test_accuracies_are_drawn_in_percent_and_steps_are_counted_in_epochs() -> None:
    steps = [{**event, "step": event["step"] + 1, "epoch": event["step"] // 3} for event in stepped([1.0] * 6)]
    points = [{**event, "step": 3 * (number + 1), "examples": 50} for number, event in enumerate(evaluated([0.7, 0.9]))]
    built = _curves.build([*steps, *points], "accuracy", SCORE)
    assert built is not None
    drawing = str(built["phases"][0]["charts"][1]["drawing"])
    assert "accuracy (%)" in drawing
    assert "step (3 to an epoch)" in drawing
    assert ">80<" in drawing
    perfect = _curves.build([*steps, {**points[0], "metrics": {"accuracy": 1.0}}], "accuracy", SCORE)
    assert perfect is not None
    ticks = re.findall(r">([0-9.]+)</text>", str(perfect["phases"][0]["charts"][1]["drawing"]))
    assert max(map(float, ticks)) <= 100, "no axis goes above 100 %"
