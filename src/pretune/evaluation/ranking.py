"""Measures of order: area under the ROC curve, average precision, rank correlation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def auroc(scores: NDArray[np.floating], positive: NDArray[np.bool_]) -> float | None:
    """Return the chance that a positive example (N,) scores above a negative one, ties half; None without both kinds.

    The Mann-Whitney statistic, equal to the area under the ROC curve (Hanley & McNeil 1982).
    """
    ones = int(positive.sum())
    zeros = len(positive) - ones
    if not ones or not zeros:
        return None
    return float((_ranks(scores)[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def average_precision(scores: NDArray[np.floating], positive: NDArray[np.bool_]) -> float | None:
    """Return the mean of precision over recall steps, without interpolation; None without a positive example.

    Examples of equal score enter together, so that their order in the file changes nothing.
    """
    total = int(positive.sum())
    if not total:
        return None
    order = np.argsort(-scores, kind="stable")
    last_of_score = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = positive[order].cumsum()[last_of_score]
    precision = hits / (last_of_score + 1)
    return float((np.diff(hits, prepend=0) * precision).sum() / total)


def spearman(a: NDArray[np.floating], b: NDArray[np.floating]) -> float | None:
    """Return the rank correlation of (N,) and (N,) in [-1, 1], ties averaged; None where either does not vary."""
    x, y = _ranks(a), _ranks(b)
    x, y = x - x.mean(), y - y.mean()
    scale = np.sqrt((x**2).sum() * (y**2).sum())
    return float((x * y).sum() / scale) if scale > 0 else None


def _ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return ranks from 1, equal values sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[inverse]
