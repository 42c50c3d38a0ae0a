"""What the verbs that train have in common at the terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pretune import STARTED
from pretune.cli.opening import is_first

if TYPE_CHECKING:
    from pretune.api import Run
    from pretune.cli.terminal import Terminal


def finished(run: Run, terminal: Terminal, lines: Callable[[Run], list[str]]) -> dict[str, Any] | None:
    """Print what came of a run, and return metrics.json plus the run folder; None on all processes but the first.

    Args:
        run: a finished run.
        terminal: prints.
        lines: returns the lines that are printed before time and report.
    """
    if not is_first():
        return None
    metrics = run.metrics
    for line in lines(run):
        terminal.say(line)
    terminal.say(f"Done in {time.monotonic() - STARTED:.1f} s. Report: {run.report}")
    return {**metrics, "run": str(run.path)}


def until(seconds: float | None) -> float | None:
    """Return the time.monotonic() at which training ends in any case; None where no time was given."""
    return None if seconds is None else STARTED + seconds
