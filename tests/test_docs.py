"""The code of the guides runs: every ```python block of a page, in order, in one namespace."""

import ast
import csv
import importlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pretune
from pretune import config, registry
from pretune.augmentations import ViewAugmentation, preset
from pretune.augmentations._presets import NAMES
from pretune.cli.arguments import parse
from pretune.cli.verbs import VERBS, settings_of
from tests.test_flows import folder

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CODE = {
    "docs/extend/augmentation.md": 2,
    "docs/extend/backbone.md": 2,
    "docs/extend/layout.md": 2,
    "docs/extend/modality.md": 3,
    "docs/extend/objective.md": 3,
    "docs/extend/strategy.md": 3,
    "docs/extend/task.md": 5,
    "docs/faq.md": 1,
    "docs/learn.md": 3,
    "docs/python.md": 5,
}
"""Python blocks of each page that has some."""
SMALL = "scratch:cnn,width=8,depth=1"
HERE = {'"torchvision:resnet50"': f'"{SMALL}", image_size=16, precision="float32"', "epochs=5": "epochs=1"}
"""What a page's code names that is too large for a test, and what takes its place."""


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def fences(page: Path) -> list[tuple[str, str]]:
    """Return language and content of each fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def blocks(page: Path) -> list[str]:
    return [content for language, content in fences(page) if language == "python"]


def run(code: list[str], page: str) -> dict[str, Any]:
    """Run blocks in one namespace and return it."""
    module = types.ModuleType(f"page_{Path(page).stem}")
    sys.modules[module.__name__] = module  # dataclasses look their module up
    try:
        for block in code:
            exec(compile(block, page, "exec"), module.__dict__)
    finally:
        del sys.modules[module.__name__]
    return module.__dict__


def stage(home: Path) -> None:
    """Lay out what the pages' code reads."""
    folder(home / "photos", 8)
    (home / "photos" / "broken.jpg").write_bytes(b"no picture")
    (home / "photos").rename(home / "new_photos")
    folder(home / "photos", 8)
    recipe = next(content for language, content in fences(ROOT / "docs" / "python.md") if language == "toml")
    small = f'backbone = "{SMALL}"\nimage_size = 16\nprecision = "float32"'
    (home / "cats.toml").write_text(recipe.replace('backbone = "torchvision:resnet50"', small).replace("epochs = 5", "epochs = 1"))


def test_the_pages_have_their_python() -> None:
    assert {name_of(page): len(blocks(page)) for page in PAGES if blocks(page)} == CODE


def test_python_that_takes_too_long_to_run_names_what_there_is() -> None:
    plain = [content for page in PAGES for language, content in fences(page) if not language and "import pretune" in content]
    assert len(plain) == 1
    for tree in map(ast.parse, plain):
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(str(node.module))
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
        used = [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pt"]
        assert used
        assert [name for name in used if not hasattr(pretune, name)] == []


@pytest.mark.parametrize("page", CODE)
def test_python_blocks_run(page: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage(home)
    code = blocks(ROOT / page)
    checks = [node for block in code for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Assert)]
    assert checks, "a page's code says what comes out"
    for named, instead in HERE.items():
        code = [block.replace(named, instead) for block in code]
    names = run(code, page)
    if page == "docs/python.md":
        rows = capsys.readouterr().out.splitlines()[1:]
        rows, messages = rows[:17], rows[17:]
        assert [line for line in messages if re.fullmatch(r"full: \d+ steps", line)], "the reporter of the page"
        assert all(len(row.split()) >= 3 for row in rows)
        assert sum(row.startswith("broken.jpg None ") for row in rows) == 1, "a bad input has an error and no prediction"
        assert {row.split()[1] for row in rows} == {"disc", "square", "None"}
        assert recipe_of(pretune.Run(path=Path("runs/cats")))["strategy"]["last"] == 3, "the recipe in a file, with its override"
        assert "<table>" in names["run"]._repr_html_()


def recipe_of(run: pretune.Run) -> dict[str, Any]:
    return json.loads((run.path / "recipe.json").read_text())["recipe"]


def test_code_that_is_wrong_is_noticed() -> None:
    with pytest.raises(AssertionError):
        run(["x = 1\n", "assert x == 2\n"], "docs/page.md")
    with pytest.raises(NameError, match="undefined"):
        run(["undefined()\n"], "docs/page.md")


def test_links_between_pages_lead_somewhere() -> None:
    links = [(page, target) for page in PAGES for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text(encoding="utf-8"))]
    assert len(links) > 25
    assert [(name_of(page), target) for page, target in links if not (page.parent / target).exists()] == []


def commands(page: Path) -> list[str]:
    """Return the lines of a page's fences that run pretune, without comments and without output."""
    lines = [line for language, content in fences(page) if not language for line in content.splitlines()]
    found = [match[1] for line in lines if (match := re.match(r"(?:\$ )?(?:.* && )?(?:\S*/bin/|(?:\w+=\S+ )*)pretune +([a-z].*)", line))]
    return [re.split(r"\s+#| {3,}(?=\w+,? \w)| && | > ", line)[0] for line in found]


