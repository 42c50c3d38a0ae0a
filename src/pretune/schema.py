"""What a dataclass of settings says of its fields: their types, the notes on them, the keys that one may write."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import textwrap
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pretune import registry


@dataclass(frozen=True)
class Member:
    """The value is a component of this registry family, given by name."""

    family: str
    load: Callable[[str, str], type] = registry.load
    """(family, name) -> the component's class, or its settings alone (`pretune.declared`)."""


@dataclass(frozen=True)
class Flat:
    """The section's keys may be written without the section's name."""


def fields_of(cls: type) -> dict[str, Any]:
    """Return the annotations of the fields that a person may set, notes included, by name."""
    hints = _hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(as_dataclass(cls)) if f.init}


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)


def as_dataclass(cls: type) -> Any:
    """Return a class that is known to be a dataclass, for type checkers."""
    return cls


def is_required(field: dataclasses.Field[Any]) -> bool:
    """Return whether a field has no default."""
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def default_of(field: dataclasses.Field[Any]) -> Any:
    """Return a field's default; MISSING where it has none."""
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def bare(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return the bare type and its notes."""
    if typing.get_origin(annotation) is typing.Annotated:
        inner, *notes = typing.get_args(annotation)
        return inner, tuple(notes)
    return annotation, ()


def is_union(kind: Any) -> bool:
    """Return whether a type is X | Y."""
    return typing.get_origin(kind) in (typing.Union, types.UnionType)


def without_none(kind: Any) -> list[Any]:
    """Return the types that a value may have: those of a union, None left out."""
    return [part for part in typing.get_args(kind) if part is not type(None)] if is_union(kind) else [kind]


def is_flat(annotation: Any) -> bool:
    """Return whether a field is a section whose keys stand for themselves."""
    return any(isinstance(note, Flat) for note in bare(annotation)[1])


def section_of(annotation: Any) -> type | None:
    """Return the dataclass of a field that is a section with a name of its own: `optim`, `schedule`; None elsewhere."""
    kind, notes = bare(annotation)
    found = [part for part in without_none(kind) if isinstance(part, type) and dataclasses.is_dataclass(part)]
    return found[0] if found and not any(isinstance(note, Member | Flat) for note in notes) else None


def member_of(annotation: Any) -> Member | None:
    """Return the note of a field whose value is a component, or several; None elsewhere."""
    kind, notes = bare(annotation)
    if typing.get_origin(kind) is tuple:
        notes = bare(typing.get_args(kind)[0])[1]
    return next((note for note in notes if isinstance(note, Member)), None)


@functools.cache
def flat_homes(cls: type) -> dict[str, str]:
    """Return the section of each key that may be written without it."""
    homes: dict[str, str] = {}
    for name, annotation in fields_of(cls).items():
        if is_flat(annotation):
            homes |= dict.fromkeys(fields_of(bare(annotation)[0]), name)
    return homes


def keys(cls: type) -> list[str]:
    """Return the keys one may write for `cls`, those of flat sections included."""
    out: list[str] = []
    for name, annotation in fields_of(cls).items():
        out += keys(bare(annotation)[0]) if is_flat(annotation) else [name]
    return out


def field_docs(cls: type) -> dict[str, str]:
    """Return the strings under a dataclass's fields, a line each; those of its bases too."""
    bases = [base for base in reversed(cls.__mro__) if dataclasses.is_dataclass(base)]
    return {name: doc for base in bases for name, doc in _own_docs(base).items()}


def _own_docs(cls: type) -> dict[str, str]:
    known = vars(cls).get("__field_docs__")
    if known is not None:
        return known
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    return docs_in(body)


def docs_in(body: ast.ClassDef) -> dict[str, str]:
    """Return the strings under the fields of a class's source, a line each."""
    docs: dict[str, str] = {}
    for field, after in zip(body.body, body.body[1:], strict=False):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            docs[field.target.id] = " ".join(str(after.value.value).split())
    return docs
