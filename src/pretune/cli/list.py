"""pretune list [NAME [PATTERN]]: what there is, read from file names, docstrings and the source of settings."""

from __future__ import annotations

import dataclasses
from typing import Any

from pretune import networks, registry
from pretune.cli import help
from pretune.cli.arguments import Arguments
from pretune.declared import load
from pretune.described import component_settings
from pretune.errors import SettingError, did_you_mean
from pretune.printable import printable


def main(arguments: Arguments) -> dict[str, Any]:
    """Print families with their members, one family, a component with its settings, or the names a backbone source offers."""
    if not arguments.words:
        return _show({family: _members(family) for family in registry.FAMILIES}, arguments.json)
    name, pattern = arguments.words[0], (arguments.words[1:] or [""])[0]
    if name in registry.FAMILIES:
        return _show({name: _members(name)}, arguments.json)
    if name in registry.names("backbones"):
        return _offered(name, pattern, arguments.json)
    families = [family for family in registry.FAMILIES if name in registry.names(family)]
    if families:
        return _component(families, name, arguments.json)
    raise SettingError(_unknown(name))


def _unknown(name: str) -> str:
    """Return the sentence on a name that there is not, or that is a network's."""
    if ids := networks.ids_of(name):
        return (
            f"{name} is a network: {' or '.join(f'backbone={one}' for one in ids)}. To list others: pretune list {ids[0].partition(':')[0]}"
        )
    known = [*registry.FAMILIES, *(one for family in registry.FAMILIES for one in registry.names(family))]
    return f"nothing to list is called {name!r}. {did_you_mean(name, known)}"


def _offered(source: str, pattern: str, as_json: bool) -> dict[str, Any]:
    """Print the names that a backbone source offers."""
    offers = registry.load("backbones", source)()
    found = offers.names(pattern)
    if not as_json:
        print("\n".join(printable(f"{source}:{one:<20} {offers.facts(one)}".rstrip()) for one in found))
        if not found:
            print(f"no network of {source} has {pattern!r} in its name" if pattern else f"{source} names no networks here")
    return {source: found}


def _component(families: list[str], name: str, as_json: bool) -> dict[str, Any]:
    """Print what a component is and its settings; a name may be that of several."""
    if not as_json:
        print("\n\n".join(help.component_page(family, name) for family in families))
    return {
        family: {
            "name": name,
            "summary": registry.summary(family, name),
            "settings": [dataclasses.asdict(setting) for setting in component_settings(load(family, name))],
        }
        for family in families
    }


def _members(family: str) -> dict[str, str]:
    return {name: registry.summary(family, name) for name in registry.names(family)}


def _show(families: dict[str, dict[str, str]], as_json: bool) -> dict[str, Any]:
    if not as_json:
        for family, members in families.items():
            print(family)
            for name, summary in members.items():
                print(f"  {name:<22} {summary}")
        print("\nThe settings of one: pretune list NAME")
    return families
