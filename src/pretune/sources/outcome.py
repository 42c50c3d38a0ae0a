"""What came of reading labelled data, as a value: their table, or why there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pretune.errors import DataError, RequestError
from pretune.sources.table import Table


@dataclass(frozen=True, kw_only=True)
class NoLabels:
    """There are no labels, or none that can be read."""

    why: RequestError


def outcome(read: Callable[[], Table], refusals: tuple[type[RequestError], ...] = (DataError,)) -> Table | NoLabels:
    """Return the table that `read` reads, or why there is none: this is the one place where a refusal becomes a value.

    Args:
        read: reads labelled data.
        refusals: what counts as one; by default a setting that cannot be is still refused.
    """
    try:
        return read()
    except refusals as why:
        return NoLabels(why=why)
