"""What came of reading, as a value: what was read, or why it was refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from pretune.errors import PretuneError

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Refused:
    """There is nothing, or nothing that can be read."""

    why: PretuneError


def outcome(read: Callable[[], T], *refusals: type[PretuneError]) -> T | Refused:
    """Return what `read` reads, or why it refuses: this is the one place where a refusal becomes a value.

    Args:
        read: reads a table, or finds the columns of one.
        refusals: what counts as one; any other error goes on.
    """
    try:
        return read()
    except refusals as why:
        return Refused(why=why)
