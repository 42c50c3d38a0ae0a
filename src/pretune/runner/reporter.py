"""Who is told what a run does: the terminal, a web page, a test, nobody."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from pretune.training.events import Event, Started, Stepped


class Reporter(Protocol):
    """Receives what a verb has to say while it works."""

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
    """Passes everything on and keeps the sentences, each once: what a run said is part of its record."""

    def __init__(self, told: Reporter) -> None:
        self.told = told
        self.notes: list[str] = []

    def say(self, message: str) -> None:
        """Keep the sentence and pass it on."""
        self._keep(message)
        self.told.say(message)

    def warn(self, message: str) -> None:
        """Keep the sentence and pass it on."""
        self._keep(message)
        self.told.warn(message)

    def progress(self, label: str, done: int, total: int) -> None:
        """Pass the count on."""
        self.told.progress(label, done, total)

    def event(self, event: Event) -> None:
        """Pass the event on."""
        self.told.event(event)

    def _keep(self, message: str) -> None:
        if message not in self.notes:
            self.notes.append(message)


class Within:
    """Passes on how far a run is that is part of another: its sentences are of no interest there."""

    def __init__(self, told: Reporter, label: str) -> None:
        self.told, self.label = told, label

    def say(self, message: str) -> None:
        """Drop the sentence."""

    def warn(self, message: str) -> None:
        """Drop the sentence."""

    def progress(self, label: str, done: int, total: int) -> None:
        """Pass the count on, under the name of the part."""
        self.told.progress(f"{self.label}: {label}", done, total)

    def event(self, event: Event) -> None:
        """Pass on what moves a bar, under the name of the part."""
        if isinstance(event, Started | Stepped):
            self.told.event(replace(event, phase=f"{self.label}: {event.phase}"))


class Silent:
    """Tells nobody: the default from Python, and every rank but the first."""

    def say(self, message: str) -> None:
        """Drop the sentence."""

    def warn(self, message: str) -> None:
        """Drop the sentence."""

    def progress(self, label: str, done: int, total: int) -> None:
        """Drop the count."""

    def event(self, event: Event) -> None:
        """Drop the event."""
