"""Batches of examples that belong together: a query and its passage, two texts of a class."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.int64]

_BUCKET = 50
"""Batches' worth of sets that are sorted by length together."""
_PASSED_OVER = 200
"""Sets at most that wait for the next batch because the one before them holds their key."""


@dataclass(frozen=True, kw_only=True)
class Together:
    """Which examples of a view come in one batch, and which rather not."""

    unit: Index
    """(N,) examples of an equal number are one set, which is never torn."""
    most: int | None = None
    """Examples of a set in one batch; a larger set gives several, others each epoch."""
    key: Index
    """(N,) sets whose first examples have an equal number come in different batches, as far as there are others."""

    def sets(self, rng: np.random.Generator) -> list[Index]:
        """Return the sets in random order."""
        order = rng.permutation(len(self.unit))
        order = order[np.argsort(self.unit[order], kind="stable")]
        whole = np.split(order, np.flatnonzero(np.diff(self.unit[order])) + 1)
        if self.most is not None:
            whole = [one[at : at + self.most] for one in whole for at in range(0, len(one), self.most)]
        return [whole[at] for at in rng.permutation(len(whole))]

    def batches(self, rng: np.random.Generator, size: int, tokens: int | None, lengths: Index | None) -> list[Index]:
        """Return batches of up to `size` examples in random order; with lengths, of sets of like length within the token budget."""
        sets = self.sets(rng)
        if lengths is None or tokens is None:
            return self._packed(sets, size, None, np.ones(len(self.unit), dtype=np.int64))
        mean = max(1.0, float(lengths.mean()))
        bucket = max(1, int(_BUCKET * min(max(1.0, tokens / mean), size) * len(sets) / max(1, len(self.unit))))
        made: list[Index] = []
        for start in range(0, len(sets), bucket):
            alike = sorted(sets[start : start + bucket], key=lambda one: -int(lengths[one].max()))
            made += self._packed(alike, size, tokens, lengths)
        return [made[at] for at in rng.permutation(len(made))]

    def _packed(self, sets: list[Index], size: int, tokens: int | None, lengths: Index) -> list[Index]:
        waiting, made = deque(sets), []
        while waiting:
            batch: list[Index] = []
            keys: set[int] = set()
            later: list[Index] = []
            count = longest = 0
            while waiting and len(later) <= _PASSED_OVER:
                one = waiting.popleft()
                if int(self.key[one[0]]) in keys:
                    later.append(one)
                    continue
                longest = max(longest, int(lengths[one].max()))
                if batch and (count + len(one) > size or (tokens is not None and (count + len(one)) * longest > tokens)):
                    waiting.appendleft(one)
                    break
                batch.append(one)
                keys.add(int(self.key[one[0]]))
                count += len(one)
            if not waiting or len(later) > _PASSED_OVER:  # hardly any other keys are left: the batch is filled with what there is
                while later and count + len(later[0]) <= size:
                    count += len(later[0])
                    batch.append(later.pop(0))
            waiting.extendleft(reversed(later))
            made.append(np.concatenate(batch))
        return made
