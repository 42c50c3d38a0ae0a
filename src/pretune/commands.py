"""A recipe written back as the command line that makes it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from pretune import config, registry
from pretune.pretraining import Pretraining
from pretune.printable import path_word, shell_word
from pretune.recipe import Recipe

_SECTIONS = ("inputs", "columns", "splits", "training", "place", "corpus", "gain")


def as_assignments(recipe: Recipe | Pretraining) -> list[str]:
    """Return the `key=value` words of everything that differs from the defaults."""
    tree, plain = config.to_tree(recipe), config.to_tree(type(recipe)(data=recipe.data))
    words: list[str] = []
    for key, value in tree.items():
        if key == "data" or value == plain[key]:
            continue
        if key in _SECTIONS:
            words += [_word(k, v) for k, v in value.items() if v != plain[key][k]]
        elif isinstance(value, dict):
            words += [_word(key, value["name"])] if value.get("name") != (plain[key] or {}).get("name") else []
            words += _settings(key, getattr(recipe, key))
        elif isinstance(value, list):
            words += [_word(key, ",".join(part["name"] for part in value))]
            words += [word for part in getattr(recipe, key) for word in _settings(f"{key}.{registry.name_of(part)}", part)]
        else:
            words.append(_word(key, value))
    return words


def _settings(key: str, component: Any) -> list[str]:
    """Return the words for a component's fields that differ from its own defaults."""
    plain = config.to_tree(type(component)())
    return [_word(f"{key}.{k}", v) for k, v in config.to_tree(component).items() if k != "name" and v != plain[k]]


def _word(key: str, value: Any) -> str:
    return shell_word(f"{key}={_text(value)}")


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_text, value))
    return "auto" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _components(value: Any) -> Iterator[Any]:
    """Yield the components that a recipe holds, at any depth."""
    if isinstance(value, tuple | list):
        for one in value:
            yield from _components(one)
    elif is_dataclass(value) and not isinstance(value, type):
        if isinstance(value, registry.Component):
            yield value
        for field in fields(value):
            yield from _components(getattr(value, field.name))


def command(recipe: Recipe | Pretraining) -> str:
    """Return the command that carries out a recipe, exactly as it can be pasted; empty where it holds what only Python has."""
    if _unnamed(recipe):
        return ""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    start = "pretune" if processes == 1 else f"torchrun --nproc-per-node {processes} -m pretune"
    return " ".join([f"{start} {recipe.verb}", path_word(recipe.data), *as_assignments(recipe)])


def resume_line(recipe: Recipe | Pretraining, folder: Path) -> str:
    """Return the command that resumes this run; of what only Python has, what to change in the call."""
    if unnamed := _unnamed(recipe):
        return f"the same Python call (it gives {', '.join(unnamed)}) with out={str(folder)!r}, resume=True"
    return command(replace(recipe, place=replace(recipe.place, out=folder, resume=True)))


def _unnamed(recipe: Recipe | Pretraining) -> list[str]:
    """Return the types of components that no name of a registry leads to."""
    return [type(value).__name__ for value in _components(recipe) if registry.published_name(type(value)) is None]
