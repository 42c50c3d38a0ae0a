"""Every setting of a dataclass in words: what a help page, the reference and `pretune list` print of it."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pretune import config, registry
from pretune.amounts import Bytes, Duration, Within
from pretune.schema import Member, as_dataclass, bare, default_of, field_docs, fields_of, is_flat, member_of, section_of, without_none

_WORDS: dict[Any, str] = {bool: "true | false", int: "whole number", float: "number", str: "text", Path: "path"}
_SEVERAL: dict[Any, str] = {float: "numbers", str: "names"}


@dataclass(frozen=True)
class Setting:
    """One documented key of a dataclass."""

    key: str
    type: str
    """What may be written, as it is written."""
    default: str
    """Empty where there is none."""
    doc: str
    section: str = ""
    """The section whose keys stand for themselves and that it belongs to; empty for others."""


def settings(cls: type, section: str = "") -> list[Setting]:
    """Return the documented keys of a dataclass; docs are the strings under its fields."""
    docs, out = field_docs(cls), []
    for field in dataclasses.fields(as_dataclass(cls)):
        if not field.init:
            continue
        annotation = fields_of(cls)[field.name]
        if is_flat(annotation):
            out += settings(bare(annotation)[0], field.name)
        else:
            out.append(Setting(field.name, type_words(annotation), _default(default_of(field)), docs.get(field.name, ""), section))
    return out


def component_settings(cls: type) -> list[Setting]:
    """Return the settings of a section or a component; its name is none of them."""
    return [setting for setting in settings(cls) if setting.key != "name"]


@dataclass(frozen=True, kw_only=True)
class Inside:
    """What is written below a key."""

    key: str
    name: str
    """Of the component; empty for a section."""
    prefix: str
    """What its settings begin with, a dot aside: 'strategy', 'augmentations.flip'."""
    several: bool
    """Whether several components may be named."""
    settings: list[Setting]


def inner_settings(cls: type) -> Iterator[Inside]:
    """Yield the sections and components of a class of settings, with their own."""
    for key, annotation in fields_of(cls).items():
        member, section = member_of(annotation), section_of(annotation)
        if is_flat(annotation):
            yield from inner_settings(bare(annotation)[0])
        elif section is not None:
            yield Inside(key=key, name="", prefix=key, several=False, settings=component_settings(section))
        for name in registry.names(member.family) if member else ():
            several = typing.get_origin(bare(annotation)[0]) is tuple
            found = component_settings(member.load(member.family, name)) if member else []
            yield Inside(key=key, name=name, prefix=f"{key}.{name}" if several else key, several=several, settings=found)


def type_words(annotation: Any) -> str:
    """Return what may be written for a field, as it is written: 'whole number from 1', 'none | light', '90s, 10m or 1.5h'."""
    kind, notes = bare(annotation)
    member = next((note for note in notes if isinstance(note, Member)), None)
    if member is not None:
        return " | ".join(registry.names(member.family))
    if any(isinstance(note, Duration) for note in notes):
        return "time: 90s, 10m, 1.5h"
    if any(isinstance(note, Bytes) for note in notes):
        return "size: 500M, 2G"
    limit = next((_range(note) for note in notes if isinstance(note, Within)), "")
    return " | ".join(dict.fromkeys(_kind(part, limit) for part in without_none(kind)))


def _kind(kind: Any, limit: str) -> str:
    inner = bare(kind)
    if inner[1]:
        return type_words(kind)
    if typing.get_origin(kind) is typing.Literal:
        return " | ".join(map(str, typing.get_args(kind)))
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        member = next((note for note in bare(item)[1] if isinstance(note, Member)), None)
        return (
            f"{', '.join(registry.names(member.family))}: several, with commas"
            if member
            else f"{_SEVERAL.get(item, 'values')}, with commas"
        )
    if dataclasses.is_dataclass(kind):
        names = fields_of(typing.cast(type, kind)).get("name")
        return type_words(names) if names is not None else "section"
    return f"{_WORDS.get(kind, getattr(kind, '__name__', str(kind)))}{limit}"


def _range(limit: Within) -> str:
    """Return a range in words."""
    low = "" if limit.low is None else f" above {_number(limit.low)}" if limit.above else f" from {_number(limit.low)}"
    high = "" if limit.high is None else f" to {_number(limit.high)}" if low else f" up to {_number(limit.high)}"
    return low + high


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:g}"


def _default(value: Any) -> str:
    """Return a default as it is written."""
    if value is dataclasses.MISSING:
        return ""
    if value is None:
        return "auto"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(_default, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        tree = config.to_tree(value)
        return str(tree.get("name", ""))
    return f"{value:.6g}" if isinstance(value, float) and value != round(value, 4) else str(value)
