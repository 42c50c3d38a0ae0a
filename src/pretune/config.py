"""Read, override, validate, describe, write and hash any frozen dataclass; knows no component.

A setting is a field of a frozen keyword-only dataclass. Its annotation says what is allowed:
plain types, `Literal`, `X | None` (None is written `auto`), `Annotated[float, Within(0, 1)]`,
`Annotated[Thing, Member("strategies")]` for a component of a registry family,
`tuple[Annotated[Thing, Member(...)], ...]` for several, `Annotated[Section, Flat()]` for a
section whose keys may also be written at the top level (`epochs=3` for `training.epochs=3`).
`Annotated[float | None, Duration()]` and `Annotated[int | None, Bytes()]` take `10m` and `2G`.
"""

import ast
import dataclasses
import functools
import hashlib
import inspect
import json
import textwrap
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pretune import registry
from pretune.amounts import Bytes, Duration, Within, with_unit
from pretune.errors import SettingError, did_you_mean

T = TypeVar("T")
Tree = dict[str, Any]


@dataclass(frozen=True)
class Member:
    """The value is a component of this registry family, given by name."""

    family: str


@dataclass(frozen=True)
class Flat:
    """The section's keys may be written without the section's name."""


@dataclass(frozen=True)
class Setting:
    """One documented key of a dataclass, for help pages and generated reference."""

    key: str
    type: str
    default: str
    doc: str


_TRUE, _FALSE = {"true", "yes", "on", "1"}, {"false", "no", "off", "0"}


# --- reading -------------------------------------------------------------------------------------


def read_toml(path: Path) -> Tree:
    """Return the tables of a recipe file.

    Raises:
        SettingError: the file is missing or is not TOML; the message has the line.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for, a device read without end
            raise SettingError(f"{path}: is not a regular file.")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingError(f"{path}: cannot be read ({error.strerror}).") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{path}: not a valid TOML recipe: {error}.") from None


def override(tree: Tree, assignments: Iterable[str]) -> Tree:
    """Return `tree` with `a.b=value` assignments applied, later ones winning.

    `strategy=lora` names a component and keeps nothing of another one named before.
    """
    out: Tree = _copied(tree)
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise SettingError(f"{text!r} is not a setting. Write key=value, for example epochs=3.")
        _assign(out, key.strip().split("."), value.strip())
    return out


def _copied(value: Any) -> Any:
    """Return tables and lists anew; what they hold (paths, components) is shared."""
    if isinstance(value, dict):
        return {key: _copied(below) for key, below in value.items()}
    return [_copied(below) for below in value] if isinstance(value, list) else value


def _assign(tree: Tree, path: list[str], value: Any) -> None:
    if len(path) == 1:
        tree[path[0]] = value
        return
    found = tree.get(path[0], {})
    below: Tree = {"name": found} if isinstance(found, str) else found
    if not isinstance(below, dict):
        raise SettingError(f"{path[0]} is {found!r} and has no key {'.'.join(path[1:])}.")
    tree[path[0]] = below
    _assign(below, path[1:], value)


# --- building ------------------------------------------------------------------------------------


def build(cls: type[T], tree: Mapping[str, Any], where: str = "") -> T:
    """Return an instance of the dataclass `cls` from nested tables and strings.

    Raises:
        SettingError: unknown key (nearest first), or a value of the wrong type or range.
    """
    fields = _fields(cls)
    values: Tree = {}
    for key, value in _nest(cls, tree).items():
        label = f"{where}.{key}" if where else key
        if key not in fields:
            owner = where or getattr(cls, "verb", cls.__name__)
            raise SettingError(f"{owner} has no setting {key!r}. {did_you_mean(key, keys(cls))}")
        values[key] = _convert(fields[key], value, label)
    missing = [f.name for f in dataclasses.fields(_any(cls)) if f.init and _required(f) and f.name not in values]
    if missing:
        raise SettingError(f"{where or cls.__name__} needs {', '.join(missing)}=…")
    return cls(**values)


def keys(cls: type) -> list[str]:
    """Return the keys one may write for `cls`, those of flat sections included."""
    out: list[str] = []
    for name, annotation in _fields(cls).items():
        inner, notes = _split(annotation)
        out += keys(inner) if any(isinstance(n, Flat) for n in notes) else [name]
    return out


def _nest(cls: type, tree: Mapping[str, Any]) -> Tree:
    """Move keys of flat sections under their section."""
    out: Tree = {}
    homes = _flat_homes(cls)
    for key, value in tree.items():
        path = [homes[key], key] if key in homes and key not in _fields(cls) else [key]
        if isinstance(value, dict) and isinstance(out.get(key), dict) and len(path) == 1:
            out[key].update(value)
        else:
            _assign(out, path, value)
    return out


@functools.cache
def _flat_homes(cls: type) -> dict[str, str]:
    homes: dict[str, str] = {}
    for name, annotation in _fields(cls).items():
        inner, notes = _split(annotation)
        if any(isinstance(n, Flat) for n in notes):
            homes |= dict.fromkeys(_fields(inner), name)
    return homes


@functools.cache
def _fields(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return {f.name: hints[f.name] for f in dataclasses.fields(_any(cls)) if f.init}


def _any(cls: type) -> Any:
    """Return a class that is known to be a dataclass, for type checkers."""
    return cls


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _split(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return the bare type and its notes."""
    if typing.get_origin(annotation) is typing.Annotated:
        inner, *notes = typing.get_args(annotation)
        return inner, tuple(notes)
    return annotation, ()


