"""How far a command is: a bar redrawn in place on a terminal, a line now and then where stderr goes to a file or a pipe."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

QUIET = 10.0
"""Seconds without any line after which one is printed where there is no bar."""
_SHARE = 0.1
"""Later lines come after this share of the phase's time, where that is longer: an hour gives about fifty lines."""


@dataclass(kw_only=True)
class ProgressPhase:
    """A stretch of work: how much of it is done."""

    label: str
    total: int = 0
    """Steps or examples in all; 0 where nobody knows."""
    done: int = 0
    facts: str = ""
    began: float = field(default_factory=time.monotonic)
    until: float | None = None
    """time.monotonic() at which it is over in any case; None where no time was given."""

    def left(self, now: float) -> float | None:
        """Return the seconds that are left, about; None where that cannot be known."""
        guesses = []
        if self.total and self.done and now - self.began > 0.5:
            guesses.append((now - self.began) / self.done * (self.total - self.done))
        if self.until is not None and self.until > now:
            guesses.append(self.until - now)
        return min(guesses, default=None)

    def clock(self, now: float) -> str:
        """Return how long it takes still, or how long it has taken."""
        left = self.left(now)
        return f"{shown(now - self.began)}" if left is None else f"{shown(left)} left"

    def line(self, now: float) -> str:
        """Return where the phase is, in words."""
        count = f" {self.done}/{self.total}" if self.total and str(self.total) not in self.facts else ""
        return "  ".join(part for part in (f"{self.label}{count}", self.facts, self.clock(now)) if part)


def shown(seconds: float) -> str:
    """Return a duration as minutes and seconds: 0:07, 12:34, 1:02:03."""
    whole = round(seconds)
    minutes = f"{whole // 60 % 60:02d}:{whole % 60:02d}" if whole >= 3600 else f"{whole // 60}:{whole % 60:02d}"
    return f"{whole // 3600}:{minutes}" if whole >= 3600 else minutes


class ProgressDisplay:
    """Shows one phase at a time; close it to leave the terminal as it was."""

    def __init__(self, console: Console, heartbeat: Callable[[str], None]) -> None:
        """Show nothing yet.

        Args:
            console: of stderr.
            heartbeat: prints a line where there is no bar.
        """
        self.phase: ProgressPhase | None = None
        self.spoke = time.monotonic()
        """When the last line was printed."""
        self._console, self._heartbeat = console, heartbeat
        self._is_terminal = sys.stderr.isatty()
        self._bar: Any = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, phase: ProgressPhase) -> None:
        """Show a phase in place of the one before."""
        self.end()
        self.phase = phase
        if self._is_terminal:
            self._bar = _bar(self._console, phase)
            self._bar.start()
        elif self._thread is None:
            self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
            self._thread.start()

    def update(self, done: int, total: int, facts: str) -> None:
        """Report how far the phase is."""
        phase = self.phase
        if phase is None:
            return
        phase.done, phase.total, phase.facts = done, total, facts
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, total=total or None, facts=facts)

    def end(self) -> None:
        """Take the bar away."""
        bar, self._bar, self.phase = self._bar, None, None
        if bar is not None:
            bar.stop()

    def close(self) -> None:
        """Take the bar away and print no more lines."""
        self.end()
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _beat(self) -> None:
        while not self._over.wait(0.5):
            self.beat(time.monotonic())

    def beat(self, now: float) -> None:
        """Print where the phase is, if nothing has been printed for long."""
        phase = self.phase
        if phase is not None and now - self.spoke >= max(QUIET, _SHARE * (now - phase.began)):
            self.spoke = now
            self._heartbeat(phase.line(now))


def _bar(console: Console, phase: ProgressPhase) -> Any:
    """Return the bar of a phase; one of unknown length moves to and fro."""
    from rich.progress import BarColumn, ProgressColumn, Task, TextColumn
    from rich.progress import Progress as Bar
    from rich.text import Text

    class TimeColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(phase.clock(time.monotonic()))

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[facts]}"), TimeColumn())
    bar = Bar(*columns, console=console, transient=True, refresh_per_second=5, redirect_stdout=False)
    bar.add_task(phase.label, total=phase.total or None, facts="")
    return bar
