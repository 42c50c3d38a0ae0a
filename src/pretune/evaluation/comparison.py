"""Two models on the same held-out examples: how much better one is, and how far that could be chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.evaluation.links import LinkName

COMPARED: dict[LinkName, str] = {"softmax": "accuracy", "sigmoid": "log_loss", "squared": "mae"}
"""The metric by which two models are compared."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Means over held-out examples, and the paired difference."""

    metric: str
    """Name of what is compared."""
    network: float
    """Accuracy, or the mean error where lower is better."""
    baseline: float
    gain: float
    """How much better the baseline is; negative where the network is."""
    error: float
    """Standard error of the gain, over groups where there are any; infinite where one group is all there is."""
    examples: int
    contradicted: bool = False
    """Whether of classes the network's log loss is lower by more than a standard error: a baseline that always predicts the majority can be
    right more often than a network that finds the small class."""

    def favours_baseline(self, noise: float) -> bool:
        """Return whether the baseline is better by more than so many standard errors, and the log loss does not contradict it."""
        return self.gain > noise * self.error and not self.contradicted


def compared(
    link: LinkName, network: NDArray[Any], baseline: NDArray[Any], targets: NDArray[Any], groups: NDArray[Any] | None = None
) -> Comparison:
    """Return how two models compare on held-out examples.

    Args:
        link: softmax for one class, sigmoid for several, squared for numbers.
        network: (N, C) probabilities or (N,) numbers.
        baseline: likewise.
        targets: (N,) class indices, (N, C) of 0 and 1, or (N,) numbers.
        groups: (N,) examples of one group are no evidence of their own.
    """
    groups = np.arange(len(targets)) if groups is None else groups
    costs = [_costs(link, outputs, targets) for outputs in (network, baseline)]
    gain = costs[0] - costs[1]
    means = [float(cost.mean()) for cost in costs]
    if link == "softmax":
        means = [1 - mean for mean in means]
    return Comparison(
        metric=COMPARED[link],
        network=means[0],
        baseline=means[1],
        gain=float(gain.mean()),
        error=_standard_error(gain, groups),
        examples=len(gain),
        contradicted=link == "softmax" and _is_surer(network, baseline, targets, groups),
    )


def of_scores(metric: str, network: NDArray[Any], baseline: NDArray[Any], groups: NDArray[Any] | None = None) -> Comparison:
    """Return how two models compare by a metric of each example, of which higher is better.

    Args:
        metric: its name.
        network: (N,) its values.
        baseline: likewise.
        groups: (N,) examples of one group are no evidence of their own.
    """
    gain = baseline - network
    return Comparison(
        metric=metric,
        network=float(network.mean()),
        baseline=float(baseline.mean()),
        gain=float(gain.mean()),
        error=_standard_error(gain, np.arange(len(gain)) if groups is None else groups),
        examples=len(gain),
    )


def _costs(link: LinkName, outputs: NDArray[Any], targets: NDArray[Any]) -> NDArray[np.float64]:
    """Return what each example (N,) costs: 1 for a wrong class, the log loss summed over labels, the absolute error."""
    if link == "softmax":
        return (outputs.argmax(1) != targets).astype(float)
    if link == "sigmoid":
        sure = np.clip(np.where(targets > 0.5, outputs, 1 - outputs), 1e-15, 1)
        return -np.log(sure).sum(1)
    return np.abs(outputs - targets)


def _is_surer(network: NDArray[Any], baseline: NDArray[Any], targets: NDArray[Any], groups: NDArray[Any]) -> bool:
    """Return whether the network's log loss is lower by more than a standard error."""
    rows = np.arange(len(targets))
    gain = np.log(np.clip(network[rows, targets], 1e-15, 1)) - np.log(np.clip(baseline[rows, targets], 1e-15, 1))
    return bool(gain.mean() > _standard_error(gain, groups))


def _standard_error(values: NDArray[np.float64], groups: NDArray[Any]) -> float:
    """Return the standard error of the mean of values whose groups were sampled whole."""
    names, group = np.unique(groups, return_inverse=True)
    count = len(names)
    if count < 2:
        return float("inf")
    off = np.bincount(group, weights=values - values.mean(), minlength=count)
    return float((off**2).sum() * count / (count - 1)) ** 0.5 / len(values)
