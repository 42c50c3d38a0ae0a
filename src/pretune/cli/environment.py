"""What must be set before torch is loaded."""

from __future__ import annotations

import os
import time
from pathlib import Path

_LOOKS, _PAUSE = 10, 0.01
"""How often, and how many seconds apart, the machine is looked at."""
_AGAIN, _LATER = 3, 0.2
"""How many such looks, and how many seconds apart, must find it busy: a program that starts beside us is soon idle."""
_BUSY = 0.35
"""Share of the cores that others keep busy, from which the machine counts as busy."""


def prepare_environment() -> None:
    """Choose how idle compute threads wait, unless the person has.

    OpenMP threads that spin at a barrier are quickest on an idle machine and starve whatever else runs on a busy
    one, our own decoding threads included; see docs/log.md for the figures.
    """
    if "OMP_WAIT_POLICY" not in os.environ and "GOMP_SPINCOUNT" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE" if _busy() else "ACTIVE"


def _busy() -> bool:
    """Return whether others use the cores now; the load average still tells of what ended a minute ago."""
    loadavg = Path("/proc/loadavg")
    if not loadavg.exists():
        return hasattr(os, "getloadavg") and os.getloadavg()[0] > _BUSY * (os.cpu_count() or 1)
    for again in range(_AGAIN):
        time.sleep(_LATER if again else 0)
        if _running(loadavg) < _BUSY * (os.cpu_count() or 1):
            return False
    return True


def _running(loadavg: Path) -> float:
    """Return how many other threads run or wait for a core, on average over a tenth of a second."""
    seen = 0
    for _ in range(_LOOKS):
        seen += others(loadavg.read_text())
        time.sleep(_PAUSE)
    return seen / _LOOKS


def others(loadavg: str) -> int:
    """Return how many other threads run or wait for a core, from the text of /proc/loadavg ('0.20 0.18 0.12 1/80 11206')."""
    return int(loadavg.split()[3].partition("/")[0]) - 1
