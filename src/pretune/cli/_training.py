"""What the verbs that train have in common at the terminal."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pretune import STARTED

if TYPE_CHECKING:
    from pretune.api import Run
    from pretune.cli.terminal import Terminal


def carried_out(train: Callable[[Terminal], Run], told: Callable[[Run], list[str]]) -> dict[str, Any] | None:
    """Train, say what came of it, and return metrics.json plus the run folder; None on all ranks but the first.

    Args:
        train: does the work, reporting to the terminal.
        told: returns the lines that are said in the end, before time and report.
    """
    from pretune.cli.terminal import Terminal

    terminal = Terminal()
    try:
        done = train(terminal)
    finally:
        terminal.close()
    if int(os.environ.get("RANK", "0")):
        return None
    metrics = done.metrics
    for line in told(done):
        terminal.say(line)
    terminal.say(f"{time.monotonic() - STARTED:.1f} s in all; report: {done.report}")
    return {**metrics, "run": str(done.path)}
