"""Batches of a view, prepared ahead in threads."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator

from pretune.data.batching import Batching
from pretune.data.dataset import Index, View
from pretune.errors import DataError
from pretune.storage.prefetch import prefetch
from pretune.types import Batch, Share

_WHOLE = Share()


class Loader:
    """Batches of a view for training or for evaluation, this rank's share of them."""

    def __init__(self, view: View, batching: Batching, *, share: Share = _WHOLE, workers: int = 0) -> None:
        """Take batches of a view.

        Args:
            view: the examples.
            batching: how they are cut into batches, and in which order.
            share: what of them is this process's.
            workers: threads that prepare batches ahead; 0 prepares each when it is asked for.

        Raises:
            DataError: fewer examples than processes.
        """
        if batching.shuffle and len(view) < share.world:
            raise DataError(f"{len(view)} training items cannot be shared by {share.world} processes. Start fewer.")
        self.view, self.batching, self.share, self.workers = view, batching, share, workers
        self.waited = 0.0
        """Seconds that the consumer has waited for data so far."""
        self._planned: tuple[int, list[Index]] = (-1, [])

    def iterate(self, epoch: int, start: int = 0) -> Generator[Batch, None, None]:
        """Yield the batches of an epoch, `start` of them skipped; close it early to stop its threads."""
        plan = self._plan(epoch)

        def load(number: int) -> Batch:
            try:
                return self.view.batch(plan[number], epoch)
            except Exception as error:
                error.add_note(f"while loading batch {number} of epoch {epoch}, items {plan[number].tolist()}")
                raise

        batches = prefetch(load, range(start, len(plan)), threads=self.workers, ahead=self.workers + 1)
        try:
            while (batch := self._timed(batches)) is not None:
                yield batch
        finally:
            batches.close()

    def steps(self, epoch: int) -> int:
        """Return this rank's number of batches in an epoch."""
        return len(self._plan(epoch))

    def padding(self, epoch: int) -> float:
        """Return the share of this rank's positions in an epoch that are padding."""
        lengths = self.view.lengths
        if lengths is None:
            return 0.0
        plan = self._plan(epoch)
        return 1 - float(sum(lengths[batch].sum() for batch in plan)) / float(sum(len(batch) * lengths[batch].max() for batch in plan))

    def _timed(self, batches: Iterator[Batch]) -> Batch | None:
        started = time.perf_counter()
        batch = next(batches, None)
        self.waited += time.perf_counter() - started
        return batch

    def _plan(self, epoch: int) -> list[Index]:
        """Return this rank's batches of an epoch, kept until another's are asked for."""
        if not self.batching.shuffle:
            epoch = 0
        if self._planned[0] != epoch:
            self._planned = (epoch, self.batching.plan(self.view, epoch, self.share))
        return self._planned[1]
