"""The settings of pretune's classes, read from source: a wrong key is known, and a help page printed, before torch is loaded.

A class of settings stands in the module that acts on them, which imports torch: seconds. Its fields need none of that. So
`declared("pretune.recipe:Recipe")` is a dataclass with the same fields, types, defaults and docs as `pretune.recipe.Recipe`, made from
the source, as `registry.summary` reads a docstring. Of its methods it has those that refuse settings beside others; functions such as
`pretune.recipe:built` are made from the source too. tests/test_declared.py holds them equal.
"""

from __future__ import annotations

import ast
import builtins
import copy
import dataclasses
import functools
import importlib
import sys
import typing
from pathlib import Path
from typing import Any

from pretune import registry, schema

_ROOT = Path(__file__).parent
_LIGHT = frozenset(("config", "schema", "amounts", "errors", "registry", "types", "printable", "unread"))
"""Modules of pretune that are imported as they are."""
_METHODS = ("__post_init__", "unread", "decays")
"""Methods that a class of settings has here too: those that refuse settings which cannot be together, or are not read."""


@functools.cache
def declared(place: str) -> Any:
    """Return the settings of a class, or the value of another name.

    Args:
        place: module and name: 'pretune.recipe:Recipe', 'pretune.training.optim:Optim'.
    """
    module, _, name = place.partition(":")
    return _module(module).value(name)


def load(family: str, name: str) -> type:
    """Return the settings of a component; only a plug-in is imported for it.

    Raises:
        SettingError: no component has this name, or a plug-in is broken.
    """
    module = registry.module_of(family, name)
    if module is None:
        return registry.load(family, name)
    return _module(module).value(next(found for found in _module(module).classes if registry.is_named(found, name)))


@functools.cache
def _module(name: str) -> _Module:
    return _Module(name)


class _Module:
    """The top-level names of a module of pretune, evaluated one by one where they are needed."""

    def __init__(self, name: str) -> None:
        self.name = name
        path = _ROOT.joinpath(*name.split(".")[1:])
        self._path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        self._made: dict[str, Any] = {}
        self._nodes = dict(_named(ast.parse(self._path.read_text(encoding="utf-8")).body))

    @property
    def classes(self) -> list[str]:
        """The names of the classes that are defined here."""
        return [name for name, node in self._nodes.items() if isinstance(node, ast.ClassDef)]

    def value(self, name: str) -> Any:
        """Return what a top-level name stands for."""
        if name not in self._made:
            self._made[name] = self._evaluated(name, self._nodes[name])
        return self._made[name]

    def _evaluated(self, name: str, node: ast.AST) -> Any:
        if isinstance(node, ast.ClassDef):
            return self._class(node)
        if isinstance(node, ast.ImportFrom):
            return _imported(str(node.module), next(alias.name for alias in node.names if (alias.asname or alias.name) == name))
        if isinstance(node, ast.Import):
            return importlib.import_module(name)
        if isinstance(node, ast.FunctionDef):
            return self._function(node)
        assert isinstance(node, ast.Assign | ast.AnnAssign), f"{self.name}.{name}"
        assert node.value is not None, f"{self.name}.{name}"
        return self._expression(node.value)

    def _expression(self, node: ast.expr) -> Any:
        """Return the value of an expression; only the names in it are looked up."""
        return eval(compile(ast.Expression(node), str(self._path), "eval"), self._names_in(node))

    def _names_in(self, node: ast.AST) -> dict[str, Any]:
        used = {found.id for found in ast.walk(node) if isinstance(found, ast.Name)}
        return {"__builtins__": builtins, **{name: self.value(name) for name in used if name in self._nodes}}

    def _function(self, node: ast.FunctionDef) -> Any:
        """Return a function, or a method or property of a class of settings; its annotations are not evaluated."""
        plain = _without_annotations(node)
        space = self._names_in(plain)
        exec(compile(ast.fix_missing_locations(ast.Module([plain], [])), str(self._path), "exec"), space)
        return space[node.name]

    def _class(self, node: ast.ClassDef) -> type:
        """Return a dataclass of the fields; an empty class where it is none, such as a protocol."""
        if not any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
            return type(node.name, (), {"__module__": self.name})
        space: dict[str, Any] = {"__module__": self.name, "__doc__": ast.get_docstring(node), "__annotations__": {}}
        space["__field_docs__"] = schema.docs_in(node)
        for statement in node.body:
            if isinstance(statement, ast.FunctionDef) and statement.name in _METHODS:
                space[statement.name] = self._function(statement)
            if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
                continue
            name, constant = statement.target.id, ast.unparse(statement.annotation).startswith("ClassVar")
            if constant and not _is_literal(statement.value):
                continue
            space["__annotations__"][name] = typing.ClassVar if constant else self._expression(statement.annotation)
            if statement.value is not None:
                space[name] = self._expression(statement.value)
        bases = tuple(base for base in map(self._expression, node.bases) if dataclasses.is_dataclass(base))
        return dataclasses.dataclass(frozen=True, kw_only=True)(type(node.name, bases, space))


def _named(body: list[ast.stmt]) -> typing.Iterator[tuple[str, ast.stmt]]:
    """Yield the names that statements bind; those for type checkers too."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.Assign):
            yield from ((target.id, node) for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, node
        elif isinstance(node, ast.If):
            yield from _named(node.body)


def _imported(module: str, name: str) -> Any:
    """Return what `from module import name` gives; of pretune's own modules, settings only."""
    top, _, below = module.partition(".")
    if top != "pretune":
        assert top in sys.stdlib_module_names, f"a setting refers to {module}.{name}, which is slow to import"
        return getattr(importlib.import_module(module), name)
    if below in _LIGHT and name == "Member":
        return functools.partial(schema.Member, load=load)
    if below in _LIGHT:
        return getattr(importlib.import_module(module), name)
    if not below and name in _LIGHT:
        return importlib.import_module(f"pretune.{name}")
    return _Room(name) if not below else _module(module).value(name)


class _Room:
    """A package of pretune, whose names are made from its source where they are used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return _module(f"pretune.{self._name}").value(name)


def _is_literal(node: ast.expr | None) -> bool:
    """Return whether an expression is a constant, or a tuple of constants."""
    return isinstance(node, ast.Constant) or (isinstance(node, ast.Tuple) and all(isinstance(one, ast.Constant) for one in node.elts))


def _without_annotations(node: ast.FunctionDef) -> ast.FunctionDef:
    """Return a copy of a function without types: they name classes that only a type checker imports."""
    plain = copy.deepcopy(node)
    plain.returns = None
    for argument in (*plain.args.posonlyargs, *plain.args.args, *plain.args.kwonlyargs):
        argument.annotation = None
    return plain
