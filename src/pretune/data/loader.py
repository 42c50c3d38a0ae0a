"""Batches of a view in an order that depends on (seed, epoch) only, prepared ahead in threads."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator

import numpy as np

from pretune.data.dataset import Index, View
from pretune.data.prefetch import prefetch
from pretune.errors import DataError
from pretune.types import Batch

_BUCKET = 50
"""Batches' worth of items that are sorted by length together: enough to waste little, few enough to stay mixed."""

_LONG = 256
"""Positions of an item from which a batch takes fewer items, so that a few long ones do not exhaust memory."""


def token_budget(view: View, batch_size: int) -> int | None:
    """Return the positions a batch of `batch_size` items may have where items differ in length, else None."""
    return None if view.lengths is None else _LONG * batch_size


class Loader:
    """Batches for training (`shuffle`) or for evaluation, this rank's share of them.

    Training ranks get the same number of batches; up to `world - 1` items sit out an epoch, others the next.
    Evaluation ranks share all items, none twice; they may differ by one item.
    """

    def __init__(
        self,
        view: View,
        *,
        batch_size: int | None = None,
        tokens: int | None = None,
        shuffle: bool,
        seed: int,
        drop_last: bool = False,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
    ) -> None:
        """Plan batches of a view.

        Args:
            view: the items.
            batch_size: items in a batch; with `tokens`, at most.
            tokens: budget of a batch's size times its longest length; batches are made of items of like length.
            shuffle: a new order every epoch; without it the view's own (by length with `tokens`).
            seed: of the order.
            drop_last: leave out a last batch that is not full.
            rank: of this process.
            world: number of processes.
            workers: threads that prepare batches ahead; 0 prepares each when it is asked for.

        Raises:
            DataError: fewer items than processes.
        """
        if batch_size is None and tokens is None:
            raise ValueError("a loader needs a batch_size, a token budget, or both")
        if shuffle and len(view) < world:
            raise DataError(f"{len(view)} training items cannot be shared by {world} processes. Start fewer.")
        self.view, self.batch_size, self.tokens = view, batch_size, tokens
        self.shuffle, self.seed, self.drop_last = shuffle, seed, drop_last
        self.rank, self.world, self.workers = rank, world, workers
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

    # --- the plan --------------------------------------------------------------------------------

    def _plan(self, epoch: int) -> list[Index]:
        """Return this rank's batches as indices into the view."""
        if not self.shuffle:
            epoch = 0
        if self._planned[0] != epoch:
            rng = np.random.default_rng([self.seed, epoch])
            plan = self._by_size(rng) if self.tokens is None else self._by_length(rng, self.tokens)
            self._planned = (epoch, plan)
        return self._planned[1]

    def _by_size(self, rng: np.random.Generator) -> list[Index]:
        assert self.batch_size is not None
        share = self._share(self._order(rng))
        plan = [share[start : start + self.batch_size] for start in range(0, len(share), self.batch_size)]
        if self.drop_last and len(plan) > 1 and len(plan[-1]) < self.batch_size:
            plan.pop()
        elif self.shuffle and self.batch_size > 1 and len(plan) > 1 and len(plan[-1]) == 1:
            lonely = plan.pop()  # batch norm cannot train on one item
            plan[-1] = np.concatenate([plan[-1], lonely])
        return plan

    def _order(self, rng: np.random.Generator) -> Index:
        return rng.permutation(len(self.view)) if self.shuffle else np.arange(len(self.view))

    def _share(self, order: Index) -> Index:
        """Return this rank's items: equally many each in training, every one once in evaluation."""
        return self._split(order)[self.rank] if self.shuffle else order[self.rank :: self.world]

    def _by_length(self, rng: np.random.Generator, tokens: int) -> list[Index]:
        lengths = self.view.lengths
        if lengths is None:
            raise ValueError("a token budget needs a view whose items have lengths")
        if not self.shuffle:
            share = self._share(np.argsort(-lengths, kind="stable"))
            return self._cut(share, lengths, tokens)
        order = self._order(rng)
        mean = max(1.0, float(lengths.mean()))
        bucket = int(_BUCKET * self.world * min(max(1.0, tokens / mean), self.batch_size or np.inf))
        groups: list[list[Index]] = []  # of batches of like length, one a rank: ranks step together
        for start in range(0, len(order), bucket):
            part = order[start : start + bucket]
            batches = self._cut(part[np.argsort(-lengths[part], kind="stable")], lengths, tokens)
            whole = len(batches) - len(batches) % self.world
            groups += [batches[i : i + self.world] for i in range(0, whole, self.world)]
            groups += [self._split(batch) for batch in batches[whole:] if len(batch) >= self.world]
        return [groups[i][self.rank] for i in rng.permutation(len(groups))]

    def _split(self, items: Index) -> list[Index]:
        """Deal items out to all ranks, equally many each."""
        end = len(items) - len(items) % self.world
        return [items[rank : end : self.world] for rank in range(self.world)]

    def _cut(self, order: Index, lengths: Index, tokens: int) -> list[Index]:
        """Cut items that are sorted by falling length into batches within the budget; a longer item is a batch of its own."""
        batches, start = [], 0
        while start < len(order):
            size = max(1, int(tokens // max(1, lengths[order[start]])))
            batches.append(order[start : start + min(size, self.batch_size or size)])
            start += len(batches[-1])
        return batches
