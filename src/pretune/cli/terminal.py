"""What a person at a terminal sees: sentences, and how far the command is; on stderr, but for verbs whose answer these sentences are."""

from __future__ import annotations

import time

from pretune.cli.progress import ProgressDisplay, ProgressPhase
from pretune.evaluation.wording import split_name
from pretune.printable import printable
from pretune.training.events import Evaluated, Event, Finished, Started, Stepped

_SPARSE = 3.0
"""Seconds between two printed evaluations at least."""
_WAITS = 0.1
"""Share of the time spent waiting for data from which it is shown."""


class Terminal:
    """Reports to stderr, or its sentences to stdout; a bar is redrawn in place where stderr is a terminal."""

    def __init__(self, unit: str = "examples", *, stdout: bool = False, until: float | None = None) -> None:
        """Show nothing yet.

        Args:
            unit: what is counted.
            stdout: whether sentences are the command's answer.
            until: time.monotonic() at which training ends in any case.
        """
        from rich.console import Console

        self.unit, self.until = unit, until
        self.console = Console(stderr=not stdout, highlight=False, soft_wrap=True, markup=False)
        self._stderr = Console(stderr=True, highlight=False, soft_wrap=True, markup=False) if stdout else self.console
        self.bar = ProgressDisplay(self._stderr, lambda line: self._stderr.print(printable(line)))
        self._items, self._metric = 0, ""
        self._evaluated = 0.0

    def say(self, message: str) -> None:
        """Print a sentence."""
        self._print(printable(message), None)

    def warn(self, message: str) -> None:
        """Print a sentence that stands out."""
        self._print(f"! {printable(message)}", "yellow")

    def _print(self, line: str, style: str | None) -> None:
        if self.console is not self._stderr:
            self.bar.end()  # it is drawn through another stream
        self.bar.spoke = time.monotonic()
        self.console.print(line, style=style)

    def progress(self, label: str, done: int, total: int) -> None:
        """Show a pass over the data; one of unknown length (total 0) until the next begins."""
        self._begin(label, total)
        self.bar.update(done, total, f"{done}/{total}  {self._rate(done)}" if total else "")
        if total and done >= total:
            self.bar.end()

    def event(self, event: Event) -> None:
        """Show how far training is; print what changes rarely."""
        if isinstance(event, Started):
            self.bar.end()
            self._items, self._metric = 0, ""
            self._begin(event.phase, event.steps)
        elif isinstance(event, Stepped):
            self._items += event.size
            self.bar.update(event.step, event.steps, self._facts(event))
        elif isinstance(event, Evaluated):
            from pretune.evaluation.wording import show, words

            figures = [f"{words(name)} {show(name, value)}" for name, value in event.metrics.items()]
            self._metric = f"{split_name(event.split)} {figures[0]}" if figures else ""
            if time.monotonic() - self._evaluated > _SPARSE:
                self._evaluated = time.monotonic()
                best = "  (best so far)" if event.best else ""
                self.say(f"{event.phase}, epoch {event.epoch}: {split_name(event.split)} {', '.join(figures[:3])}{best}")
        elif isinstance(event, Finished):
            self.bar.end()
            why = {"early_stopped": "; stopped early, the best is restored", "time": "; the time is up"}.get(event.reason, "")
            what = "solved" if event.reason == "solved" else f"{event.step} step{'' if event.step == 1 else 's'}"
            self.say(f"{event.phase}: {what} in {event.seconds:.1f} s{why}")

    def _facts(self, event: Stepped) -> str:
        waiting = event.waited / event.seconds if event.seconds else 0.0
        parts = [f"epoch {event.epoch + 1}", f"step {event.step}/{event.steps}", f"loss {event.loss:.3f}", self._metric]
        parts += [self._rate(self._items) if event.step else "", f"waiting for data {waiting:.0%}" if waiting >= _WAITS else ""]
        return "  ".join(part for part in parts if part)

    def _begin(self, label: str, total: int) -> None:
        if self.bar.phase is None or self.bar.phase.label != label:
            self.bar.begin(ProgressPhase(label=label, total=total, until=self.until))

    def _rate(self, done: int) -> str:
        phase = self.bar.phase
        seconds = time.monotonic() - phase.began if phase is not None else 0.0
        return f"{done / max(1e-9, seconds):.0f} {self.unit}/s" if seconds > 0.2 else ""

    def close(self) -> None:
        """Take the bar away."""
        self.bar.close()
