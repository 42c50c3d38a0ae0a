"""Settings that a person gave and a run would not read: refused by name, as early as it can be known.

What reads a setting says where it does not: a schedule, an optimizer, a strategy, a task and an objective each return the
keys that have no effect under their choices (`unread()`), and the runner adds what follows from several of them together.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from pretune import config
from pretune.errors import SettingError
from pretune.types import NotUsed


def given(settings: Any) -> list[str]:
    """Return the keys whose values are not the defaults, as a person writes them: `epochs`, `optim.nesterov`, `strategy.rank`.

    Args:
        settings: a recipe, or any frozen dataclass of settings.
    """
    cls, out = type(settings), []
    hints = typing.get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(settings):
        value, default = getattr(settings, field.name), _default(field)
        if value == default or not field.init:
            continue
        flat = any(isinstance(note, config.Flat) for note in getattr(hints[field.name], "__metadata__", ()))
        if flat:
            out += given(value)
            continue
        out.append(field.name)
        if dataclasses.is_dataclass(value):
            out += [f"{field.name}.{key}" for key in given(value)]
    return out


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def refuse(keys: Iterable[str], unread: Mapping[str, NotUsed]) -> None:
    """Refuse the first keys that share a reason not to be read.

    Args:
        keys: those that a person gave.
        unread: what nothing would read, and why.

    Raises:
        SettingError: there is such a key.
    """
    found = [key for key in keys if key in unread]
    if not found:
        return
    why = unread[found[0]]
    same = [key for key in found if unread[key] == why]
    are, them = ("is", "it") if len(same) == 1 else ("are", "them")
    instead = f", or {why.instead}" if why.instead else ""
    raise SettingError(f"{', '.join(same)} {are} not used by {why.by}; remove {them}{instead}.")


def prefixed(name: str, unread: Mapping[str, NotUsed]) -> dict[str, NotUsed]:
    """Return a section's keys as they are written from the root: `gamma` of `schedule` is `schedule.gamma`."""
    return {f"{name}.{key}": why for key, why in unread.items()}
