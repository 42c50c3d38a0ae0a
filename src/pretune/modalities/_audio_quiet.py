"""Keeps what C libraries write to standard error off the terminal while they decode.

libmpg123 prints a line for every oddity in an MP3, past Python's streams. What is wrong with a file is in the ledger.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Generator

_STDERR = 2
_lock = threading.Lock()


class _Silence:
    """Standard error as C sees it, led nowhere while at least one thread asks for it."""

    users = 0
    terminal = -1
    """A second descriptor of where standard error leads, kept for as long as the process lives."""

    def begin(self) -> None:
        with _lock:
            if self.terminal < 0:
                self.terminal = os.dup(_STDERR)
                _move_python(self.terminal)
            if not self.users:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, _STDERR)
                os.close(nowhere)
            self.users += 1

    def end(self) -> None:
        with _lock:
            self.users -= 1
            if not self.users:
                os.dup2(self.terminal, _STDERR)


_silence = _Silence()


def _move_python(descriptor: int) -> None:
    """Let Python write to the terminal by a descriptor of its own, which is never led elsewhere."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # a stream without a descriptor is not the terminal
        if sys.stderr.fileno() == _STDERR:
            sys.stderr.flush()
            # buffering by lines, as Python's own standard error
            sys.stderr = open(descriptor, "w", buffering=1, encoding=sys.stderr.encoding, errors=sys.stderr.errors, closefd=False)  # noqa: SIM115


@contextlib.contextmanager
def quiet() -> Generator[None]:
    """Within it, nothing that a C library writes to standard error is seen; Python's own lines are."""
    try:
        _silence.begin()
    except OSError:  # standard error is closed: nothing is seen anyway
        yield
        return
    try:
        yield
    finally:
        _silence.end()
