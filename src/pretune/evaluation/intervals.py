"""How far a score could be off by the choice of evaluation items: confidence intervals.

Percentile bootstrap (Efron 1979) over items, or over whole groups where items of a group resemble each other. Every
metric here is a function of sums over items (hits, sizes, squared errors …), so that a resample is one row of a matrix
product, not a pass over the data. Accuracy without groups uses Wilson's interval (1927), which stays honest where nothing
was wrong. Deterministic in `seed`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.evaluation.metrics import is_constant

Floats = NDArray[np.float64]
Metric = Callable[[NDArray[Any], NDArray[Any]], float]
Statistic = Callable[[Floats], Floats]
"""Sums of R resamples (R, K) -> metric of each (R,)."""

_CHUNK = 2_000_000
"""Drawn units held at a time."""
_MOST_DRAWS = 50_000_000
"""Beyond this many drawn units fewer resamples are taken, at least `_FEWEST`."""
_MOST_PRODUCTS = 4_000_000_000
"""The same limit on multiplications, for very many classes."""
_FEWEST = 200


@dataclass(frozen=True, kw_only=True)
class _Units:
    """What is drawn with replacement."""

    sums: Floats
    """(U, K) sums of each unit."""
    weight: NDArray[np.int64]
    """(U,) how many equal units each row stands for."""
    statistics: dict[str, Statistic]


def interval(
    metric: str | Metric,
    outputs: NDArray[Any],
    targets: NDArray[Any],
    *,
    groups: NDArray[Any] | None = None,
    thresholds: NDArray[Any] | float = 0.5,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float] | None:
    """Return the bootstrap interval of one metric; None where there are fewer than two items or groups.

    Args:
        metric: a name that `intervals` gives, or any function (outputs, targets) -> float, which is called once a resample.
        outputs: (N, C) probabilities or (N,) numbers.
        targets: (N,) class indices, (N, C) of 0 and 1, or (N,) numbers.
        groups: (N,) labels; items of one group are drawn together.
        thresholds: multilabel: probability from which a class is predicted.
        resamples: number of bootstrap samples.
        seed: of the draws.
        level: coverage, in (0, 1).
    """
    if not isinstance(metric, str):
        return _by_calling(metric, outputs, targets, groups, resamples, seed, level)
    given = intervals(outputs, targets, groups=groups, thresholds=thresholds, resamples=resamples, seed=seed, level=level)
    return given.get(metric)


def intervals(
    outputs: NDArray[Any],
    targets: NDArray[Any],
    *,
    groups: NDArray[Any] | None = None,
    thresholds: NDArray[Any] | float = 0.5,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """Return the intervals of all metrics that have a fast one, from one set of resamples; arguments as in `interval`.

    Returns:
        Single-label: accuracy, balanced_accuracy, macro_f1. Multilabel: macro_f1, micro_f1, subset_accuracy. Numbers: mae, rmse, r2.
        Empty where there are fewer than two items or groups.
    """
    units = _units(outputs, targets, groups, thresholds)
    size = int(units.weight.sum())
    if size < 2:
        return {}
    sums = _resample(units, resamples, np.random.default_rng(seed))
    whole = (units.weight @ units.sums)[None]
    out = {}
    for name, statistic in units.statistics.items():
        ends = _percentiles(statistic(sums), level)
        is_share = outputs.ndim == 2
        if is_share and (ends is None or ends[0] == ends[1]):  # nothing varied: the bootstrap knows nothing
            ends = wilson(float(statistic(whole)[0]), size, level)
        if ends is not None:
            out[name] = ends
    if "accuracy" in out and groups is None:
        out["accuracy"] = wilson(float(units.statistics["accuracy"](whole)[0]), size, level)
    return out


def wilson(share: float, size: int, level: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval (1927) of a share in [0, 1] of `size` independent items."""
    from statistics import NormalDist

    z = NormalDist().inv_cdf((1 + level) / 2)
    middle = (share + z**2 / (2 * size)) / (1 + z**2 / size)
    half = z / (1 + z**2 / size) * (share * (1 - share) / size + z**2 / (4 * size**2)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


# --- what is drawn -------------------------------------------------------------------------------


def _units(outputs: NDArray[Any], targets: NDArray[Any], groups: NDArray[Any] | None, thresholds: NDArray[Any] | float) -> _Units:
    if outputs.ndim == 1:
        return _grouped(_error_sums(outputs, targets), groups, {"mae": _mae, "rmse": _rmse, "r2": _r2})
    if targets.ndim == 2:
        statistics = {"macro_f1": _macro_f1, "micro_f1": _micro_f1, "subset_accuracy": _subset_accuracy}
        return _grouped(_label_sums(outputs >= thresholds, targets > 0.5), groups, statistics)
    return _class_units(outputs.argmax(1), targets, outputs.shape[1], groups)


def _class_units(predicted: NDArray[Any], targets: NDArray[Any], classes: int, groups: NDArray[Any] | None) -> _Units:
    """Count hits, items and predictions of each class, (U, 3C); items of one (true, predicted) cell are equal units."""
    statistics: dict[str, Statistic] = {"accuracy": _accuracy, "balanced_accuracy": _balanced_accuracy, "macro_f1": _macro_f1}
    cells, inverse, count = np.unique(np.asarray(targets) * classes + predicted, return_inverse=True, return_counts=True)
    true, claimed = np.divmod(cells, classes)
    sums = np.zeros((len(cells), 3, classes))
    rows = np.arange(len(cells))
    sums[rows, 0, true] = true == claimed
    sums[rows, 1, true] = 1
    sums[rows, 2, claimed] = 1
    flat = sums.reshape(len(cells), -1)
    if groups is None:
        return _Units(sums=flat, weight=count.astype(np.int64), statistics=statistics)
    names, group = np.unique(groups, return_inverse=True)
    held = np.zeros((len(names), len(cells)))
    np.add.at(held, (group, inverse), 1)
    return _Units(sums=held @ flat, weight=np.ones(len(names), dtype=np.int64), statistics=statistics)


def _grouped(sums: Floats, groups: NDArray[Any] | None, statistics: dict[str, Statistic]) -> _Units:
    if groups is not None:
        names, group = np.unique(groups, return_inverse=True)
        per_group = np.zeros((len(names), sums.shape[1]))
        np.add.at(per_group, group, sums)
        sums = per_group
    return _Units(sums=sums, weight=np.ones(len(sums), dtype=np.int64), statistics=statistics)


def _error_sums(predictions: NDArray[Any], targets: NDArray[Any]) -> Floats:
    wanted = np.asarray(targets, dtype=float)
    error = np.asarray(predictions, dtype=float) - wanted
    centred = np.zeros_like(wanted) if is_constant(wanted) else wanted - wanted.mean()  # the same spread, without cancellation
    return np.stack([np.ones_like(error), np.abs(error), error**2, centred, centred**2], axis=1)


def _label_sums(chosen: NDArray[Any], truth: NDArray[Any]) -> Floats:
    exact = (chosen == truth).all(1)
    return np.concatenate([chosen & truth, truth, chosen, exact[:, None], np.ones_like(exact)[:, None]], axis=1).astype(float)


def _resample(units: _Units, resamples: int, rng: np.random.Generator) -> Floats:
    """Return the sums of each resample, (R, K)."""
    count, size = len(units.weight), int(units.weight.sum())
    resamples = min(resamples, max(_FEWEST, min(_MOST_DRAWS // count, _MOST_PRODUCTS // units.sums.size)))
    if count < size:  # equal units: how often each kind is drawn is multinomial
        return rng.multinomial(size, units.weight / size, size=resamples) @ units.sums
    rows = max(1, _CHUNK // count)
    parts = []
    for start in range(0, resamples, rows):
        now = min(rows, resamples - start)
        drawn = rng.integers(count, size=(now, count)) + np.arange(now)[:, None] * count
        times = np.bincount(drawn.ravel(), minlength=now * count).reshape(now, count)
        parts.append(times.astype(float) @ units.sums)
    return np.concatenate(parts)


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


def _micro_f1(sums: Floats) -> Floats:
    width = sums.shape[1] // 3
    hits, support, claimed = (sums[:, k * width : (k + 1) * width].sum(1) for k in range(3))
    return np.divide(2 * hits, support + claimed, out=np.full(len(sums), np.nan), where=support + claimed > 0)


def _subset_accuracy(sums: Floats) -> Floats:
    return sums[:, -2] / sums[:, -1]


def _mae(sums: Floats) -> Floats:
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


def _percentiles(values: Floats, level: float) -> tuple[float, float] | None:
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _by_calling(
    metric: Metric, outputs: NDArray[Any], targets: NDArray[Any], groups: NDArray[Any] | None, resamples: int, seed: int, level: float
) -> tuple[float, float] | None:
    labels = np.arange(len(targets)) if groups is None else groups
    names, group = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        return None
    members = np.split(np.argsort(group, kind="stable"), np.bincount(group).cumsum()[:-1])
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(resamples):
        index = np.concatenate([members[g] for g in rng.integers(len(names), size=len(names))])
        values.append(metric(outputs[index], targets[index]))
    return _percentiles(np.asarray(values, dtype=float), level)
