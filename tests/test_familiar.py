"""Figures on examples that a run learned from are not taken for those of new data."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pretune.deploy import scored
from pretune.deploy.familiar import learned, sampled, warning
from pretune.errors import DataError
from pretune.types import Row


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


def test_splits_that_a_run_sampled_are_known_where_it_measured_all_of_them(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", str(tmp_path / "d.csv"), COUNTS, HELD)
    assert sampled(run, tmp_path / "d.csv") == {"d.csv:5": "val", "d.csv:6": "val"}
    assert sampled(run, tmp_path / "e.csv") == {}
    (run / "metrics.json").write_text(json.dumps({"counts": COUNTS | {"val": 3}}))
    assert sampled(run, tmp_path / "d.csv") == {}, "val had more examples than were measured"


def test_a_split_that_the_run_sampled_can_be_evaluated_by_its_name() -> None:
    rows = [Row(id=name, target="ant") for name in ("a", "b", "c")]
    table = SimpleNamespace(rows=rows, columns={})
    task = SimpleNamespace(pieces=lambda row, _: [row])
    predictor: Any = SimpleNamespace(space=SimpleNamespace(classes=["ant"]), task=task, modality=None)

    def names(part: str | None, splits: dict[str, str]) -> list[str]:
        return [row.id for row in scored.rows_of(predictor, cast(Any, table), part, "photos", splits)[0]]

    assert names("val", {"b": "val"}) == ["b"]
    assert names(None, {"b": "val"}) == ["a", "b", "c"]
    with pytest.raises(DataError, match="recorded those it was scored on: val"):
        names("train", {"b": "val"})
    with pytest.raises(DataError, match="leave out part= to score all examples"):
        names("val", {})
    rows[0] = replace(rows[0], split="test")
    assert names("test", {"b": "val"}) == ["a"], "splits of the data come first"
    with pytest.raises(DataError, match="Splits there: test"):
        names("val", {"b": "val"})
