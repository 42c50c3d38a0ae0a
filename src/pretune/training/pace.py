"""How many steps fit into the time there is: planned from the first measured steps, and again until the end."""

from __future__ import annotations

import time
from collections.abc import Callable

from pretune.training.plan import Progress

EARLY = 4
"""Steps after each of which the plan is made again: the first ones are the slowest, and the plan knows nothing before them."""
LOOKS = 20
"""How many times the plan is made again after that."""
UNUSED = 0.1
"""Share of the time that may be left unused: where more is left and less than a step takes, one more step is taken."""


class Clock:
    """The seconds that a run has taken; it stands still while the run is suspended."""

    def __init__(self, now: Callable[[], float] = time.monotonic, started: float | None = None) -> None:
        """Start the clock.

        Args:
            now: returns seconds; another one in tests.
            started: what `now` returned when the run began; None for now.
        """
        self._now = now
        self._started = now() if started is None else started
        self._stopped: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds since the run began, those during which it was suspended not counted."""
        return (self._now() if self._stopped is None else self._stopped) - self._started

    def stop(self) -> None:
        """Stand still."""
        if self._stopped is None:
            self._stopped = self._now()

    def go(self) -> None:
        """Go on."""
        if self._stopped is not None:
            self._started += self._now() - self._stopped
            self._stopped = None


class Pace:
    """Counts the time of one phase and plans its number of steps."""

    def __init__(self, clock: Clock, budget: float | None, progress: Progress) -> None:
        """Begin, or go on, now.

        Args:
            clock: of the run.
            budget: seconds of the phase; None without a limit.
            progress: the phase's, whose `spent` is kept here.
        """
        self.clock, self.budget = clock, budget
        self.begin(progress)

    def begin(self, progress: Progress) -> None:
        """Measure steps from here on: those of another process or attempt say nothing about the next."""
        self._mark = self.clock.seconds
        self._before = self._first = self._last = (progress.step, progress.spent)

    def tick(self, progress: Progress) -> None:
        """Add the time since the last tick to what the phase has spent: steps, measuring, saving and reporting."""
        now = self.clock.seconds
        progress.spent += now - self._mark
        self._mark = now
        if progress.step == self._before[0] + 1 and self._first == self._before:
            self._first = self._last = (progress.step, progress.spent)

    def is_up(self, progress: Progress) -> bool:
        """Return whether the time is over."""
        return self.budget is not None and progress.spent >= self.budget

    def is_late(self, progress: Progress) -> bool:
        """Return whether so much more than the time is spent that nothing should be done that can be left out."""
        return self.budget is not None and progress.spent > (1 + UNUSED) * self.budget

    def is_due(self, progress: Progress) -> bool:
        """Return whether the plan is made again after this step."""
        if self.budget is None:
            return False
        return progress.step - self._before[0] <= EARLY or progress.step % max(1, progress.steps // LOOKS) == 0

    def steps(self, progress: Progress, most: int) -> int:
        """Return the number of steps in all that fill the time, no fewer than are done and at most `most`."""
        assert self.budget is not None
        left = self.budget - progress.spent
        more = int(left / max(1e-9, self._each(progress)) + 0.5) if left > 0 else 0
        if more == 0 and left > UNUSED * self.budget:
            more = 1
        return max(progress.step, min(most, progress.step + more))

    def _each(self, progress: Progress) -> float:
        """Return about what a further step takes, with what goes on beside it; the first step, which warms up, is left out."""
        here = (progress.step, progress.spent)
        if progress.step <= self._first[0]:
            return _seconds(self._before, here)
        overall, recent = _seconds(self._first, here), _seconds(self._last, here)
        self._last = here
        return (overall + recent) / 2


def _seconds(before: tuple[int, float], now: tuple[int, float]) -> float:
    """Return the seconds of a step between two points (step, seconds spent)."""
    return (now[1] - before[1]) / max(1, now[0] - before[0])
