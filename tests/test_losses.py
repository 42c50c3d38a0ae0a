"""Losses and target spaces of the tasks, against scikit-learn and torch."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F

from pretune.labels import Labels
from pretune.sources.target_type import NUMBER
from pretune.tasks import Space
from pretune.tasks._base import LossSettings, infer
from pretune.tasks.classification import Classification
from pretune.tasks.multilabel import LabelSpace, Multilabel
from pretune.tasks.regression import Regression, Scale
from pretune.types import Row

OUTPUTS = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, 0.3], [-1.0, 3.0, 0.0], [0.0, 0.0, 1.0]])
CLASSES = torch.tensor([0, 2, 1, 0])
ABC = LabelSpace(classes=("a", "b", "c"))


def rows_of(targets: list[Any]) -> list[Row]:
    return [Row(id=str(i), target=target) for i, target in enumerate(targets)]


# --- one class -----------------------------------------------------------------------------------


def test_classification_descends_the_mean_cross_entropy() -> None:
    loss = Classification().loss(ABC, Labels.of(CLASSES), LossSettings())
    assert torch.allclose(loss(OUTPUTS, CLASSES), F.cross_entropy(OUTPUTS, CLASSES))


def test_class_weights_are_scikit_learns_balanced_ones() -> None:
    train = torch.tensor([0] * 6 + [1] * 3 + [2])
    loss = Classification().loss(ABC, Labels.of(train), LossSettings(class_weights=True))
    balanced = compute_class_weight("balanced", classes=np.arange(3), y=train.numpy())
    assert balanced[2] > balanced[0], "rare classes weigh more"
    weight = torch.tensor(balanced, dtype=torch.float32)
    assert torch.allclose(loss(OUTPUTS, CLASSES), F.cross_entropy(OUTPUTS, CLASSES, weight=weight))


def test_label_smoothing_is_torchs() -> None:
    loss = Classification().loss(ABC, Labels.of(CLASSES), LossSettings(label_smoothing=0.3))
    smoothed = F.cross_entropy(OUTPUTS, CLASSES, label_smoothing=0.3)
    assert torch.allclose(loss(OUTPUTS, CLASSES), smoothed)
    by_hand = torch.full((4, 3), 0.1).scatter(1, CLASSES[:, None], 0.8)
    assert torch.allclose(smoothed, -(by_hand * OUTPUTS.log_softmax(1)).sum(1).mean())


def test_classes_are_those_of_the_training_rows_in_the_tables_order_and_encoded_by_name() -> None:
    space = Classification().fit(rows_of(["z", "b", "z"]), ("b", "unseen", "z"))
    assert space.classes == ("b", "z")
    assert Classification().encode(rows_of(["z", "b"]), space).only.tolist() == [1, 0]
    assert Classification().outputs(space) == 2


def test_classification_decodes_to_softmax_and_describes_the_likeliest_class() -> None:
    probabilities = Classification().decode(OUTPUTS, ABC)
    np.testing.assert_allclose(probabilities, OUTPUTS.softmax(1).numpy(), rtol=1e-5)
    told = Classification().describe(probabilities, ABC)
    assert [row["prediction"] for row in told] == ["a", "c", "b", "c"]
    for row, p in zip(told, probabilities, strict=True):
        assert row["confidence"] == p.max() == row["probabilities"][row["prediction"]]
        assert list(row["probabilities"].values()) == p.tolist()


# --- several classes -----------------------------------------------------------------------------


HOT = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 0, 0], [1, 0, 0]])


def test_multilabel_descends_the_mean_binary_cross_entropy() -> None:
    loss = Multilabel().loss(ABC, Labels.of(HOT), LossSettings())
    assert torch.allclose(loss(OUTPUTS, HOT), F.binary_cross_entropy_with_logits(OUTPUTS, HOT))


def test_multilabel_class_weights_are_negatives_over_positives_between_1_and_100() -> None:
    train = torch.zeros(400, 3)
    train[:300, 0], train[:50, 1], train[0, 2] = 1, 1, 1
    loss = Multilabel().loss(ABC, Labels.of(train), LossSettings(class_weights=True))
    weight = torch.tensor([1.0, 350 / 50, 100.0])
    assert torch.allclose(loss(OUTPUTS, HOT), F.binary_cross_entropy_with_logits(OUTPUTS, HOT, pos_weight=weight))


def test_multilabel_smoothing_moves_targets_towards_one_half() -> None:
    loss = Multilabel().loss(ABC, Labels.of(HOT), LossSettings(label_smoothing=0.2))
    assert torch.allclose(loss(OUTPUTS, HOT), F.binary_cross_entropy_with_logits(OUTPUTS, HOT * 0.8 + 0.1))


def test_multilabel_targets_are_set_by_name() -> None:
    space = Multilabel(threshold=0.3).fit(rows_of([("z", "b"), ("b",), ()]), ("b", "unseen", "z"))
    assert (space.classes, space.thresholds) == (("b", "z"), (0.3, 0.3))
    assert Multilabel().fit(rows_of([("b",)]), ("b",)).thresholds == (0.5,)
    assert Multilabel().encode(rows_of([("z", "unseen"), (), ("b", "z")]), space).only.tolist() == [[0, 1], [0, 0], [1, 1]]


def test_multilabel_decodes_to_sigmoids_and_describes_what_reaches_its_threshold() -> None:
    space = LabelSpace(classes=("a", "b", "c"), thresholds=(0.5, 0.2, 0.9))
    probabilities = np.array([[0.5, 0.3, 0.8], [0.1, 0.1, 0.1]])
    told = Multilabel().describe(probabilities, space)
    assert [row["prediction"] for row in told] == ["a|b", ""]
    assert [row["confidence"] for row in told] == pytest.approx([0.2, 0.9]), "of the class that is least sure"
    np.testing.assert_allclose(Multilabel().decode(OUTPUTS, ABC), OUTPUTS.sigmoid().numpy(), rtol=1e-5)


def test_thresholds_give_each_class_its_best_f1_of_all_thresholds() -> None:
    rng = np.random.default_rng(0)
    truth = (rng.random((80, 2)) < (0.5, 0.2)).astype(float)
    probabilities = np.round(np.clip(0.3 * truth + 0.7 * rng.random((80, 2)), 0, 1), 2)
    space = LabelSpace(classes=("a", "b"), thresholds=(0.5, 0.5))
    chosen, message = Multilabel().tuned(probabilities, truth, space)
    assert "best F1" in message
    for c, cut in enumerate(chosen.thresholds):
        f1 = {t: f1_score(truth[:, c], probabilities[:, c] >= t, zero_division=0) for t in np.unique(probabilities[:, c])}
        assert f1_score(truth[:, c], probabilities[:, c] >= cut) == pytest.approx(max(f1.values()))
    assert Multilabel().metrics(probabilities, truth, chosen)["per_class"]["b"]["threshold"] == chosen.thresholds[1]


# --- numbers -------------------------------------------------------------------------------------


def test_numbers_are_trained_standardised_and_come_back_in_the_users_units() -> None:
    rows = rows_of([100.0, 300.0, 500.0, 300.0])
    space = Regression().fit(rows, ())
    assert (space.mean, space.deviation) == pytest.approx((300.0, np.std([100, 300, 500, 300])))
    encoded = Regression().encode(rows, space).only
    assert (float(encoded.mean()), float(encoded.std(correction=0))) == pytest.approx((0.0, 1.0), abs=1e-6)
    decoded = Regression().decode(encoded[:, None], space)
    np.testing.assert_allclose(decoded, [100, 300, 500, 300], rtol=1e-6)
    np.testing.assert_allclose(Regression().truth(Labels.of(encoded), space), [100, 300, 500, 300], rtol=1e-6)
    assert Regression().describe(decoded, space)[2]["prediction"] == pytest.approx(500.0)


def test_errors_of_numbers_are_in_the_users_units() -> None:
    space = Scale(mean=1000.0, deviation=50.0)
    truth = Regression().truth(Labels.of(torch.tensor([0.0, 1.0, -1.0])), space)
    figures = Regression().metrics(np.array([1010.0, 1050.0, 930.0]), truth, space)
    assert (figures["mae"], figures["rmse"]) == pytest.approx((10.0, np.sqrt(500 / 3)))


def test_numbers_descend_the_huber_loss_of_one_deviation() -> None:
    outputs, targets = torch.tensor([[0.0], [0.5], [9.0]]), torch.tensor([0.3, 0.5, 1.0])
    loss = Regression().loss(Scale(), Labels.of(targets), LossSettings())
    assert float(loss(outputs, targets)) == pytest.approx((0.5 * 0.3**2 + 0 + (8 - 0.5)) / 3)
    assert torch.allclose(loss(outputs, targets), F.huber_loss(outputs[:, 0], targets, delta=1.0))


def test_one_absurd_number_does_not_rule_the_scale() -> None:
    values = [float(v) for v in range(21)]
    plain = Regression().fit(rows_of(values), ())
    assert plain.mean == pytest.approx(10.0)
    robust = Regression().fit(rows_of([*values, 1e6]), ())
    low, middle, high = np.percentile([*values, 1e6], [25, 50, 75])
    assert (robust.mean, robust.deviation) == pytest.approx((middle, (high - low) / 1.349))


def test_a_saved_space_comes_back_whole() -> None:
    for space in (LabelSpace(classes=("a",), thresholds=(0.4,)), Scale(mean=2.0, deviation=3.0), Space(classes=("a", "b"))):
        assert type(space).from_json(json.loads(json.dumps(space.to_json()))) == space


def test_the_space_of_an_older_run_has_the_fields_of_all_tasks() -> None:
    saved = {"classes": ["a"], "mean": 2.0, "deviation": 3.0, "thresholds": [0.4]}
    assert Classification.space.from_json(saved) == Space(classes=("a",))
    assert Multilabel.space.from_json(saved) == LabelSpace(classes=("a",), thresholds=(0.4,))
    assert Regression.space.from_json(saved | {"classes": []}) == Scale(mean=2.0, deviation=3.0)


def test_the_type_of_the_targets_names_the_task() -> None:
    assert isinstance(infer(NUMBER), Regression)
