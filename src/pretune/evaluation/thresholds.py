"""From which probability a label is given, chosen on data that is not the score's."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MIN_POSITIVES = 5
"""Fewer positive examples than this say nothing about a threshold."""


def choose(probabilities: NDArray[np.floating], targets: NDArray[Any]) -> NDArray[np.float64]:
    """Return the threshold (C,) of each class that gives the best F1 on these examples; one half where there are too few.

    A threshold lies half-way between the two neighbouring probabilities, so that it does not hang on one example.

    Args:
        probabilities: (N, C), each in [0, 1].
        targets: (N, C) of 0 and 1, of the selection part.
    """
    return np.array([_best_f1(probabilities[:, c], targets[:, c] > 0.5) for c in range(probabilities.shape[1])], dtype=float)


def _best_f1(probability: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    if truth.sum() < MIN_POSITIVES:
        return 0.5
    order = np.argsort(-probability, kind="stable")
    ranked = probability[order]
    f1 = 2 * truth[order].cumsum() / (np.arange(1, len(truth) + 1) + truth.sum())
    f1[:-1][ranked[:-1] == ranked[1:]] = -1  # a threshold cannot pass between equal probabilities
    best = int(f1.argmax())
    below = float(ranked[best + 1]) if best + 1 < len(ranked) else 0.0
    return (float(ranked[best]) + below) / 2
