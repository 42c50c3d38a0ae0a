"""Whether a confidence of 0.8 is right eight times in ten."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15
"""Equal-width bins of the expected calibration error, as in Guo et al. 2017."""


def ece(confidence: NDArray[np.floating], right: NDArray[np.bool_], bins: int = BINS) -> float | None:
    """Return the expected calibration error in [0, 1]: mean |confidence - accuracy| over bins, weighted by examples.

    Guo, Pleiss, Sun & Weinberger 2017, "On Calibration of Modern Neural Networks".

    Args:
        confidence: (N,) probability of the predicted class.
        right: (N,) whether the prediction was right.
        bins: number of equal-width bins (low, high].
    """
    size = len(confidence)
    parts = reliability(confidence, right, bins)
    return sum(p["count"] / size * abs(p["confidence"] - p["accuracy"]) for p in parts) if size else None


def reliability(confidence: NDArray[np.floating], right: NDArray[np.bool_], bins: int = BINS) -> list[dict[str, Any]]:
    """Return the bins that hold items: {low, high, count, confidence (mean), accuracy}; what the diagram draws."""
    where = np.clip(np.ceil(np.asarray(confidence, dtype=float) * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(where, minlength=bins)
    sure = np.bincount(where, weights=confidence, minlength=bins)
    hits = np.bincount(where, weights=right, minlength=bins)
    return [
        {
            "low": b / bins,
            "high": (b + 1) / bins,
            "count": int(count[b]),
            "confidence": float(sure[b] / count[b]),
            "accuracy": float(hits[b] / count[b]),
        }
        for b in np.flatnonzero(count).tolist()
    ]


def log_loss(probabilities: NDArray[np.floating], targets: NDArray[np.integer]) -> float | None:
    """Return the mean negative log probability of the true class, in nats; probabilities are clipped at 1e-15."""
    if not len(targets):
        return None
    true = probabilities[np.arange(len(targets)), targets]
    return float(-np.log(np.clip(true, 1e-15, 1.0)).mean())