def _is_union(kind: Any) -> bool:
    return typing.get_origin(kind) in (typing.Union, types.UnionType)


def _is_unset(kind: Any, value: Any) -> bool:
    """Tell whether a value stands for None: as `auto` and `none` do where no choice of the setting is called so."""
    if not _is_union(kind) or type(None) not in typing.get_args(kind):
        return False
    choices = {choice for part in typing.get_args(kind) if typing.get_origin(part) is typing.Literal for choice in typing.get_args(part)}
    return value is None or (isinstance(value, str) and value.lower() in {"auto", "none"} - choices)


def _convert(annotation: Any, value: Any, where: str) -> Any:
    kind, notes = _split(annotation)
    if _is_unset(kind, value):
        return None
    note = next((n for n in notes if isinstance(n, Member | Duration | Bytes)), None)
    if isinstance(note, Member):
        return component(note.family, value, where)
    if isinstance(note, Duration | Bytes):
        return with_unit(value, where, note)
    if typing.get_origin(kind) is tuple:
        return _sequence(typing.get_args(kind)[0], value, where)
    if _is_union(kind):
        return _first_that_fits([k for k in typing.get_args(kind) if k is not type(None)], value, where, notes)
    if dataclasses.is_dataclass(kind):
        if isinstance(value, kind):
            return value
        if isinstance(value, str) and "name" in _fields(kind):
            value = {"name": value}
        if not isinstance(value, dict):
            raise SettingError(f"{where} is a section; write {where}.KEY=VALUE. {did_you_mean('', keys(kind))}")
        return build(kind, value, where)
    out = _scalar(kind, value, where)
    limit = next((n for n in notes if isinstance(n, Within)), None)
    if limit is not None and out not in limit:
        raise SettingError(f"{where} must be {_describe(kind)} {limit}; got {value!r}.")
    return out


def _first_that_fits(kinds: list[Any], value: Any, where: str, notes: tuple[Any, ...]) -> Any:
    for position, kind in enumerate(kinds):
        noted = typing.Annotated[(kind, *notes)] if notes else kind
        try:
            return _convert(noted, value, where)
        except SettingError:
            if position == len(kinds) - 1:
                raise
    raise AssertionError(where)


def component(family: str, value: Any, where: str) -> Any:
    """Return a component given as an instance, a name, or a table with `name` and its settings."""
    if not isinstance(value, str | dict):
        return _instance(family, value, where)
    table = {"name": value} if isinstance(value, str) else dict(value)
    name = table.pop("name", None)
    if not isinstance(name, str):
        raise SettingError(f"{where} needs a name, for example {where}={registry.names(family)[0]}")
    return build(registry.load(family, name), table, where)


def _instance(family: str, value: Any, where: str) -> Any:
    """Return a component that a Python caller gives as it is."""
    one = f"{registry.singular(family)}"
    if isinstance(value, type) and hasattr(value, "component"):
        raise SettingError(f"{where} is the class {value.__name__}; give an instance of it: {value.__name__}()")
    if not hasattr(value, "component") or not dataclasses.is_dataclass(value):
        raise SettingError(f"{where} must be the name of a {one}, a table with its name, or a component; got {value!r}.")
    if not registry.is_of(family, type(value)):
        raise SettingError(f"{where} must be a {one}; {type(value).__name__} is none.")
    return value


