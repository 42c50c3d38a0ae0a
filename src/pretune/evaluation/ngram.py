"""What counting alone predicts of a text: the baseline of networks that predict the next token.

Interpolated absolute discounting (Ney, Essen & Kneser 1994): of every count of three tokens in a row 0.75 is taken away and
given to what two tokens say, of theirs to what one says. Nothing is learned by descent, so a network that is no better has
learned no more than which tokens follow each other.

Shapes: N training tokens, M held-out tokens, V ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_TRAIN = 2_000_000
"""Training tokens that are counted at most; of more, the first."""
MOST_HELD_OUT = 200_000
"""Held-out tokens that are predicted at most."""
_DISCOUNT = 0.75
Ids = NDArray[np.int64]
Floats = NDArray[np.float64]


def unigram(train: NDArray[Any], validation: NDArray[Any], unscored: Sequence[int] = ()) -> float:
    """Return the nats per token of token frequencies alone, one added to each count; `unscored` ids are ignored."""
    train, validation = np.delete(train, unscored), np.delete(validation, unscored)
    log_p = np.log((train + 1) / (train + 1).sum())
    return float(-(validation * log_p).sum() / max(1, validation.sum()))


def trigram(train: NDArray[Any], held_out: NDArray[Any], vocabulary: int) -> float:
    """Return the mean nats per token of a trigram model on held-out ids, each predicted from the two before it.

    Args:
        train: (N,) ids to count.
        held_out: (M,) ids to predict; the first from how frequent each is, the second from the first.
        vocabulary: V.
    """
    seen, targets = (np.asarray(part[:most], dtype=np.int64) for part, most in ((train, MOST_TRAIN), (held_out, MOST_HELD_OUT)))
    if not len(targets):
        return 0.0
    chance = (np.bincount(seen, minlength=vocabulary) + 1)[targets] / (len(seen) + vocabulary)
    for order in (1, 2):
        if len(targets) > order and len(seen) > order:
            chance[order:] = _interpolated(
                _contexts(seen, targets, order, vocabulary), seen[order:], targets[order:], chance[order:], vocabulary
            )
    return float(-np.log(chance).mean())


def _contexts(seen: Ids, targets: Ids, order: int, vocabulary: int) -> tuple[Ids, Ids]:
    """Return a number for the `order` tokens before each one; those that were never counted have -1."""
    numbers, asked = seen[: len(seen) - order], targets[: len(targets) - order]
    for later in range(1, order):
        numbers = numbers * vocabulary + seen[later : len(seen) - order + later]
        asked = asked * vocabulary + targets[later : len(targets) - order + later]
    known, places = np.unique(numbers, return_inverse=True)
    return places, _places(known, asked)


def _interpolated(contexts: tuple[Ids, Ids], seen: Ids, targets: Ids, lower: Floats, vocabulary: int) -> Floats:
    """Return the chance of each held-out token after its context, mixed with `lower`, its chance after a shorter one."""
    counted, asked = contexts
    pairs, count = np.unique(counted * vocabulary + seen, return_counts=True)
    total, kinds = np.bincount(counted), np.bincount(pairs // vocabulary)
    place = _places(pairs, asked * vocabulary + targets)
    hits = np.where((place >= 0) & (asked >= 0), count[place], 0)
    there = np.maximum(asked, 0)
    mixed = (np.maximum(hits - _DISCOUNT, 0) + _DISCOUNT * kinds[there] * lower) / total[there]
    return np.where(asked >= 0, mixed, lower)


def _places(known: Ids, asked: Ids) -> Ids:
    """Return where each number stands in a sorted array, -1 where it does not."""
    place = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    return np.where(known[place] == asked, place, -1)
