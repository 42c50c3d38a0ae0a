"""Who receives what a run reports: the terminal, a web page, a test, nobody."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from typing import Protocol, TypeVar

from pretune.training.events import Event, Started, Stepped

R = TypeVar("R")


class Reporter(Protocol):
    """Receives the messages and events of a verb."""

    def say(self, message: str) -> None:
        """A sentence worth reading: what was found, chosen, and why."""
        ...

    def warn(self, message: str) -> None:
        """A sentence that should not be missed."""
        ...

    def progress(self, label: str, done: int, total: int) -> None:
        """Examples done of a long pass over the data; (label, 0, 0) begins work of unknown length, which lasts until the next call."""
        ...

    def event(self, event: Event) -> None:
        """Something the training loop did."""
        ...


class Noted:
    """Passes everything on and keeps the sentences, each once: a run's messages are part of its record."""

    def __init__(self, inner: Reporter) -> None:
        self.inner = inner
        self.notes: list[str] = []

    def say(self, message: str) -> None:
        """Keep the sentence and pass it on."""
        self._keep(message)
        self.inner.say(message)

    def warn(self, message: str) -> None:
        """Keep the sentence and pass it on."""
        self._keep(message)
        self.inner.warn(message)

    def progress(self, label: str, done: int, total: int) -> None:
        """Pass the count on."""
        self.inner.progress(label, done, total)

    def event(self, event: Event) -> None:
        """Pass the event on."""
        self.inner.event(event)

    def _keep(self, message: str) -> None:
        if message not in self.notes:
            self.notes.append(message)


class Silent:
    """Receives and drops everything: the default from Python, and every rank but the first."""

    def say(self, message: str) -> None:
        """Drop the sentence."""

    def warn(self, message: str) -> None:
        """Drop the sentence."""

    def progress(self, label: str, done: int, total: int) -> None:
        """Drop the count."""

    def event(self, event: Event) -> None:
        """Drop the event."""


class PrefixedReporter(Silent):
    """Passes on how far a run is that is part of another: its messages are of no interest there."""

    def __init__(self, inner: Reporter, label: str) -> None:
        self.inner, self.label = inner, label

    def progress(self, label: str, done: int, total: int) -> None:
        """Pass the count on, under the name of the part."""
        self.inner.progress(f"{self.label}: {label}", done, total)


def within(events: Generator[Event, bool | None, R], label: str) -> Generator[Event, bool | None, R]:
    """Yield those events of a run that move a bar, under the name of the part that it is of another; return its result."""
    asked: bool | None = None
    with closing(events):
        while True:
            try:
                event = events.send(asked)
            except StopIteration as end:
                return end.value
            asked = None
            if isinstance(event, Started | Stepped):
                asked = yield replace(event, phase=f"{label}: {event.phase}")
