"""Choices made by the clock, kept in the cache: they differ from run to run, and a recipe must repeat itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pretune import config
from pretune.storage.cache import Cache
from pretune.storage.store import NoRoom, StoreWriter


def remembered(cache: Cache, kind: str, facts: Mapping[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what was chosen on these facts before, or choose now and remember it; where the cache has no room, it is chosen each time.

    Args:
        cache: keeps the choice.
        kind: folder of such choices.
        facts: all that the choice depends on, as JSON.
        make: chooses; its result is JSON too.
    """
    made: list[dict[str, Any]] = []

    def write(path: Path) -> None:
        made.append(make())
        StoreWriter(path).close(made[0])

    try:
        return cache.build(kind, config.digest(facts), write).meta
    except NoRoom:
        return made[0] if made else make()
