"""Rules of the house that no linter knows: small files and functions, families that know only their base, a light start."""

import ast
import dataclasses
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import pretune
from pretune import registry

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "pretune"
HEAVY = ("torch", "torchvision", "timm", "transformers", "sklearn", "scipy", "pandas", "PIL", "soundfile", "matplotlib")
MODULES = sorted(SOURCE.rglob("*.py"))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def test_files_and_functions_are_small():
    long_files = {path.name: n for path in MODULES if (n := len(path.read_text(encoding="utf-8").splitlines())) > 400}
    sizes = {f"{path.name}:{f.name}": (f.end_lineno or f.lineno) - f.lineno + 1 for path in MODULES for f in functions(path)}
    assert len(MODULES) > 200
    assert len(sizes) > 1000
    assert not long_files
    assert not {name: n for name, n in sizes.items() if n > 60}


def test_functions_take_few_parameters():
    wide = {
        f"{path.name}:{f.name}": count
        for path in MODULES
        for f in functions(path)
        if (count := len(f.args.args) + len(f.args.kwonlyargs)) > 8
    }
    assert not wide


def test_no_file_has_an_empty_name():
    vague = {"utils", "helpers", "common", "manager", "misc", "engine"}
    assert not [path for path in MODULES if path.stem.strip("_") in vague or path.parent.name in vague]


@pytest.mark.parametrize("family", registry.FAMILIES)
def test_members_of_a_family_do_not_import_each_other(family: str):
    folder = registry._folder(family)
    package = "pretune." + ".".join(folder.relative_to(SOURCE).parts)
    members = {f"{package}.{name}" for name in registry.names(family)}
    met = {path.stem: sorted(imported(path) & members - {f"{package}.{path.stem}"}) for path in folder.glob("[!_]*.py")}
    assert {f"{package}.{name}" for name in met} == members
    assert not {name: others for name, others in met.items() if others}


def private(path: Path) -> set[str]:
    """Return what a file imports that another package calls its own: files and names that begin with one underscore."""
    package = f"pretune.{'.'.join(path.relative_to(SOURCE).parent.parts)}.".replace("..", ".")
    names = (name.split(".") for name in imported(path) if name.startswith("pretune."))
    owners = {".".join(parts): ".".join(parts[:at]) for parts in names for at, part in enumerate(parts) if re.match("_(?!_)", part)}
    return {name for name, owner in owners.items() if not package.startswith(f"{owner}.")}


def test_names_with_an_underscore_stay_in_their_package():
    assert private(SOURCE / "backbones" / "_load.py") == set()
    assert not {str(path): sorted(names) for path in MODULES if (names := private(path))}


def test_every_member_has_a_summary_and_a_class():
    for family in registry.FAMILIES:
        assert registry.names(family)
        for name in registry.names(family):
            assert registry.summary(family, name).endswith((".", ":")), f"{family}/{name}: the first docstring line is its summary"


@pytest.mark.parametrize("family", registry.FAMILIES)
def test_every_member_is_a_frozen_dataclass_of_its_familys_base_class(family: str):
    base = registry._base(family)
    assert issubclass(base, registry.Component)
    members = [registry.load(family, name) for name in registry.names(family)]
    assert [cls.__name__ for cls in members if not issubclass(cls, base)] == []
    loose = [cls.__name__ for cls in members if not vars(cls)["__dataclass_params__"].frozen]
    loose += [cls.__name__ for cls in members if any(not field.kw_only for field in dataclasses.fields(cls))]
    assert loose == []


def asked(path: Path) -> list[str]:
    """Return where a file asks by name what a component can: `hasattr` or `getattr` of one, with a constant name."""
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    named = [call for call in calls if ast.unparse(call.func) in ("hasattr", "getattr") and isinstance(call.args[1], ast.Constant)]
    return [f"{path.name}: {text}" for call in named if COMPONENTS.search((text := ast.unparse(call)).partition(",")[0])]


COMPONENTS = re.compile(r"modality|source|sizes|part|augmentation|task|strategy|objective|learner|head\b|registry")


def test_nothing_asks_a_component_by_name_what_it_can():
    assert [call for path in MODULES for call in asked(path)] == []


def test_command_line_starts_without_heavy_imports():
    code = f"import sys, pretune, pretune.cli.main; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_package_version_and_licence():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert f"## {project['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_weights_requirements_are_pinned_by_hash():
    lines = (ROOT / "requirements-weights.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert pins
    assert all("==" in line and "--hash=sha256:" in line for line in pins)


def test_every_public_name_leads_somewhere() -> None:
    assert [name for name in pretune.__all__ if not hasattr(pretune, name)] == []
