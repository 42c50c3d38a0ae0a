"""What a run's events tell of its phases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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
