"""A folder is a registry: file name = public name = CLI name = docs heading.

`strategies/linear_probe.py` holds the class `LinearProbe` and its first docstring line is its summary.
Names and summaries are read without importing anything; a third party adds members through the
entry-point group `pretune.<family>` (name = public name, value = "module:Class").
"""

import ast
import functools
import importlib
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from pretune.errors import SettingError, did_you_mean

_ROOT = Path(__file__).parent
FAMILIES = (
    "modalities",
    "augmentations",
    "architectures",
    "backbones",
    "heads",
    "tasks",
    "strategies",
    "objectives",
)
_FOLDERS = {"heads": "models/heads"}


def _folder(family: str) -> Path:
    if family not in FAMILIES:
        raise SettingError(f"no family of components is called {family!r}. {did_you_mean(family, FAMILIES)}")
    return _ROOT / _FOLDERS.get(family, family)


@functools.cache
def _plugins(family: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"pretune.{family}")}


def names(family: str) -> list[str]:
    """Return the public names of a family, sorted, without importing its members."""
    files = {path.stem for path in _folder(family).glob("*.py") if not path.stem.startswith("_")}
    return sorted(files | set(_plugins(family)))


def summary(family: str, name: str) -> str:
    """Return the first docstring line of a member, read from its source without importing it."""
    path = _folder(family) / f"{name}.py"
    if not path.exists():
        return f"from {_plugins(family)[name].value}"
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return doc.partition("\n")[0]


def load(family: str, name: str) -> type:
    """Import and return the class of a member.

    Raises:
        SettingError: no member has this name; the message lists the nearest first.
    """
    if name not in names(family):
        singular = {"modalities": "modality", "strategies": "strategy"}.get(family, family.removesuffix("s"))
        raise SettingError(f"no {singular} is called {name!r}. {did_you_mean(name, names(family))}")
    if name in _plugins(family):
        return _plugins(family)[name].load()
    module = importlib.import_module(f"pretune.{_FOLDERS.get(family, family).replace('/', '.')}.{name}")
    wanted = name.replace("_", "")
    for attribute in vars(module).values():
        if isinstance(attribute, type) and attribute.__module__ == module.__name__ and attribute.__name__.lower() == wanted:
            return attribute
    raise AssertionError(f"{module.__name__} must define a class called like its file")


def name_of(component: object) -> str:
    """Return the public name of a component instance or class (the stem of its module)."""
    cls = component if isinstance(component, type) else type(component)
    return cls.__module__.rpartition(".")[2]
