"""The events of training, written down as they happen; and the end of training that a person asks for."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing
from typing import Any

from pretune.errors import Interrupted
from pretune.runner.interrupt import Interruption
from pretune.runner.reporter import Reporter
from pretune.training.device import Device
from pretune.training.events import Event, Saving, Started, Warned
from pretune.training.run_dir import RunDir


def recorded(events: Generator[Event], folder: RunDir, device: Device) -> Generator[Event]:
    """Pass events on, writing them down in batches: at once would cost more than some steps do."""
    pending: list[dict[str, Any]] = []
    flushed = time.monotonic()
    try:
        for event in events:
            if isinstance(event, Saving):  # what a checkpoint holds must be in the record, or a killed run never tells it
                if device.first:
                    folder.append_events(pending)
                pending = []
                continue
            pending.append(event.to_json())
            if not isinstance(event, Started) and (type(event).__name__ != "Stepped" or time.monotonic() - flushed > 1.0):
                if device.first:
                    folder.append_events(pending)
                pending, flushed = [], time.monotonic()
            yield event
    finally:  # a run that is stopped has taken these steps too
        if device.first and pending:
            folder.append_events(pending)


def follow(events: Generator[Event], folder: RunDir, device: Device, reporter: Reporter, resume: str) -> Generator[Event, bool | None]:
    """Yield every event of training once it is recorded; after Ctrl-C on any process all save and stop.

    Whoever consumes the events may send True: it was asked to stop while the run was suspended.

    Args:
        events: of the phases; `Interrupted` thrown into it saves.
        folder: takes the events.
        device: this process's place.
        reporter: receives warnings.
        resume: the command that resumes this run.

    Raises:
        Interrupted: Ctrl-C; the message ends with `resume`.
    """
    stopped, asked = Interrupted(f"stopped; resume it with: {resume}"), False
    with closing(events), closing(recorded(events, folder, device)) as written:
        while True:
            with Interruption() as interruption:
                try:
                    if device.any(asked):
                        written.close()  # the events of these steps are written before the checkpoint that holds them
                        events.throw(stopped)
                    event = next(written, None)
                except KeyboardInterrupt:  # in a pass over the data, or a second Ctrl-C: the last checkpoint is what is resumed
                    raise stopped from None
            if event is None:
                return
            if isinstance(event, Warned):
                reporter.warn(event.message)
            asked = bool((yield event)) or interruption.asked
