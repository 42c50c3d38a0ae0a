"""Folds for cross-validation: alike in their targets, and groups whole."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def by_turns(y: NDArray[Any], folds: int) -> NDArray[np.int64]:
    """Deal rows to folds class by class (or by rising number), so that folds resemble each other."""
    order = np.lexsort(np.asarray(y, dtype=float).T)
    out = np.empty(len(y), dtype=np.int64)
    out[order] = np.arange(len(y)) % folds
    return out


def of_groups(groups: NDArray[Any], goal: NDArray[np.float64], folds: int) -> NDArray[np.int64]:
    """Give whole groups to folds, the largest first and those of like targets in turn, each to the fold that is smallest so far."""
    _, first, group, size = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    fold_of, filled = np.zeros(len(size), dtype=np.int64), np.zeros(folds)
    for g in np.lexsort((*goal[first].T, -size)):
        fold_of[g] = filled.argmin()
        filled[fold_of[g]] += size[g]
    return fold_of[group]
