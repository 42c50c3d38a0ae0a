"""Ctrl-C between steps and between batches, so that what is left behind is whole."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

_open: list[Interruption] = []
"""The contexts that are entered now, the innermost last."""


class Interruption:
    """Within this context the first Ctrl-C (or SIGTERM) only asks to stop; the second stops at once.

    Training stops after its step, and every other pass over the data after its batch: they ask `check`.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        _open.append(self)
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        _open.remove(self)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


def is_asked() -> bool:
    """Return whether the person asked to stop."""
    return any(interruption.asked for interruption in _open)


def check() -> None:
    """Stop here where the person asked for it.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM came while it only asks.
    """
    if is_asked():
        raise KeyboardInterrupt
