"""Settings read from source are those of the classes themselves: keys, types, defaults, docs, and what they accept."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

import pytest

from pretune import config, declared, registry
from pretune.cli.verbs import VERBS
from pretune.described import settings
from pretune.errors import SettingError
from pretune.schema import default_of

ROOTS = sorted({verb.settings for verb in VERBS.values() if verb.settings})
PARTS = ["pretune.training.optim:Optim", "pretune.training.schedule:Schedule"]
MEMBERS = [(family, name) for family in registry.FAMILIES for name in registry.names(family)]


def shape(cls: Any) -> list[tuple[Any, ...]]:
    """Return what a person can see of a class's settings."""
    defaults = {field.name: default_of(field) for field in dataclasses.fields(cls) if field.init}
    found = [(name, config.to_tree(value)) for name, value in defaults.items() if value is not dataclasses.MISSING]
    return [*found, *(dataclasses.astuple(setting) for setting in settings(cls))]


@pytest.mark.parametrize("place", [*ROOTS, *PARTS])
def test_settings_of_a_verb_are_read_from_source_as_they_are(place: str) -> None:
    module, _, name = place.partition(":")
    assert shape(declared.declared(place)) == shape(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize(("family", "name"), MEMBERS)
def test_settings_of_a_component_are_read_from_source_as_they_are(family: str, name: str) -> None:
    assert shape(declared.load(family, name)) == shape(registry.load(family, name))


def test_a_component_that_there_is_not_is_refused_like_elsewhere() -> None:
    with pytest.raises(SettingError, match="Did you mean 'lora'"):
        declared.load("strategies", "lor")
