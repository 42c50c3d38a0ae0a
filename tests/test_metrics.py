"""Metrics, calibration and thresholds agree with scikit-learn and with what a person would count."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from pretune.errors import TrainingError
from pretune.evaluation import calibration, metrics, thresholds
from pretune.evaluation.intervals import intervals
from pretune.tasks.regression import Regression
from pretune.types import Row

NAMES = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu"]


def sample(items: int = 400, classes: int = 7, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    targets = rng.integers(classes, size=items)
    scores = rng.normal(size=(items, classes)) + 1.5 * np.eye(classes)[targets]
    probabilities = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    return probabilities, targets


def test_classification_agrees_with_scikit_learn() -> None:
    probabilities, targets = sample()
    ours, predicted = metrics.classification(probabilities, targets, NAMES), probabilities.argmax(1)
    assert ours["accuracy"] == pytest.approx(sk.accuracy_score(targets, predicted))
    assert ours["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(targets, predicted))
    assert ours["macro_f1"] == pytest.approx(sk.f1_score(targets, predicted, average="macro"))
    assert ours["log_loss"] == pytest.approx(sk.log_loss(targets, probabilities))
    assert ours["top5"] == pytest.approx(sk.top_k_accuracy_score(targets, probabilities, k=5))
    assert ours["confusion"] == sk.confusion_matrix(targets, predicted).tolist()
    precision, recall, f1, support = sk.precision_recall_fscore_support(targets, predicted)
    for c, name in enumerate(NAMES):
        row = ours["per_class"][name]
        assert (row["precision"], row["recall"], row["f1"], row["support"]) == pytest.approx((precision[c], recall[c], f1[c], support[c]))
    assert "auroc" not in ours
    json.dumps(ours)


def test_two_classes_have_auroc_and_average_precision_with_ties() -> None:
    probabilities, targets = sample(classes=2)
    probabilities = np.round(probabilities, 1)
    ours = metrics.classification(probabilities, targets, NAMES[:2])
    assert ours["auroc"] == pytest.approx(sk.roc_auc_score(targets, probabilities[:, 1]))
    assert ours["average_precision"] == pytest.approx(sk.average_precision_score(targets, probabilities[:, 1]))
    assert "top5" not in ours


def test_a_class_without_items_has_no_recall_and_counts_in_macro_f1_where_it_is_predicted() -> None:
    probabilities = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7]])
    ours = metrics.classification(probabilities, np.array([0, 1, 1]), ["a", "b", "never"])
    assert ours["per_class"]["never"] == {"recall": None, "precision": 0.0, "f1": 0.0, "support": 0}
    assert ours["balanced_accuracy"] == pytest.approx(0.75)
    assert ours["macro_f1"] == pytest.approx(sk.f1_score([0, 1, 1], [0, 1, 2], average="macro"))
    with_fourth = np.c_[probabilities, np.zeros(3)]
    assert metrics.classification(with_fourth, np.array([0, 1, 1]), ["a", "b", "never", "nowhere"])["macro_f1"] == ours["macro_f1"]


@pytest.mark.parametrize("seed", range(5))
def test_macro_f1_is_scikit_learns_whatever_is_absent(seed: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities, targets = rng.dirichlet(np.ones(7), 12), rng.integers(0, 4, 12)  # three classes are never true, most are predicted
    ours = metrics.classification(probabilities, targets, NAMES)["macro_f1"]
    assert ours == pytest.approx(sk.f1_score(targets, probabilities.argmax(1), average="macro"))
    many, chosen = np.eye(7)[targets], probabilities > 0.2
    theirs = sk.f1_score(many, chosen, average="macro", zero_division=np.nan)
    assert metrics.multilabel(probabilities, many, NAMES, 0.2)["macro_f1"] == pytest.approx(theirs)


def test_top5_does_not_depend_on_the_order_of_classes_that_tie() -> None:
    same = np.full((14, 7), 1 / 7)
    assert metrics.classification(same, np.arange(14) % 7, NAMES)["top5"] == pytest.approx(5 / 7)
    one = np.array([[0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]])
    assert metrics.classification(one, np.array([0]), NAMES)["top5"] == 1.0
    for true in range(1, 7):
        assert metrics.classification(one, np.array([true]), NAMES)["top5"] == pytest.approx(4 / 6)


def test_single_items_single_classes_and_nothing_at_all() -> None:
    one = metrics.classification(np.array([[0.9, 0.1]]), np.array([0]), ["a", "b"])
    assert one["accuracy"] == one["balanced_accuracy"] == one["macro_f1"] == 1.0
    assert one["auroc"] is None
    assert one["per_class"]["b"]["precision"] is None
    nothing = metrics.classification(np.zeros((0, 2)), np.zeros(0, dtype=int), ["a", "b"])
    assert nothing["accuracy"] is None
    assert nothing["ece"] is None
    assert metrics.regression(np.zeros(0), np.zeros(0))["mae"] is None
    assert metrics.multilabel(np.zeros((0, 2)), np.zeros((0, 2)), ["a", "b"])["subset_accuracy"] is None


def test_a_diverged_model_is_not_measured() -> None:
    with pytest.raises(TrainingError, match="1 of 2 examples"):
        metrics.classification(np.array([[0.5, 0.5], [np.nan, 0.5]]), np.array([0, 1]), ["a", "b"])
    with pytest.raises(TrainingError, match="lower lr"):
        metrics.regression(np.array([np.inf]), np.array([1.0]))


def test_multilabel_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    targets = (rng.random((300, 4)) < (0.1, 0.4, 0.6, 0.3)).astype(float)
    probabilities = np.clip(targets * 0.3 + rng.random((300, 4)) * 0.7, 0, 1)
    cut = np.array([0.3, 0.5, 0.6, 0.4])
    ours, chosen = metrics.multilabel(probabilities, targets, NAMES[:4], cut), probabilities >= cut
    assert ours["macro_f1"] == pytest.approx(sk.f1_score(targets, chosen, average="macro"))
    assert ours["micro_f1"] == pytest.approx(sk.f1_score(targets, chosen, average="micro"))
    assert ours["subset_accuracy"] == pytest.approx(sk.accuracy_score(targets, chosen))
    assert ours["mean_average_precision"] == pytest.approx(sk.average_precision_score(targets, probabilities, average="macro"))
    assert ours["per_class"]["ant"]["threshold"] == 0.3


def test_multilabel_counts_absent_classes_where_they_are_predicted() -> None:
    targets = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0]])
    ours = metrics.multilabel(np.array([[0.9, 0.1, 0.6], [0.9, 0.8, 0.1], [0.1, 0.1, 0.1]]), targets, ["a", "b", "never"])
    assert ours["mean_average_precision"] == 1.0
    assert ours["macro_f1"] == pytest.approx(2 / 3)
    assert ours["per_class"]["never"]["recall"] is None
    assert ours["per_class"]["never"]["precision"] == 0.0
    assert ours["subset_accuracy"] == pytest.approx(2 / 3)


def test_regression_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(2)
    targets = np.round(rng.normal(50, 10, 200))
    predictions = targets + rng.normal(0, 3, 200)
    ours = metrics.regression(predictions, targets)
    assert ours["mae"] == pytest.approx(sk.mean_absolute_error(targets, predictions))
    assert ours["rmse"] == pytest.approx(sk.root_mean_squared_error(targets, predictions))
    assert ours["median_ae"] == pytest.approx(sk.median_absolute_error(targets, predictions))
    assert ours["r2"] == pytest.approx(sk.r2_score(targets, predictions))
    from scipy.stats import spearmanr

    assert ours["spearman"] == pytest.approx(spearmanr(predictions, targets).statistic)


def test_regression_without_variation_has_no_r2() -> None:
    ours = metrics.regression(np.array([1.0, 2.0]), np.array([3.0, 3.0]))
    assert ours["r2"] is None
    assert ours["spearman"] is None
    assert ours["mae"] == 1.5


@pytest.mark.parametrize("number", [0.1, 1 / 3, 1e9 + 0.1, -2.7e-12])
def test_equal_numbers_have_no_r2_and_a_deviation_of_one(number: float) -> None:
    """Their mean is rounded, and what is left of their spread by that is not variation."""
    targets = np.full(10, number)
    assert metrics.regression(targets + 0.5, targets)["r2"] is None
    assert "r2" not in intervals(targets + 0.5, targets)
    space = Regression().fit([Row(id=str(i), target=number) for i in range(10)], ())
    assert (space.mean, space.deviation) == (pytest.approx(number), 1.0)


def test_ece_is_that_of_guo() -> None:
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
    right = np.array([True, True, True, False, True, False])
    assert calibration.ece(confidence, right) == pytest.approx(4 / 6 * abs(0.95 - 0.75) + 2 / 6 * abs(0.55 - 0.5))
    bins = calibration.reliability(confidence, right, bins=10)
    assert [(b["low"], b["high"], b["count"]) for b in bins] == [(0.5, 0.6, 2), (0.9, 1.0, 4)]
    assert calibration.reliability(np.array([0.0, 1.0]), np.array([False, True]), bins=5)[0]["low"] == 0.0


def test_thresholds_give_the_best_f1_and_stay_put_without_evidence() -> None:
    rng = np.random.default_rng(3)
    targets = np.stack([rng.random(200) < 0.2, rng.random(200) < 0.01], axis=1)
    probabilities = np.stack([np.where(targets[:, 0], 0.3, 0.1) + 0.1 * rng.random(200), rng.random(200)], axis=1)
    cut = thresholds.choose(probabilities, targets)
    assert metrics.multilabel(probabilities, targets, ["a", "b"], cut)["per_class"]["a"]["f1"] == 1.0
    assert 0.2 < cut[0] < 0.3
    assert cut[1] == 0.5


def test_thresholds_never_pass_between_equal_probabilities() -> None:
    targets = np.array([1, 1, 1, 1, 1, 0, 0, 0, 0, 0])[:, None]
    cut = thresholds.choose(np.array([0.9, 0.9, 0.4, 0.4, 0.4, 0.4, 0.2, 0.2, 0.1, 0.1])[:, None], targets)
    assert cut[0] == pytest.approx(0.3)


def test_lower_is_better_for_errors() -> None:
    assert metrics.better("accuracy", 0.9, 0.8)
    assert metrics.better("mae", 1.0, 2.0)
    assert not metrics.better("mae", 2.0, 2.0)
