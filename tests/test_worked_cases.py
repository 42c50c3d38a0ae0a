"""The worked cases of the guides: their commands are those of the script, and their data are made without a network."""

from __future__ import annotations

import csv
import importlib.machinery
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from pretune.sources import sources
from pretune.sources.table import Columns

ROOT = Path(__file__).parent.parent


def script() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("worked_cases", str(ROOT / "scripts" / "worked_cases"))
    spec = importlib.util.spec_from_loader("worked_cases", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


WORKED = script()


@pytest.mark.parametrize("name", WORKED.CASES)
def test_a_page_shows_the_commands_of_its_case_and_what_came_of_them(name: str) -> None:
    page = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    block = page.partition(WORKED.START)[2].partition(WORKED.END)[0]
    assert tuple(re.findall(r"^\$ (.*)$", block, re.MULTILINE)) == WORKED.CASES[name]
    assert re.search(r"^val accuracy \d+\.\d % \(95 % interval ", block, re.MULTILINE)
    assert re.search(r"^id,prediction,confidence,", block, re.MULTILINE)
    assert "/tmp" not in block


@pytest.mark.parametrize(
    ("name", "made", "new", "modality", "classes"),
    [
        ("images", "photos", "new_photos", "image", {"brick", "grass", "gravel"}),
        ("text", "docstrings.csv", "new_docstrings.csv", "text", {"asyncio", "email", "tkinter", "unittest"}),
        ("audio", "clips", "new_clips", "audio", {"bell", "engine", "siren"}),
    ],
)
def test_the_data_of_a_case_are_read_as_the_page_says(
    name: str, made: str, new: str, modality: str, classes: set[str], tmp_path: Path
) -> None:
    WORKED.MAKERS[name](tmp_path)
    table = sources.read(tmp_path / made, Columns())
    assert table.modality == modality
    assert {row.target for row in table.rows} == classes
    assert len(table.rows) >= 80
    count = len(list(csv.DictReader((tmp_path / new).open()))) if new.endswith(".csv") else len(list((tmp_path / new).iterdir()))
    assert count == 6
