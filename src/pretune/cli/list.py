"""pretune list [FAMILY|SOURCE]: what there is, read from file names and docstrings."""

from __future__ import annotations

from typing import Any

from pretune import registry
from pretune.cli.arguments import Arguments
from pretune.errors import SettingError, did_you_mean
from pretune.printable import printable


def main(arguments: Arguments) -> dict[str, Any]:
    """Print families with their members, one family, or the names a backbone source offers."""
    if not arguments.words:
        return _show({family: _members(family) for family in registry.FAMILIES}, arguments.json)
    name = arguments.words[0]
    if name in registry.FAMILIES:
        return _show({name: _members(name)}, arguments.json)
    if name in registry.names("backbones"):
        pattern = arguments.words[1] if len(arguments.words) > 1 else ""
        found = registry.load("backbones", name)().names(pattern)
        if not arguments.json:
            print("\n".join(printable(f"{name}:{one}") for one in found))
        return {name: found}
    raise SettingError(f"nothing to list is called {name!r}. {did_you_mean(name, [*registry.FAMILIES, *registry.names('backbones')])}")


def _members(family: str) -> dict[str, str]:
    return {name: registry.summary(family, name) for name in registry.names(family)}


def _show(families: dict[str, dict[str, str]], as_json: bool) -> dict[str, Any]:
    if not as_json:
        for family, members in families.items():
            print(family)
            for name, summary in members.items():
                print(f"  {name:<22} {summary}")
    return families
