"""What must be set before torch is loaded."""

from __future__ import annotations

import os


def prepare_environment() -> None:
    """Choose how idle compute threads wait, unless the person has.

    OpenMP threads that spin at a barrier are quickest on an idle machine and starve whatever else runs on a busy
    one, our own decoding threads included; see docs/log.md for the figures.
    """
    if "OMP_WAIT_POLICY" not in os.environ and "GOMP_SPINCOUNT" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE" if _busy() else "ACTIVE"


def _busy() -> bool:
    cores = os.cpu_count() or 1
    return hasattr(os, "getloadavg") and os.getloadavg()[0] > 0.5 * cores
