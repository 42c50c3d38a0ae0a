"""What a linear model on words goes by: the terms with the largest weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pretune.evaluation.baseline import Baseline

COUNT = 10
"""Terms of one class."""
_MOST_CLASSES = 40
"""Of more classes no terms are listed."""
HIGHER, LOWER = "a larger number", "a smaller number"


def strongest(model: Baseline, classes: Sequence[str], documents: list[Any]) -> dict[str, list[str]]:
    """Return the terms that speak most for each class, or for a larger and a smaller number, strongest first.

    Args:
        model: of texts; another has no terms.
        classes: C names; empty for numbers.
        documents: in which the terms are looked up.
    """
    floor = model.description.floor
    if not floor.nameable or len(classes) > _MOST_CLASSES:
        return {}
    weight = model.model.weight[: floor.nameable]
    sides = {HIGHER: weight[:, 0], LOWER: -weight[:, 0]} if not classes else dict(zip(classes, weight.T, strict=True))
    chosen = {name: [int(k) for k in np.argsort(-side, kind="stable")[:COUNT] if side[k] > 0] for name, side in sides.items()}
    written = floor.named(sorted({column for columns in chosen.values() for column in columns}), documents)
    return {name: [written[column] for column in columns if column in written] for name, columns in chosen.items()}