def _sequence(item: Any, value: Any, where: str) -> tuple[Any, ...]:
    if isinstance(value, dict):  # part settings over named parts: {"name": "a,b", "a": {...}}
        named = [part for part in str(value.get("name", "")).split(",") if part]
        for key in value:
            if key not in ("name", *named):
                raise SettingError(f"{where} has no part {key!r}; name it first. {did_you_mean(key, named)}")
        value = [{"name": part, **value.get(part, {})} for part in named]
    elif isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()] if value.lower() != "none" else []
    if not isinstance(value, list | tuple):
        raise SettingError(f"{where} must be a list; got {value!r}.")
    return tuple(_convert(item, part, f"{where}[{i}]") for i, part in enumerate(value))


def _scalar(kind: Any, value: Any, where: str) -> Any:
    if typing.get_origin(kind) is typing.Literal:
        allowed = typing.get_args(kind)
        match = next((a for a in allowed if str(a).lower() == str(value).lower()), None)
        if match is None:
            raise SettingError(f"{where} cannot be {value!r}. {did_you_mean(str(value), [str(a) for a in allowed])}")
        return match
    try:
        if kind is bool:
            return _boolean(value)
        if kind is int:
            return _integer(value)
        if kind is float:
            return float(value) if not isinstance(value, bool) else _fail()
        if kind is str:
            return value if isinstance(value, str) else str(value) if isinstance(value, int | float) else _fail()
        if kind is Path:
            return Path(value)
    except (TypeError, ValueError):
        raise SettingError(f"{where} must be {_describe(kind)}; got {value!r}.") from None
    return value


def _fail() -> typing.NoReturn:
    raise ValueError


def _boolean(value: Any) -> bool:
    text = str(value).lower()
    return True if text in _TRUE else False if text in _FALSE else _fail()


def _integer(value: Any) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        _fail()
    return int(value)


def _describe(kind: Any) -> str:
    return {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}.get(kind, str(kind))


# --- writing -------------------------------------------------------------------------------------


def to_tree(value: Any) -> Any:
    """Return a JSON-ready tree that `build` reads back; components carry their `name`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        tree = {f.name: to_tree(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
        return {"name": registry.name_of(value), **tree} if hasattr(value, "component") else tree
    if isinstance(value, tuple | list):
        return [to_tree(v) for v in value]
    if isinstance(value, dict):
        return {str(k): to_tree(v) for k, v in value.items()}
    return str(value) if isinstance(value, Path) else value


def digest(value: Any) -> str:
    """Return a short stable hash of a dataclass's resolved settings."""
    return hashlib.sha256(json.dumps(to_tree(value), sort_keys=True).encode()).hexdigest()[:16]


def settings(cls: type) -> list[Setting]:
    """Return the documented keys of a dataclass; docs are the strings under its fields."""
    docs = _field_docs(cls)
    out = []
    for f in dataclasses.fields(_any(cls)):
        inner, notes = _split(_fields(cls)[f.name])
        if any(isinstance(n, Flat) for n in notes):
            out += settings(inner)
            continue
        default = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
        shown = "" if default is dataclasses.MISSING else json.dumps(to_tree(default)) if default is not None else "auto"
        out.append(Setting(f.name, _type_name(inner, notes), shown, docs.get(f.name, "")))
    return out


def _type_name(kind: Any, notes: tuple[Any, ...]) -> str:
    for note in notes:
        if isinstance(note, Member):
            return f"one of {note.family}"
        if isinstance(note, Duration | Bytes):
            return type(note).__name__.lower()
    if typing.get_origin(kind) is typing.Literal:
        return " | ".join(str(a) for a in typing.get_args(kind))
    limit = next((f" {n}" for n in notes if isinstance(n, Within)), "")
    name = kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")
    return name.replace(" | None", "") + limit


def _field_docs(cls: type) -> dict[str, str]:
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    docs: dict[str, str] = {}
    for field, after in zip(body.body, body.body[1:], strict=False):
        is_doc = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_doc:
            docs[field.target.id] = " ".join(str(after.value.value).split())  # type: ignore[attr-defined]
    return docs
