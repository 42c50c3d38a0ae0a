"""Sums over examples, and the metrics that are functions of them: what resampling multiplies instead of measuring again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pretune.evaluation.metrics import is_constant

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""Sums of R resamples (R, K) -> metric of each (R,)."""
Kind = Literal["share", "hits", "error", "other"]
"""Of a metric: a share in [0, 1]; the share of examples that are right; an error or loss; anything else."""


@dataclass(frozen=True, kw_only=True)
class Sums:
    """Sums over each example, and the metrics that are functions of them: resamples are rows of a matrix product."""

    sums: Floats
    """(N, K) of each example, or of each set that is resampled whole."""
    statistics: Mapping[str, Statistic]
    """Sums of R resamples (R, K) -> metric of each (R,)."""
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    """Which method fits each metric; 'share' where nothing is said."""

    def grouped(self, groups: NDArray[Any] | None) -> Sums:
        """Return the sums of each group of examples."""
        if groups is None:
            return self
        names, group = np.unique(groups, return_inverse=True)
        per_group = np.zeros((len(names), self.sums.shape[1]))
        np.add.at(per_group, group, self.sums)
        return replace(self, sums=per_group)


def ratio(above: int, below: int) -> Statistic:
    """Return the metric that is one column of sums by another; NaN where that is 0."""
    return lambda sums: np.divide(sums[:, above], sums[:, below], out=np.full(len(sums), np.nan), where=sums[:, below] > 0)


def sums_of(outputs: NDArray[Any], targets: NDArray[Any], thresholds: NDArray[Any] | float) -> list[Sums]:
    """Return the sums that the metrics of predictions are made of; arguments as in `intervals.intervals`."""
    if outputs.ndim == 1:
        statistics = {"mae": mean, "rmse": _rmse, "r2": _r2}
        kinds: dict[str, Kind] = {"mae": "error", "rmse": "error", "r2": "other"}
        return [Sums(sums=_error_sums(outputs, targets), statistics=statistics, kinds=kinds)]
    if targets.ndim == 2:
        shares = {"macro_f1": _macro_f1, "micro_f1": _micro_f1, "subset_accuracy": _subset_accuracy}
        return [Sums(sums=_label_sums(outputs >= thresholds, targets > 0.5), statistics=shares, kinds={"subset_accuracy": "hits"})]
    sums, losses = cell_sums(np.asarray(targets), outputs.argmax(1), outputs.shape[1]), loss_sums(outputs, np.asarray(targets))
    return [Sums(sums=sums, statistics=CLASSES), Sums(sums=losses, statistics={"log_loss": mean}, kinds={"log_loss": "error"})]


def _error_sums(predictions: NDArray[Any], targets: NDArray[Any]) -> Floats:
    wanted = np.asarray(targets, dtype=float)
    error = np.asarray(predictions, dtype=float) - wanted
    centred = np.zeros_like(wanted) if is_constant(wanted) else wanted - wanted.mean()  # the same spread, without cancellation
    return np.stack([np.ones_like(error), np.abs(error), error**2, centred, centred**2], axis=1)


def _label_sums(chosen: NDArray[Any], truth: NDArray[Any]) -> Floats:
    exact = (chosen == truth).all(1)
    return np.concatenate([chosen & truth, truth, chosen, exact[:, None], np.ones_like(exact)[:, None]], axis=1).astype(float)


# --- of each example -----------------------------------------------------------------------------


def cell_sums(true: NDArray[Any], claimed: NDArray[Any], classes: int) -> Floats:
    """Return hits, examples and predictions of each class, (U, 3C), of one example in each (true, predicted) cell."""
    sums, rows = np.zeros((len(true), 3, classes)), np.arange(len(true))
    sums[rows, 0, true] = true == claimed
    sums[rows, 1, true] = 1
    sums[rows, 2, claimed] = 1
    return sums.reshape(len(true), 3 * classes)


def loss_sums(outputs: NDArray[Any], targets: NDArray[Any]) -> Floats:
    """Return 1 and the negative log probability of each example's class, (N, 2)."""
    true = outputs[np.arange(len(targets)), targets]
    return np.stack([np.ones(len(targets)), -np.log(np.clip(true, 1e-15, 1.0))], axis=1)


# --- metrics of sums -----------------------------------------------------------------------------


def _accuracy(sums: Floats) -> Floats:
    hits, support, _ = np.split(sums, 3, axis=1)
    return hits.sum(1) / support.sum(1)


def _balanced_accuracy(sums: Floats) -> Floats:
    hits, support, _ = np.split(sums, 3, axis=1)
    return _mean_where(hits, support, support > 0)


def _macro_f1(sums: Floats) -> Floats:
    width = sums.shape[1] // 3
    hits, support, claimed = (sums[:, k * width : (k + 1) * width] for k in range(3))
    return _mean_where(2 * hits, support + claimed, support + claimed > 0)


CLASSES: dict[str, Statistic] = {"accuracy": _accuracy, "balanced_accuracy": _balanced_accuracy, "macro_f1": _macro_f1}


def _micro_f1(sums: Floats) -> Floats:
    width = sums.shape[1] // 3
    hits, support, claimed = (sums[:, k * width : (k + 1) * width].sum(1) for k in range(3))
    return np.divide(2 * hits, support + claimed, out=np.full(len(sums), np.nan), where=support + claimed > 0)


def _subset_accuracy(sums: Floats) -> Floats:
    return sums[:, -2] / sums[:, -1]


def mean(sums: Floats) -> Floats:
    """Return the second column by the first."""
    return sums[:, 1] / sums[:, 0]


def _rmse(sums: Floats) -> Floats:
    return np.sqrt(sums[:, 2] / sums[:, 0])


def _r2(sums: Floats) -> Floats:
    size, _, squared, total, total_squared = sums.T
    spread = total_squared - total**2 / size
    return 1 - np.divide(squared, spread, out=np.full(len(sums), np.nan), where=spread > 1e-12 * np.maximum(total_squared, 1e-300))


def _mean_where(above: Floats, below: Floats, known: NDArray[np.bool_]) -> Floats:
    shares = np.divide(above, below, out=np.zeros_like(above), where=known)
    count = known.sum(1)
    return np.divide(shares.sum(1), count, out=np.full(len(above), np.nan), where=count > 0)
