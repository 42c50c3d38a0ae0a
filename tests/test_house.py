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


# --- words of the field (docs/architecture.md, "Names") -----------------------------------------------------------------

RETIRED = {
    "held": "validation, held_out",
    "told": "record, values, predicted",
    "said": "messages, message",
    "says": "is_…, has_…",
    "tell": "report, distinguish",
    "tells": "distinguishes",
    "heard": "attended",
    "hears": "attends",
    "drawn": "sampled",
    "picture": "image",
    "pictures": "images",
    "sound": "audio, clip",
    "sounds": "audio, clips",
    "fresh": "untrained, from_scratch",
    "aside": "ignored, overhead",
    "drops": "plateaus, dropped",
    "surroundings": "context",
    "around": "context, interval",
    "material": "data",
    "carry": "run",
}
"""Words that no name may hold -> what to write instead."""
ALLOWED = {
    "held": "the public setting held= of pretraining, and held= of a module of one's own",
    "held_out": "the field's word for examples that are not trained on",
    "picture": "a field of Audio that is saved with every backbone (builder.json)",
    "tell": "the method of a file",
}
"""Names that stay, each with its reason; a name that begins with one of them and an underscore, or ends so, stays too."""
RIDDLES = re.compile(
    r"\b(?:[Tt]ell whether|is told|are told|to be said of|fresh weights|[Pp]ictures?(?!/| \(for|\w)|is heard|[Cc]arry out)\b"
)
"""Phrases that no docstring may hold."""


def words_of(name: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def is_allowed(name: str) -> bool:
    plain = name.strip("_").lower()
    return plain in ALLOWED or re.search(r"(^|_)held_?out(_|$)", plain) is not None or name.startswith("HeldOut")


def defined(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and name of everything that a module defines: classes, functions, parameters, variables, attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


def retired_names(path: Path) -> list[str]:
    names = [(0, path.stem), *defined(ast.parse(path.read_text(encoding="utf-8")))]
    found = {(line, name, word) for line, name in names if not is_allowed(name) for word in words_of(name) & RETIRED.keys()}
    return [f"{path.name}:{line} {name}: write {RETIRED[word]} instead of {word}" for line, name, word in sorted(found)]


def riddles(path: Path) -> list[str]:
    """Return the docstrings of a module, its classes, functions and fields that hold a retired phrase."""
    bodies = (getattr(node, "body", ()) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    strings = (line.value for body in bodies if isinstance(body, list) for line in body if isinstance(line, ast.Expr))
    docs = [(doc.lineno, str(doc.value)) for doc in strings if isinstance(doc, ast.Constant) and isinstance(doc.value, str)]
    return [f"{path.name}:{line} {match.group()}" for line, text in docs if (match := RIDDLES.search(text))]


def classes_of(paths: list[Path]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(f"{path.name}:{node.lineno}")
    return found


def test_names_use_the_words_of_the_field() -> None:
    assert not [line for path in MODULES for line in retired_names(path)]


def test_docstrings_use_the_words_of_the_field() -> None:
    assert not [line for path in MODULES for line in riddles(path)]


def test_a_class_name_stands_for_one_thing() -> None:
    assert not {name: places for name, places in classes_of(MODULES).items() if len(places) > 1}


def test_the_check_of_names_can_fail(tmp_path: Path) -> None:
    made = tmp_path / "sounds.py"
    made.write_text(
        'class Heard:\n    """Tell whether it is told."""\n\n\ndef say(said: list, held_out: int) -> None:\n    """Report."""\n    '
        "told = said\n\n\nclass Heard:\n    pass\n",
        encoding="utf-8",
    )
    assert [line.split()[1] for line in retired_names(made)] == ["sounds:", "Heard:", "said:", "told:", "Heard:"]
    assert riddles(made) == ["sounds.py:2 Tell whether"]
    assert classes_of([made])["Heard"] == ["sounds.py:1", "sounds.py:10"]
