"""The harness measures what it says, and docs/benchmarks.md is what the results say."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import measure, table
from benchmarks.cases._base import last_json, pretune_metrics
from benchmarks.cases.trained import CASE as TRAINED
from benchmarks.run import CASES, _order


def result(foreign: float = 0.0) -> dict[str, Any]:
    def run(seconds: float, accuracy: float) -> dict[str, float]:
        return {"wall_s": seconds + 1, "to_weights_s": seconds, "accuracy": accuracy, "peak_mb": 1000.0, "foreign_cpu": foreign}

    measures = [
        {"name": "to_weights_s", "title": "to saved weights, s", "better": "less", "digits": 1},
        {"name": "accuracy", "title": "val accuracy", "better": "none", "digits": 3},
        {"name": "images_per_s", "title": "images/s", "better": "more", "digits": 1},
    ]
    versions = {"python": "3.11.7", "torch": "2.14.1", "torchvision": "0.29.1", "fastai": "2.8", "transformers": "5.0"}
    return {
        "case": "trained",
        "title": "Time to a trained model",
        "what": "What was done.",
        "date": "2026-11-22",
        "commit": "abc1234",
        "data": "photos",
        "machine": {"cpu": "A CPU", "bf16": "none", "cores": 2, "memory_gb": 24, "system": "Linux"},
        "versions": {"ours": versions, "peers": versions},
        "measures": measures,
        "ours": ["pretune"],
        "rivals": [["pretune", "peer"]],
        "runs": {"pretune": [run(10, 0.95), run(8, 0.94), run(9, 0.96)], "peer": [run(100, 0.9), run(40, 0.9), run(81, 0.9)]},
    }


def test_section_shows_medians_and_ratios_within_rounds():
    page = table.section(result())
    assert "| **pretune** | 9.0 | 0.950 |" in page
    assert "| peer | 81.0 | 0.900 |" in page
    assert "| peer | **9.00** (5.00 to 10.00) |" in page  # 100/10, 40/8, 81/9
    assert "images/s" not in page.splitlines()[4]  # nobody measured it
    assert "not quiet" not in page


def test_section_marks_a_busy_machine():
    assert "**The machine was not quiet: others used up to 0.7 CPUs.**" in table.section(result(foreign=0.7))


def test_more_is_better_turns_the_ratio():
    more = {"name": "rate", "better": "more"}
    assert table.ratios([{"rate": 30.0}], [{"rate": 10.0}], more) == [3.0]


def test_page_is_generated_from_the_results():
    assert table.PAGE.read_text(encoding="utf-8") == table.page(), "run: python -m benchmarks.table"


def test_results_name_no_place_on_the_machine_they_came_from():
    found = sorted(table.RESULTS.glob("*.json"))
    assert found
    for path in found:
        values = json.loads(path.read_text(encoding="utf-8"))
        assert values["case"] == path.stem
        assert '"/' not in path.read_text(encoding="utf-8")


def test_every_case_has_measured_rivals():
    for name in CASES:
        case = importlib.import_module(f"benchmarks.cases.{name}").CASE
        names = {contestant.name for contestant in case.contestants}
        assert case.name == name
        assert case.rivals
        assert {name for pair in case.rivals for name in pair} <= names
        assert any(measure.better != "none" for measure in case.measures)


def test_rounds_rotate_who_begins():
    order = [contestant.name for _, contestant in _order(TRAINED, 2)]
    count = len(TRAINED.contestants)
    assert sorted(order[:count]) == sorted(order[count:])
    assert order[count] == order[1]


def test_run_observes_time_memory_children_and_weights(tmp_path: Path):
    code = (
        "import subprocess, sys, time; block = bytearray(150_000_000); time.sleep(0.3); open('w.bin', 'w').close(); "
        "subprocess.run([sys.executable, '-c', 'import time; block = bytearray(100_000_000); time.sleep(0.8)']); print('{\"accuracy\": 1}')"
    )
    seen = measure.run([sys.executable, "-c", code], cwd=tmp_path, env={}, weights="*.bin")
    assert seen.to_weights_s is not None
    assert 0.25 < seen.to_weights_s < seen.wall_s
    assert seen.wall_s > 1.1
    assert seen.peak_mb > 240  # parent and child together
    assert last_json(seen.stdout, tmp_path) == {"accuracy": 1}


def test_run_reports_a_failure_with_its_words(tmp_path: Path):
    with pytest.raises(measure.CommandFailed, match="no such luck"):
        measure.run([sys.executable, "-c", "raise SystemExit('no such luck')"], cwd=tmp_path, env={}, weights=None)
    with pytest.raises(measure.CommandFailed, match="left no"):
        measure.run([sys.executable, "-c", ""], cwd=tmp_path, env={}, weights="*.bin")


def test_our_rate_counts_the_last_phase_after_its_first_epoch(tmp_path: Path):
    steps = [("probe", 0, 0.1), ("probe", 1, 0.2), ("full", 0, 1.0), ("full", 0, 5.0), ("full", 1, 6.0), ("full", 1, 7.0), ("full", 2, 8.0)]
    events = [{"event": "stepped", "phase": phase, "epoch": epoch, "seconds": seconds, "size": 10} for phase, epoch, seconds in steps]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "events.jsonl").write_text("\n".join(json.dumps(event) for event in [{"event": "started"}, *events]))
    assert pretune_metrics('{"val": {"accuracy": 0.9}}', tmp_path) == {"accuracy": 0.9, "images_per_s": 10.0}
