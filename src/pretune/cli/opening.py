"""What every slow verb does first: show that it runs, while PyTorch is loaded; and answer Ctrl-C at once until it is over."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pretune.cli.environment import prepare_environment

if TYPE_CHECKING:
    from pretune.cli.terminal import Terminal

LOADING = "loading PyTorch"
ASKED = "stopping at the next safe point; press Ctrl-C again to stop at once"
AGAIN = "stopping at once"


@contextmanager
def opened(*, stdout: bool = False) -> Generator[Terminal]:
    """Within this context a terminal reports; import what needs PyTorch inside.

    Args:
        stdout: whether sentences are the command's answer.
    """
    from pretune.cli.terminal import Terminal

    terminal = Terminal(stdout=stdout)
    if is_first():
        terminal.progress(LOADING, 0, 0)
    prepare_environment()
    try:
        with acknowledged():
            yield terminal
    finally:
        terminal.close()


def is_first() -> bool:
    """Return whether this is the process that reports: torchrun starts several."""
    return not int(os.environ.get("RANK", "0"))


@contextmanager
def acknowledged() -> Generator[None]:
    """Within this context Ctrl-C is answered at once.

    Python runs the handler of a signal between two operations, and a backward pass is one of seconds; a byte on the
    wake-up socket comes at once, to a thread.
    """
    if threading.current_thread() is not threading.main_thread() or not is_first():
        yield
        return
    here, there = socket.socketpair()
    there.setblocking(False)
    before = signal.set_wakeup_fd(there.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=_answer, args=(here,), name="interrupts", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        there.close()
        thread.join()
        here.close()


def _answer(client: socket.socket) -> None:
    """Print a line for each Ctrl-C (or SIGTERM) until the other end is closed."""
    times = 0
    while numbers := client.recv(16):
        for number in numbers:
            if number in (signal.SIGINT, signal.SIGTERM):
                times += 1
                print(f"\npretune: {ASKED if times == 1 else AGAIN}", file=sys.stderr, flush=True)
