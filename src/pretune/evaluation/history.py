"""What a run's events tell of its phases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pretune.evaluation.metrics import better

Event = Mapping[str, Any]


def by_phase(events: Sequence[Event]) -> dict[str, list[Event]]:
    """Return the stepped and evaluated events of each phase, in order; of a phase that was begun again, only what holds.

    Args:
        events: of one run, as `events.jsonl` has them.
    """
    phases: dict[str, list[Event]] = {}
    for event in events:
        if event.get("event") in ("stepped", "evaluated"):
            seen = phases.setdefault(event["phase"], [])
            while event["event"] == "stepped" and seen and seen[-1]["step"] >= event["step"]:  # the phase was begun again
                seen.pop()
            seen.append(event)
    return phases


def peaked(course: Sequence[Event], name: str) -> bool | None:
    """Return whether what selects was best before its last evaluation in a phase; None where it was not evaluated twice."""
    values = [event["metrics"][name] for event in evaluations(course, name)]
    return any(better(name, value, values[-1]) for value in values) if len(values) > 1 else None


def evaluations(course: Sequence[Event], name: str) -> list[Event]:
    """Return the evaluations of a phase on the split that selects; a curve of the score's split is drawn, and nothing is advised by it."""
    selecting = [event for event in course if event["event"] == "evaluated" and event["split"] == "select"]
    return [event for event in selecting if event["metrics"].get(name) is not None]
