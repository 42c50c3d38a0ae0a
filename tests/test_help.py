"""--help, `pretune list NAME` and docs/reference.md: every setting that a command accepts, in words, and none that it refuses."""

from __future__ import annotations

import importlib.util
import re
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

from pretune import registry
from pretune.amounts import Within
from pretune.cli import help
from pretune.cli.verbs import VERBS, keys_of, settings_of
from pretune.declared import load
from pretune.described import component_settings, inner_settings, type_words
from tests.command_line import pretune

ROOT = Path(__file__).parent.parent
WITH_SETTINGS = [verb for verb in VERBS if VERBS[verb].settings]


def reference() -> ModuleType:
    """Return scripts/reference as a module."""
    loader = SourceFileLoader("reference", str(ROOT / "scripts" / "reference"))
    spec = importlib.util.spec_from_loader("reference", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.mark.parametrize("verb", WITH_SETTINGS)
def test_a_page_has_every_setting_that_its_command_accepts_and_no_other(verb: str) -> None:
    shown = set(re.findall(r"^  ([\w.]+)=", pretune(verb, "--help").stdout, re.MULTILINE))
    inside = [place for place in inner_settings(settings_of(verb)) if place.key in keys_of(verb) and not place.several]
    assert {key for key in shown if "." not in key} == set(keys_of(verb)) | {place.key for place in inside if place.name and place.settings}
    assert {key for key in shown if "." in key} == {f"{place.prefix}.{setting.key}" for place in inside for setting in place.settings}


@pytest.mark.parametrize("verb", WITH_SETTINGS)
def test_every_setting_has_a_heading_a_meaning_and_words_for_its_type(verb: str) -> None:
    groups = help.grouped(verb)
    assert help.OTHER not in groups, groups.get(help.OTHER)
    everything = [setting for found in groups.values() for setting in found]
    everything += [setting for place in inner_settings(settings_of(verb)) for setting in place.settings]
    assert [setting.key for setting in everything if not setting.doc] == []
    assert [setting for setting in everything if re.search(r"Annotated|Optional|Literal|\[|<|\bclass\b|NoneType", setting.type)] == []


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int | None, "whole number"),
        (bool, "true | false"),
        (tuple[float, ...], "numbers, with commas"),
        (Within, "section"),
    ],
)
def test_types_are_named_as_they_are_written(annotation: object, words: str) -> None:
    assert type_words(annotation) == words


def test_pages_give_examples_that_the_command_accepts() -> None:
    for verb, known in VERBS.items():
        page = pretune(verb, "--help").stdout
        assert page.startswith(f"usage: pretune {verb}")
        assert all(example in page for example in known.examples)
        assert all(
            key.partition("=")[0].partition(".")[0] in keys_of(verb) for example in known.examples for key in example.split() if "=" in key
        )


@pytest.mark.parametrize(
    ("name", "message"), [("lora", "strategy.rank=8"), ("flip", "augmentations.flip.horizontal=0.5"), ("cnn", "scratch:cnn,width=")]
)
def test_a_component_shows_its_settings_as_they_are_written(name: str, message: str) -> None:
    assert message in pretune("list", name).stdout


def test_names_that_are_none_lead_to_those_that_are() -> None:
    assert "backbone=torchvision:resnet50 or backbone=timm:resnet50" in pretune("list", "resnet50", code=2).stderr
    assert "Did you mean 'lora'" in pretune("list", "lor", code=2).stderr


def test_the_reference_is_current_and_whole() -> None:
    page = reference().page()
    assert (ROOT / "docs" / "reference.md").read_text(encoding="utf-8") == page, "run scripts/reference"
    for verb in WITH_SETTINGS:
        assert all(f"`{key}`" in page for key in keys_of(verb))
    for family in ("strategies", "augmentations", "objectives", "architectures"):
        for name in registry.names(family):
            assert f"**{name}**" in page
            assert all(f".{s.key}`" in page or f",{s.key}`" in page for s in component_settings(load(family, name)))