def accepted(line: str) -> None:
    """Read a command as the command line does, up to where data or runs would be opened."""
    arguments = parse(shlex.split(line))
    least, most = VERBS[arguments.verb].words
    words = len(arguments.words) + bool(arguments.recipes)
    assert least <= words <= most, line
    settings = settings_of(arguments.verb)
    tree = config.override({}, arguments.settings)
    if arguments.verb == "predict" and isinstance(tree.get("task"), dict):  # the settings of the run's task, whatever it is
        tree["task"] = {"name": "text_generation"} | tree["task"]
    if settings is not None:
        config.build(settings, tree | ({"data": "x"} if "data" in config.keys(settings) else {}))


def test_commands_of_the_pages_are_accepted() -> None:
    wrong = {"learning_rate=0.1": "lr=0.1"}  # shown with its answer
    counts = {name_of(page): 0 for page in PAGES}
    for page in PAGES:
        for line in commands(page):
            for asked, answered in wrong.items():
                line = line.replace(asked, answered)
            accepted(line)
            counts[name_of(page)] += 1
    assert counts["README.md"] > 5
    assert [page for page, count in counts.items() if page.startswith("docs/tasks/") and not count] == []


SECTIONS = ("The data", "What is trained", "What is measured", "What it gives", "Predicting", "Limits")
"""Of a page on a task, in this order; the first three are on every page."""


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "tasks").glob("*.md")), ids=name_of)
def test_pages_of_tasks_have_the_same_sections_and_are_linked(page: Path) -> None:
    found = [line.removeprefix("## ") for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("## ")]
    shared = [name for name in found if name in SECTIONS]
    assert shared[:3] == [*SECTIONS[:3]]
    assert shared == [name for name in SECTIONS if name in shared]
    assert f"(tasks/{page.name})" in (ROOT / "docs" / "learn.md").read_text(encoding="utf-8")


def test_a_wrong_command_is_noticed() -> None:
    for line in ("finetune photos/ learning_rate=0.1", "finetun photos/", "predict", "finetune a b"):
        with pytest.raises((pretune.SettingError, AssertionError)):
            accepted(line)


def test_settings_of_the_glossary_are_accepted() -> None:
    rows = [line.split("|")[1] for line in (ROOT / "docs" / "glossary.md").read_text().splitlines() if line.startswith("| `")]
    settings = [code for row in rows for code in re.findall(r"`(\S+=[^`]+)`", row)]
    assert len(settings) > 30
    for code in settings:
        accepted(f"finetune photos/ {code}")


def table_of(page: str, member: str) -> dict[str, list[str]]:
    """Return the cells of a table's rows by the member that each names first; the table is the one that names `member`."""
    tables = re.findall(r"(?:^\|.*\n)+", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    table = next(table for table in tables if f"\n| `{member}` |" in table)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {row[0].strip("`"): row[1:] for row in rows}


def test_the_table_of_augmentations_says_what_they_are() -> None:
    rows = table_of("docs/learn.md", "flip")
    assert set(rows) == set(registry.names("augmentations"))
    for name, (modalities, acts, presets, *_) in rows.items():
        member = registry.load("augmentations", name)
        assert set(modalities.split(", ")) == member.modalities
        assert acts == ("view" if issubclass(member, ViewAugmentation) else "batch")
        having = [p for p in NAMES if any(isinstance(part, member) for m in member.modalities for part in preset(p, m))]
        assert presets == (", ".join(having) or "–"), name


def test_every_task_has_its_row() -> None:
    rows = table_of("docs/learn.md", "retrieval")
    assert set(registry.names("tasks")) <= set(rows)
    assert all(len(cells) == 5 and all(cells) for cells in rows.values())


def test_the_table_of_strategies_says_their_defaults() -> None:
    rows = table_of("docs/learn.md", "linear_probe")
    assert list(rows) == ["linear_probe", "partial", "full", "lora"]
    for name, cells in rows.items():
        defaults = registry.load("strategies", name).defaults
        assert cells[-1].endswith(f"{defaults.lr:g}, {defaults.epochs}, {defaults.augment}"), name


def installed_plugin(root: Path) -> Path:
    """Lay the modality page out as an installed package: its modules, its entry points."""
    text = (ROOT / "docs" / "extend" / "modality.md").read_text(encoding="utf-8")
    code = blocks(ROOT / "docs" / "extend" / "modality.md")
    names = re.findall(r"`(\w+)\.py`[:.]", text)[:2]
    (root / "motion-1.0.dist-info").mkdir(parents=True)
    assert len(names) == 2
    for name, content in zip(names, code[:2], strict=True):
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
    assert [row["prediction"] for row in rows] == ["run", "run", "walk", "walk"]
    assert [row["id"].split("/")[0] for row in rows] == [row["prediction"] for row in rows]
