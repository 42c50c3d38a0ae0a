"""A folder is a registry: file name = public name = CLI name = docs heading.

`strategies/linear_probe.py` holds the class `LinearProbe` and its first docstring line is its summary.
Names and summaries are read without importing anything; a third party adds members through the
entry-point group `pretune.<family>` (name = public name, value = "module:Class").
"""

import ast
import dataclasses
import functools
import importlib
import re
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

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
_BASES = {
    "modalities": "Modality",
    "augmentations": "Augmentation",
    "architectures": "Architecture",
    "backbones": "BackboneSource",
    "heads": "Head",
    "tasks": "Task",
    "strategies": "Strategy",
    "objectives": "Objective",
}


def _package(family: str) -> str:
    return f"pretune.{_FOLDERS.get(family, family).replace('/', '.')}"


_PACKAGES = frozenset(map(_package, FAMILIES))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Component:
    """A member of a family: its settings, and what acts by them.

    Each family has a base class, derived from this one, whose methods and flags have defaults. A member is a frozen keyword-only
    dataclass derived from that; the registry gives it its name.
    """


def _folder(family: str) -> Path:
    if family not in FAMILIES:
        raise SettingError(f"no family of components is called {family!r}. {did_you_mean(family, FAMILIES)}")
    return _ROOT / _FOLDERS.get(family, family)


@functools.cache
def _plugins(family: str) -> dict[str, tuple[EntryPoint, ...]]:
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for point in entry_points(group=f"pretune.{family}"):
        others = found.get(point.name, ())
        found[point.name] = others if any(point.value == other.value for other in others) else (*others, point)
    return found


def _own(family: str) -> set[str]:
    return {path.stem for path in _folder(family).glob("*.py") if not path.stem.startswith("_")}


def names(family: str) -> list[str]:
    """Return the public names of a family, sorted, without importing its members."""
    return sorted(_own(family) | set(_plugins(family)))


def summary(family: str, name: str) -> str:
    """Return the first docstring line of a member, read from its source without importing it."""
    path = _folder(family) / f"{name}.py"
    if not path.exists():
        return f"from {', '.join(point.value for point in _plugins(family)[name])}"
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return doc.partition("\n")[0]


def load(family: str, name: str) -> type[Any]:
    """Import and return the class of a member.

    Raises:
        SettingError: no member has this name (the message lists the nearest first), several have it, or a plug-in is broken.
    """
    if name not in names(family):
        raise SettingError(f"no {singular(family)} is called {name!r}. {did_you_mean(name, names(family))}")
    points = _plugins(family).get(name, ())
    if len(points) + (name in _own(family)) > 1:
        whose = [*(["pretune itself"] if name in _own(family) else []), *map(_whose, points)]
        raise SettingError(f"more than one {singular(family)} is called {name!r}: {'; '.join(whose)}. Rename or uninstall all but one.")
    if points:
        return _plugin(family, points[0])
    module = importlib.import_module(str(module_of(family, name)))
    for attribute in vars(module).values():
        if isinstance(attribute, type) and attribute.__module__ == module.__name__ and is_named(attribute.__name__, name):
            return attribute
    raise AssertionError(f"{module.__name__} must define a class called like its file")


def is_named(cls: str, name: str) -> bool:
    """Return whether a class is called like the file `name`: Mixup, or ScratchSource where another family has a Scratch."""
    return cls.lower().removesuffix("source") == name.replace("_", "").removesuffix("source")


def module_of(family: str, name: str) -> str | None:
    """Return the module of one of pretune's own members; None where there is none, or a plug-in has the same name."""
    if name not in _own(family) or name in _plugins(family):
        return None
    return f"{_package(family)}.{name}"


def singular(family: str) -> str:
    """Return what one member of a family is called."""
    return {"modalities": "modality", "strategies": "strategy"}.get(family, family.removesuffix("s"))


def _plugin(family: str, point: EntryPoint) -> type:
    try:
        cls = point.load()
    except Exception as error:  # whatever a stranger's module raises when it is imported
        raise SettingError(f"{_whose(point)} cannot be imported for {singular(family)} {point.name!r}: {error}") from error
    base = _base(family)
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls) and issubclass(cls, base)):
        raise SettingError(
            f"{_whose(point)} is no {singular(family)}: it must be a frozen dataclass derived from {base.__name__} (docs/extend/)"
        )
    return cls


def _base(family: str) -> type:
    """Return the class that all members of a family are derived from."""
    return getattr(importlib.import_module(_package(family)), _BASES[family])


def _whose(point: EntryPoint) -> str:
    return f"{point.value} of package {point.dist.name}" if point.dist is not None else point.value


def name_of(component: object) -> str:
    """Return the public name of a component instance or class.

    That is the stem of its file in pretune, or the name of its entry point. A class that is neither has no name that can be
    read back; its own name in snake case stands for it.
    """
    cls = component if isinstance(component, type) else type(component)
    return published_name(cls) or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()


def published_name(cls: type) -> str | None:
    """Return the name that `load` finds a class by; None where it finds it by none."""
    package, _, module = cls.__module__.rpartition(".")
    if package in _PACKAGES and not module.startswith("_"):
        return module
    points = (point for family in FAMILIES for named in _plugins(family).values() for point in named)
    return next((point.name for point in points if _is_loaded_from(cls, point)), None)


def _is_loaded_from(cls: type, point: EntryPoint) -> bool:
    """Return whether an entry point stands for a class, which may be defined elsewhere than it is published; imports nothing."""
    found: object = sys.modules.get(point.module)
    for attribute in point.attr.split("."):
        found = getattr(found, attribute, None)
    return found is cls


def is_of(family: str, cls: type) -> bool:
    """Return whether a class is a member of a family."""
    return issubclass(cls, _base(family))
