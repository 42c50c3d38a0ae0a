"""Read, override, validate, describe, write and hash any frozen dataclass; knows no component.

A setting is a field of a frozen keyword-only dataclass. Its annotation says what is allowed:
plain types, `Literal`, `X | None` (None is written `auto`), `Annotated[float, Within(0, 1)]`,
`Annotated[Thing, Member("strategies")]` for a component of a registry family,
`tuple[Annotated[Thing, Member(...)], ...]` for several, `Annotated[Section, Flat()]` for a
section whose keys may also be written at the top level (`epochs=3` for `training.epochs=3`).
`Annotated[float | None, Duration()]` and `Annotated[int | None, Bytes()]` take `10m` and `2G`.
"""

import dataclasses
import hashlib
import json
import tomllib
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pretune import hints, registry
from pretune.amounts import Bytes, Duration, Within, with_unit
from pretune.errors import SettingError, did_you_mean
from pretune.schema import Flat as Flat
from pretune.schema import Member, as_dataclass, bare, fields_of, flat_homes, is_flat, is_required, is_union, keys

T = TypeVar("T")
Tree = dict[str, Any]


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
        found = tree.get(path[0])
        waits = isinstance(value, str) and isinstance(found, dict) and "name" not in found  # settings came before their component
        tree[path[0]] = {"name": value, **found} if waits and found else value
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
    fields = fields_of(cls)
    values: Tree = {}
    for key, value in _nest(cls, tree).items():
        label = f"{where}.{key}" if where else key
        if key not in fields:
            raise hints.unknown(cls, where or getattr(cls, "verb", cls.__name__), key, value)
        values[key] = _flat(fields[key], value, label, where) if is_flat(fields[key]) else _convert(fields[key], value, label)
    missing = [f.name for f in dataclasses.fields(as_dataclass(cls)) if f.init and is_required(f) and f.name not in values]
    if missing:
        raise SettingError(f"{where or cls.__name__} needs {', '.join(missing)}=…")
    return cls(**values)


def _flat(annotation: Any, value: Any, label: str, where: str) -> Any:
    """Return a section whose keys stand for themselves: of `training.epochs` a person reads `epochs`."""
    kind = bare(annotation)[0]
    if isinstance(value, dict):
        for key in value:
            if key not in fields_of(kind):
                raise hints.unknown(kind, label, key, value[key])
        return build(kind, value, where)
    return _convert(annotation, value, label)


def _nest(cls: type, tree: Mapping[str, Any]) -> Tree:
    """Move keys of flat sections under their section."""
    out: Tree = {}
    homes = flat_homes(cls)
    for key, value in tree.items():
        path = [homes[key], key] if key in homes and key not in fields_of(cls) else [key]
        if isinstance(value, dict) and isinstance(out.get(key), dict) and len(path) == 1:
            out[key].update(value)
        else:
            _assign(out, path, value)
    return out


def _is_unset(kind: Any, value: Any) -> bool:
    """Return whether a value stands for None: as `auto` and `none` do where no choice of the setting is called so."""
    if not is_union(kind) or type(None) not in typing.get_args(kind):
        return False
    choices = {choice for part in typing.get_args(kind) if typing.get_origin(part) is typing.Literal for choice in typing.get_args(part)}
    return value is None or (isinstance(value, str) and value.lower() in {"auto", "none"} - choices)


def _convert(annotation: Any, value: Any, where: str) -> Any:
    kind, notes = bare(annotation)
    if _is_unset(kind, value):
        return None
    note = next((n for n in notes if isinstance(n, Member | Duration | Bytes)), None)
    if isinstance(note, Member):
        return component(note.family, value, where, note.load)
    if isinstance(note, Duration | Bytes):
        return with_unit(value, where, note)
    if typing.get_origin(kind) is tuple:
        return _sequence(typing.get_args(kind)[0], value, where)
    if is_union(kind):
        return _first_that_fits([k for k in typing.get_args(kind) if k is not type(None)], value, where, notes)
    if dataclasses.is_dataclass(kind):
        if isinstance(value, kind):
            return value
        if isinstance(value, str) and "name" in fields_of(kind):
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


def component(family: str, value: Any, where: str, load: Callable[[str, str], type] = registry.load) -> Any:
    """Return a component given as an instance, a name, or a table with `name` and its settings."""
    if not isinstance(value, str | dict):
        return _instance(family, value, where)
    table = {"name": value} if isinstance(value, str) else dict(value)
    name = table.pop("name", None)
    if not isinstance(name, str):
        raise SettingError(f"{where} needs a name: {_with_name(family, table, where, load)}")
    if name not in (known := registry.names(family)) and (meant := hints.value(where, name)) in known:
        raise SettingError(f"no {registry.singular(family)} is called {name!r}. {did_you_mean(name, known, meant)}")
    return build(load(family, name), table, where)


def _with_name(family: str, table: Tree, where: str, load: Callable[[str, str], type]) -> str:
    """Return settings that were given without a component's name behind the names of the components that have them."""
    known = registry.names(family)
    fitting = [name for name in known if set(table) <= set(keys(load(family, name)))] if table else []
    words = "".join(f" {where}.{key}={value}" for key, value in table.items() if fitting and not isinstance(value, dict))
    return " or ".join(f"{where}={name}{words}" for name in fitting or known) + "."


def _instance(family: str, value: Any, where: str) -> Any:
    """Return a component that a Python caller gives as it is."""
    one = f"{registry.singular(family)}"
    if isinstance(value, type) and issubclass(value, registry.Component):
        raise SettingError(f"{where} is the class {value.__name__}; give an instance of it: {value.__name__}()")
    if not isinstance(value, registry.Component):
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
            raise SettingError(
                f"{where} cannot be {value!r}. {did_you_mean(str(value), map(str, allowed), hints.value(where, str(value)))}"
            )
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
        return {"name": registry.name_of(value), **tree} if isinstance(value, registry.Component) else tree
    if isinstance(value, tuple | list):
        return [to_tree(v) for v in value]
    if isinstance(value, dict):
        return {str(k): to_tree(v) for k, v in value.items()}
    return str(value) if isinstance(value, Path) else value


def digest(value: Any) -> str:
    """Return a short stable hash of a dataclass's resolved settings."""
    return hashlib.sha256(json.dumps(to_tree(value), sort_keys=True).encode()).hexdigest()[:16]
