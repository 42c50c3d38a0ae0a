"""The small tools of the command line: predictions to a file, and what shows, compares and checks."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

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


@pytest.mark.parametrize(("out", "said"), [("p.txt", "ends in .csv"), ("no/p.csv", "there is no folder no"), ("photos", "ends in .csv")])
def test_predictions_cannot_go_everywhere(photos: Path, out: str, said: str) -> None:
    assert said in pretune("predict", "run", "photos", f"out={out}", code=2).stderr


def test_predictions_do_not_replace_what_they_were_made_from(home: Path, photos: Path) -> None:
    (home / "list.csv").write_text("path\nphotos/x/0.png\n")
    assert "is the file that is read" in pretune("predict", "run", "list.csv", "out=list.csv", code=2).stderr
