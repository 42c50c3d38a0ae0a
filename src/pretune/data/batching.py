"""Which examples make a batch, and in which order: decided by (seed, epoch) alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pretune.data.dataset import Index, View
from pretune.data.together import Together
from pretune.errors import DataError
from pretune.types import Share

_BUCKET = 50
"""Batches' worth of examples that are sorted by length together: enough to waste little, few enough to stay mixed."""

_LONG = 256
"""Positions of an example from which a batch takes fewer examples, so that a few long ones do not exhaust memory."""


def token_budget(view: View, size: int) -> int | None:
    """Return the positions a batch of `size` examples may have where examples differ in length, else None."""
    return None if view.lengths is None else _LONG * size


@dataclass(frozen=True, kw_only=True)
class Batching:
    """How a view's examples are cut into batches."""

    size: int | None = None
    """Examples in a batch; with `tokens`, at most."""
    tokens: int | None = None
    """Budget of a batch's size times its longest length; batches are made of examples of like length."""
    shuffle: bool = False
    """A new order every epoch, for training; without it the view's own (by length with `tokens`), for evaluation."""
    seed: int = 0
    """Of the order."""
    drop_last: bool = False
    """Leave out a last batch that is not full."""
    together: Together | None = None
    """Which of the view's examples come in one batch, for training; None where each stands for itself."""

    def __post_init__(self) -> None:
        if self.size is None and self.tokens is None:
            raise ValueError("batches need a size, a token budget, or both")

    def plan(self, view: View, epoch: int, share: Share) -> list[Index]:
        """Return one rank's batches in an epoch, as indices into the view.

        Training ranks get the same number of batches; up to `world - 1` examples sit out an epoch, others the next.
        Evaluation ranks share all examples, none twice; they may differ by one example.
        """
        rng = np.random.default_rng([self.seed, epoch])
        if self.together is not None:
            return _shared(self.together.batches(rng, self.size or len(view), self.tokens, view.lengths), share)
        if self.tokens is None:
            assert self.size is not None
            return self._by_size(self._order(len(view), rng), self.size, share)
        if view.lengths is None:
            raise ValueError("a token budget needs a view whose items have lengths")
        return self._by_length(self._order(len(view), rng), view.lengths, self.tokens, share, rng)

    def _order(self, count: int, rng: np.random.Generator) -> Index:
        return rng.permutation(count) if self.shuffle else np.arange(count)

    def _mine(self, order: Index, share: Share) -> Index:
        """Return a rank's items: equally many each in training, every one once in evaluation."""
        return _dealt(order, share.world)[share.rank] if self.shuffle else order[share.rank :: share.world]

    def _by_size(self, order: Index, size: int, share: Share) -> list[Index]:
        mine = self._mine(order, share)
        plan = [mine[start : start + size] for start in range(0, len(mine), size)]
        if self.drop_last and len(plan) > 1 and len(plan[-1]) < size:
            plan.pop()
        elif self.shuffle and size > 1 and len(plan) > 1 and len(plan[-1]) == 1:
            lonely = plan.pop()  # batch norm cannot train on one example
            plan[-1] = np.concatenate([plan[-1], lonely])
        return plan

    def _by_length(self, order: Index, lengths: Index, tokens: int, share: Share, rng: np.random.Generator) -> list[Index]:
        if not self.shuffle:
            return self._cut(self._mine(np.argsort(-lengths, kind="stable"), share), lengths, tokens)
        mean = max(1.0, float(lengths.mean()))
        bucket = int(_BUCKET * share.world * min(max(1.0, tokens / mean), self.size or np.inf))
        groups: list[list[Index]] = []  # of batches of like length, one a rank: ranks step together
        for start in range(0, len(order), bucket):
            bucketed = order[start : start + bucket]
            batches = self._cut(bucketed[np.argsort(-lengths[bucketed], kind="stable")], lengths, tokens)
            whole = len(batches) - len(batches) % share.world
            groups += [batches[i : i + share.world] for i in range(0, whole, share.world)]
            groups += [_dealt(batch, share.world) for batch in batches[whole:] if len(batch) >= share.world]
        return [groups[i][share.rank] for i in rng.permutation(len(groups))]

    def _cut(self, order: Index, lengths: Index, tokens: int) -> list[Index]:
        """Cut examples that are sorted by falling length into batches within the budget; a longer example is a batch of its own."""
        batches, start = [], 0
        while start < len(order):
            size = max(1, int(tokens // max(1, lengths[order[start]])))
            batches.append(order[start : start + min(size, self.size or size)])
            start += len(batches[-1])
        return batches


def _shared(batches: list[Index], share: Share) -> list[Index]:
    """Return one rank's batches, equally many each: up to `world - 1` sit out an epoch.

    Raises:
        DataError: there are fewer batches than ranks.
    """
    if len(batches) < share.world:
        raise DataError(f"{len(batches)} batches cannot be shared by {share.world} processes. Start fewer, or lower batch_size.")
    return batches[share.rank : len(batches) - len(batches) % share.world : share.world]


def _dealt(items: Index, world: int) -> list[Index]:
    """Deal examples out to all ranks, equally many each: up to `world - 1` are left over."""
    end = len(items) - len(items) % world
    return [items[rank:end:world] for rank in range(world)]
