"""A recipe written back as the command line that makes it."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from pretune import config
from pretune.pretraining import Pretraining
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
            words += _component(key, value, plain[key])
        elif isinstance(value, list):
            words += [_word(key, ",".join(part["name"] for part in value))]
            words += [_word(f"{key}.{part['name']}.{k}", v) for part in value for k, v in part.items() if k != "name"]
        else:
            words.append(_word(key, value))
    return words


def _component(key: str, value: dict[str, Any], plain: Any) -> list[str]:
    same = plain if isinstance(plain, dict) and plain.get("name") == value.get("name") else {}
    named = [] if same else [_word(key, value["name"])]
    return named + [_word(f"{key}.{k}", v) for k, v in value.items() if k != "name" and v is not None and v != same.get(k)]


def _word(key: str, value: Any) -> str:
    text = "auto" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return shlex.quote(f"{key}={text}")


def resume_line(recipe: Recipe | Pretraining, folder: Path) -> str:
    """Return the command that goes on with this run, exactly as it can be pasted."""
    return " ".join(
        [
            f"pretune {recipe.verb}",
            shlex.quote(recipe.data),
            *as_assignments(replace(recipe, place=replace(recipe.place, out=folder, resume=True))),
        ]
    )
