"""Calibration and facts that give a class away, against what they are by definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pretune.auditing.confounds import confounds, correlates
from pretune.evaluation.calibration import ece, log_loss, reliability


def plain_ece(confidence: np.ndarray, right: np.ndarray, bins: int) -> float:
    """Guo et al. 2017, bin by bin: (low, high]."""
    total = 0.0
    for b in range(bins):
        inside = (confidence > b / bins) & (confidence <= (b + 1) / bins)
        if inside.any():
            total += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    return total


@pytest.mark.parametrize("bins", [4, 15])
def test_the_calibration_error_is_that_of_its_definition(bins: int) -> None:
    rng = np.random.default_rng(0)
    confidence = np.concatenate([rng.random(200), [0.25, 0.5, 0.75, 1.0]])
    right = rng.random(204) < 0.5
    assert ece(confidence, right, bins) == pytest.approx(plain_ece(confidence, right, bins))
    counted = reliability(confidence, right, bins)
    assert sum(b["count"] for b in counted) == 204
    assert all(b["low"] <= b["confidence"] <= b["high"] for b in counted)


def test_a_calibrated_model_has_no_error_and_an_over_confident_one_has_the_gap() -> None:
    right = np.array([True] * 3 + [False])
    assert ece(np.full(4, 0.75), right) == pytest.approx(0.0)
    assert ece(np.full(4, 0.95), right) == pytest.approx(0.2)
    assert ece(np.zeros(0), np.zeros(0, bool)) is None


def test_log_loss_is_the_mean_of_what_the_truth_was_given_and_finite() -> None:
    probabilities = np.array([[0.5, 0.5], [0.2, 0.8], [1.0, 0.0]])
    assert log_loss(probabilities[:2], np.array([0, 1])) == pytest.approx(-(np.log(0.5) + np.log(0.8)) / 2)
    assert log_loss(probabilities[2:], np.array([1])) == pytest.approx(-np.log(1e-15))


# --- facts that give a class away ----------------------------------------------------------------


def infos_of(values: Any, fact: str = "width") -> list[dict[str, Any]]:
    return [{fact: value} for value in values]


def test_a_fact_that_gives_a_class_away_is_named_and_one_that_does_not_is_not() -> None:
    rng = np.random.default_rng(0)
    targets = ["cat"] * 40 + ["dog"] * 40
    given = [100 + int(rng.integers(2)) for _ in range(40)] + [200 + int(rng.integers(2)) for _ in range(40)]
    found = confounds(infos_of(given), targets)
    assert [f.kind for f in found] == ["confound"]
    assert "image width" in found[0].message
    mixed = rng.permutation(given).tolist()
    assert confounds(infos_of(mixed), targets) == []


def test_a_fact_of_many_values_gains_nothing_by_chance() -> None:
    """The rule is judged on the other half of the items, so that a value of one's own tells nothing."""
    targets = ["cat", "dog"] * 30
    names = [f"format {i}" for i in range(60)]
    assert confounds(infos_of(names, "format"), targets) == []


def test_a_fact_is_judged_by_both_sides_whatever_the_balance() -> None:
    """Two of twenty cats are wide: saying dog of all others is right for 91 % of the items, and finds few cats."""
    widths = [100] * 180 + [999] * 2 + [100] * 18
    assert confounds(infos_of(widths), ["dog"] * 180 + ["cat"] * 20) == []


def test_numbers_that_go_with_a_fact_are_named_by_their_rank_correlation() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    seconds = np.round(rng.random(60), 1)
    numbers = np.exp(5 * seconds) + 0.5 * rng.random(60)
    rho = spearmanr(seconds, numbers).statistic
    found = correlates(infos_of(seconds.tolist(), "seconds"), numbers)
    assert f"rank correlation {rho:.2f}" in found[0].message
    falling = correlates(infos_of(seconds.tolist(), "seconds"), -numbers)
    assert f"rank correlation {-rho:.2f}" in falling[0].message
    assert correlates(infos_of(seconds.tolist(), "seconds"), rng.random(60)) == []
