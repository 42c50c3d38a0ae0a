"""The time that a person gave a run: what is left of it, and passes over the data that cannot end within it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from pretune.errors import RequestError
from pretune.runner.interrupt import check
from pretune.training.pace import Clock

REPORTED_AFTER = 1.0
"""Seconds of a pass after which its rate tells how long all of it takes."""


class Deadline:
    """The clock of a run, and its limit where there is one."""

    def __init__(self, total: float | None, started: float | None = None, now: Callable[[], float] = time.monotonic) -> None:
        """Begin.

        Args:
            total: seconds that the whole verb may take; None for no limit.
            started: what `now` returned when the person's clock started; None for now.
            now: returns seconds.
        """
        self.total = total
        self.clock = Clock(now, started)

    @property
    def remaining(self) -> float:
        """Seconds that are left; infinite where there is no limit."""
        return math.inf if self.total is None else self.total - self.clock.seconds

    def reading(self, what: str) -> Callable[[int, int], None]:
        """Return what is called with (done, all) as a pass that must end goes on: it ends it where the time does not suffice.

        Raises:
            RequestError: at its present rate the pass would end after the deadline.
            KeyboardInterrupt: the person asked to stop.
        """
        began = self.clock.seconds

        def look(done: int, count: int) -> None:
            check()
            took = self.clock.seconds - began
            if self.total is None or took < REPORTED_AFTER or not done:
                return
            whole = took / done * count
            if began + whole > self.total:
                raise RequestError(
                    f"{what}: all {count:,} take about {whole:.0f} s, which leaves nothing of time={self.total:g}s. "
                    f"Give the run more (time={math.ceil((began + whole) * 2)}s, say) or fewer files; once read, they are cached."
                )

        return look
