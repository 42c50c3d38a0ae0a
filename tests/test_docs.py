"""The code of the guides runs: every ```python block of a page, in order, in one namespace."""

import csv
import io
import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=lambda p: p.relative_to(ROOT).as_posix())
def test_python_blocks_run(page: Path, home: Path) -> None:
    name = f"page_{page.stem}"
    module = types.ModuleType(name)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        for block in blocks(page):
            exec(compile(block, str(page), "exec"), module.__dict__)
    finally:
        del sys.modules[name]


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


def installed_plugin(root: Path) -> Path:
    """Lay the modality page out as an installed package: its modules, its entry points."""
    text = (ROOT / "docs" / "extend" / "modality.md").read_text(encoding="utf-8")
    code = blocks(ROOT / "docs" / "extend" / "modality.md")
    names = re.findall(r"`(\w+)\.py`[:.]", text)[:2]
    (root / "motion-1.0.dist-info").mkdir(parents=True)
    for name, content in zip(names, code, strict=False):
        (root / f"{name}.py").write_text(content)
    points = re.search(r"^```toml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert points is not None
    ini = re.sub(r'project\.entry-points\."(.*)"', r"\1", points[1]).replace('"', "")
    (root / "motion-1.0.dist-info" / "entry_points.txt").write_text(ini)
    (root / "motion-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: motion\nVersion: 1.0\n")
    return root


def write_walks(root: Path, count: int) -> None:
    rng = np.random.default_rng(count)
    for name, hertz in (("walk", 1.8), ("run", 2.9)):
        (root / name).mkdir(parents=True)
        for i in range(count):
            t = np.arange(rng.integers(80, 200)) / 50
            swing = np.sin(2 * np.pi * (hertz * t[:, None] + rng.random(3)))
            np.save(root / name / f"{i}.npy", swing * (3, 2, 1) + (0, 0, 9.81) + 0.3 * rng.standard_normal((len(t), 3)))


def test_the_modality_of_the_page_works_when_it_is_installed(home: Path) -> None:
    plugin = installed_plugin(home / "plugin")
    write_walks(home / "walks", 40)
    (home / "walks" / "run" / "broken.npy").write_bytes(b"no array")
    write_walks(home / "new_walks", 2)
    environment = {**os.environ, "PYTHONPATH": str(plugin), "OMP_NUM_THREADS": "1"}

    def pretune(*words: str) -> str:
        command = [sys.executable, "-m", "pretune", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    assert "motion" in pretune("list", "modalities")
    found = json.loads(pretune("audit", "walks", "--json"))
    assert (found["modality"], found["counts"]["dropped"]) == ("motion", 1)
    metrics = json.loads(pretune("finetune", "walks/", "backbone=scratch:cnn", "--json", "--offline"))
    assert metrics["run"] == "runs/walks-scratch-001"
    assert metrics["primary"]["value"] >= 0.9
    assert "mean change of each axis" in metrics["floors"]["classical"]["what"]
    rows = list(csv.DictReader(io.StringIO(pretune("predict", metrics["run"], "new_walks/"))))
    assert [row["id"].split("/")[0] for row in rows] == [row["prediction"] for row in rows]
