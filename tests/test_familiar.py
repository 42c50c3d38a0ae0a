"""Figures on examples that a run learned from are not taken for those of new data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pretune.deploy.familiar import learned, warning
from pretune.errors import DataError


def run_of(folder: Path, data: object, counts: object, held: str) -> Path:
    """Write what a run says of the data that it learned from."""
    folder.mkdir()
    (folder / "recipe.json").write_text(json.dumps({"recipe": {"data": data}}))
    (folder / "metrics.json").write_text(json.dumps({"counts": counts}))
    (folder / "predictions.csv").write_text(held)
    return folder


COUNTS = {"used": 5, "dropped": 0, "train": 2, "select": 1, "val": 2, "per_class": {}}
HELD = "id,split,target,prediction\nd.csv:5,val,a,a\nd.csv:6,val,b,a\n"
ITEMS = [f"d.csv:{line}" for line in range(2, 7)]


def test_examples_that_trained_or_selected_are_counted_and_those_held_out_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = run_of(tmp_path / "run", "d.csv", COUNTS, HELD)
    assert learned(run, tmp_path / "d.csv", ITEMS) == 3
    assert learned(run, Path("d.csv"), ITEMS[3:]) == 0
    assert learned(run, tmp_path / "other" / "d.csv", ITEMS) == 0
    assert "learned from 3 of these 5 examples" in warning(3, 5, run)


def test_examples_that_were_held_out_but_not_measured_are_not_counted(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", str(tmp_path / "d.csv"), COUNTS, HELD.rsplit("d.csv", 1)[0])
    assert learned(run, tmp_path / "d.csv", ITEMS) == 3


@pytest.mark.parametrize("data", [None, 3])
def test_a_run_that_does_not_say_counts_none(tmp_path: Path, data: object) -> None:
    assert learned(tmp_path, tmp_path / "d.csv", ITEMS) == 0
    run = run_of(tmp_path / "run", data, [], HELD)
    assert learned(run, tmp_path / "d.csv", ITEMS) == 0


def test_damaged_files_are_named(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", str(tmp_path / "d.csv"), COUNTS, HELD)
    (run / "recipe.json").write_text("{")
    with pytest.raises(DataError, match=r"recipe\.json"):
        learned(run, tmp_path / "d.csv", ITEMS)
