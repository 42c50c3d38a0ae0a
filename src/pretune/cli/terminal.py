"""What a person at a terminal sees: sentences, and one progress line; on stderr, but for verbs whose answer these sentences are."""

from __future__ import annotations

import sys
import time

from pretune.printable import printable
from pretune.training.events import Evaluated, Event, Finished, Started, Stepped


class Terminal:
    """Reports to stderr or stdout; the progress line is redrawn in place where that is a terminal."""

    def __init__(self, unit: str = "items", *, stdout: bool = False) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

        self.unit = unit
        self.console = Console(stderr=not stdout, highlight=False, soft_wrap=True, markup=False)
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[facts]}"), TimeRemainingColumn())
        self._bar = Progress(*columns, console=self.console, transient=True, disable=not (sys.stdout if stdout else sys.stderr).isatty())
        self._task: TaskID | None = None
        self._label = ""
        self._began = time.monotonic()
        self._items = 0
        self._told = time.monotonic()

    def say(self, message: str) -> None:
        """Print a sentence."""
        self.console.print(printable(message))

    def warn(self, message: str) -> None:
        """Print a sentence that stands out."""
        self.console.print(f"! {printable(message)}", style="yellow")

    def progress(self, label: str, done: int, total: int) -> None:
        """Redraw the line of a pass over the data."""
        self._begin(label, total)
        self._draw(done, total, f"{done}/{total}  {self._rate(done)}")
        if done >= total:
            self._end()

    def event(self, event: Event) -> None:
        """Redraw the training line; print what changes rarely."""
        if isinstance(event, Started):
            self._end()
            self._items = 0
            self._begin(event.phase, event.steps)
        elif isinstance(event, Stepped):
            self._items += event.size
            share = event.waited / event.seconds if event.seconds else 0.0
            rate = event.step and self._items / max(1e-9, time.monotonic() - self._began)
            facts = f"step {event.step}/{event.steps}  loss {event.loss:.3f}  {rate:.0f} {self.unit}/s  waiting for data {share:.0%}"
            self._draw(event.step, event.steps, facts)
        elif isinstance(event, Evaluated) and time.monotonic() - self._told > 3:
            self._told = time.monotonic()
            figures = ", ".join(f"{k} {v:.4g}" for k, v in list(event.metrics.items())[:3])
            self.say(f"{event.phase}, epoch {event.epoch}: {event.part} {figures}{'  (best so far)' if event.best else ''}")
        elif isinstance(event, Finished):
            self._end()
            why = {"early_stopped": "; stopped early, the best is restored", "time": "; the time is up"}.get(event.reason, "")
            what = "solved" if event.reason == "solved" else f"{event.step} steps"
            self.say(f"{event.phase}: {what} in {event.seconds:.1f} s{why}")

    def _begin(self, label: str, total: int) -> None:
        if label == self._label:
            return
        self._end()
        self._label, self._began = label, time.monotonic()
        self._bar.start()
        self._task = self._bar.add_task(label, total=total, facts="")

    def _draw(self, done: int, total: int, facts: str) -> None:
        if self._task is not None:
            self._bar.update(self._task, completed=done, total=total, facts=facts)

    def _rate(self, done: int) -> str:
        return f"{done / max(1e-9, time.monotonic() - self._began):.0f} {self.unit}/s"

    def _end(self) -> None:
        if self._task is not None:
            self._bar.stop()
            self._bar.remove_task(self._task)
        self._task, self._label = None, ""

    def close(self) -> None:
        """Clear the progress line."""
        self._end()
