"""Floors: honest, strong, fast, deterministic, dense or sparse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pretune.evaluation import linear, solver
from tests.baselines import floors

NAMES = ["ant", "bee", "cat"]


def blobs(items: int, columns: int, classes: int, seed: int = 0) -> tuple[NDArray[Any], NDArray[Any]]:
    """Classes whose means differ, in correlated columns of very different scales, one column constant."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(classes, size=items)
    means = np.random.default_rng(99).normal(size=(classes, columns)) * 1.2 / columns**0.25
    x = means[targets] + rng.normal(size=(items, columns)) + rng.normal(size=(items, 1))
    x *= 10.0 ** np.random.default_rng(98).integers(-3, 4, size=columns)
    x[:, 0] = 7.0
    return x.astype(np.float32), targets


@pytest.mark.filterwarnings("ignore:Sparse CSR")
@pytest.mark.parametrize("strength", linear.STRENGTHS)
@pytest.mark.parametrize("form", ["dense", "rotated", "sparse"])
def test_the_logistic_solver_converges_to_what_scikit_learn_finds(form: str, strength: float) -> None:
    from scipy import sparse
    from sklearn.linear_model import LogisticRegression

    x, y = blobs(*{"dense": (400, 40), "rotated": (80, 300), "sparse": (200, 30)}[form], 4)
    plain, _ = standardised(x, x)
    with torch.no_grad():
        rows = linear._Sparse(sparse.csr_matrix(plain)) if form == "sparse" else linear.Standardizer.of(x).rows(x)
        weight = solver.fit(solver.softmax, rows, torch.from_numpy(np.eye(4)[y]), strength)
        ours = solver.outputs(rows, weight).softmax(1).numpy()
    theirs = LogisticRegression(C=strength, tol=1e-8, max_iter=20_000).fit(plain, y).predict_proba(plain)
    assert np.abs(ours - theirs).max() < 1e-3


def test_the_models_of_labels_and_numbers_are_scikit_learns_too() -> None:
    from sklearn.linear_model import LogisticRegression, Ridge

    x, y = blobs(300, 40, 3)
    plain, _ = standardised(x, x)
    labels = np.stack([y == 0, y > 0, x[:, 1] > 0], 1).astype(float)
    with torch.no_grad():
        rows = linear.Standardizer.of(x).rows(x)
        weight = solver.fit(solver.sigmoid, rows, torch.from_numpy(labels), 300.0)
        ours = solver.outputs(rows, weight).sigmoid().numpy()
        numbers = solver.outputs(rows, solver.fit(solver.squared, rows, torch.from_numpy(x[:, 1:2].astype(float)), 30.0)).numpy()
    for c in range(3):
        theirs = LogisticRegression(C=300.0, tol=1e-8, max_iter=20_000).fit(plain, labels[:, c]).predict_proba(plain)[:, 1]
        assert np.abs(ours[:, c] - theirs).max() < 2e-3
    assert np.allclose(numbers[:, 0], Ridge(alpha=1 / 30).fit(plain, x[:, 1]).predict(plain), rtol=1e-4)


def standardised(x: NDArray[Any], test: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return columns that vary, standardised by `x`, in rows of length about 1."""
    kept = x.std(0) > 1e-4
    mean, factor = x[:, kept].mean(0, dtype=float), 1 / x[:, kept].std(0, dtype=float) / kept.sum() ** 0.5
    return (x[:, kept] - mean) * factor, (test[:, kept] - mean) * factor


def test_few_rows_are_rotated_without_changing_the_model() -> None:
    x, y = blobs(60, 300, 3)
    test, _ = blobs(40, 300, 3, seed=1)
    goal = torch.from_numpy(np.eye(3)[y])
    plain, plain_held = (solver.Dense(torch.from_numpy(part)) for part in standardised(x, test))
    with torch.no_grad():
        columns = linear.Standardizer.of(x)
        rows, rows_held = columns.rows(x), columns.rows(test)
        assert rows.shape[1] < 60
        small, full = (solver.fit(solver.softmax, part, goal, 3.0) for part in (rows, plain))
        a, b = solver.outputs(rows_held, small).softmax(1), solver.outputs(plain_held, full).softmax(1)
    assert (a - b).abs().max() < 1e-3


def test_classification_floors_are_strong_and_say_what_they_are() -> None:
    x, y = blobs(300, 60, 3)
    held_x, held_y = blobs(200, 60, 3, seed=1)
    given = floors("classification", x, y, held_x, held_y, NAMES, words="colour histogram and HOG")
    common = NAMES[int(np.bincount(y).argmax())]
    assert given["majority"]["value"] == pytest.approx((held_y == NAMES.index(common)).mean())
    assert common in given["majority"]["what"]
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    theirs = make_pipeline(
        StandardScaler(), LogisticRegressionCV(Cs=8, max_iter=500, use_legacy_attributes=False, scoring="accuracy", l1_ratios=(0,))
    )
    assert given["classical"]["value"] >= theirs.fit(x, y).score(held_x, held_y) - 0.03
    assert given["classical"]["what"].startswith("logistic regression on colour histogram and HOG (60 columns, C = ")
    assert "confusion" not in given["classical"]
    assert given == floors("classification", x, y, held_x, held_y, NAMES, words="colour histogram and HOG")


def test_regression_floors() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 60)).astype(np.float32)
    y = 1000 + 50 * x[:, :5].sum(1) + rng.normal(size=200)
    given = floors("regression", x[:150], y[:150], x[150:], y[150:], [])
    assert given["mean"]["r2"] <= 0
    assert given["mean"]["value"] == given["mean"]["mae"]
    assert given["classical"]["r2"] > 0.3
    assert given["classical"]["value"] < 0.8 * given["median"]["value"]
    assert given["classical"]["what"].startswith("ridge regression")


def test_multilabel_floors_choose_thresholds_inside_train() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 20)).astype(np.float32)
    y = (x[:, :3] + 0.5 * rng.normal(size=(400, 3)) > (0.0, 1.2, 0.5)).astype(float)
    given = floors("multilabel", x[:300], y[:300], x[300:], y[300:], NAMES)
    assert given["classical"]["value"] > 0.7 > given["majority"]["value"]
    assert "most frequent set of labels" in given["majority"]["what"]


def test_sparse_features_are_taken_as_they_are() -> None:
    from scipy import sparse

    rng = np.random.default_rng(0)
    y = rng.integers(2, size=300)
    words = rng.poisson(0.05, size=(300, 400)) + (y[:, None] == np.arange(400) % 2) * (np.arange(400) < 20) * rng.poisson(
        0.2, size=(300, 400)
    )
    x = sparse.csr_matrix(words / np.maximum(np.linalg.norm(words, axis=1, keepdims=True), 1e-9))
    given = floors("classification", x[:200], y[:200], x[200:], y[200:], ["neg", "pos"])
    assert given["classical"]["value"] > 0.85
    dense = floors("classification", x[:200].toarray(), y[:200], x[200:].toarray(), y[200:], ["neg", "pos"])
    assert abs(dense["classical"]["value"] - given["classical"]["value"]) < 0.15


def test_groups_stay_whole_in_the_inner_folds() -> None:
    rng = np.random.default_rng(0)
    tiles, classes = 24, np.arange(24) % 3
    look = rng.normal(size=(tiles, 200)) * 5 + 0.05 * np.eye(3)[classes] @ np.random.default_rng(1).normal(size=(3, 200)) * 5
    tile = np.repeat(np.arange(tiles), 6)
    x = (look[tile] + 0.1 * rng.normal(size=(len(tile), 200))).astype(np.float32)
    goal = np.eye(3)[classes[tile]]
    from pretune.evaluation.folds import of_groups

    folds = of_groups(tile, goal, linear.FOLDS)
    assert all(len(set(folds[tile == t])) == 1 for t in range(tiles))
    assert len(set(folds)) == linear.FOLDS
    honest, mixed = (linear.fit_linear("softmax", x, goal, chosen) for chosen in (folds, None))
    right = [(fitted.outputs.argmax(1) == classes[tile][fitted.held_out]).mean() for fitted in (honest, mixed)]
    assert right[1] > right[0]


@pytest.mark.parametrize("y", [[0, 0, 0, 0], [0, 1], [0, 1, 2], [2, 2, 2, 0]])
def test_tiny_data_have_floors_too(y: list[int]) -> None:
    x = np.random.default_rng(0).normal(size=(len(y), 5)).astype(np.float32)
    given = floors("classification", x, np.array(y), x, np.array(y), NAMES)
    assert 0 <= given["classical"]["value"] <= 1
    assert given["majority"]["value"] >= given["majority"]["balanced_accuracy"]


def test_no_features_leave_the_trivial_floor() -> None:
    assert list(floors("classification", None, np.array([0, 1, 1]), None, np.array([1]), ["a", "b"])) == ["majority"]
    one = floors("regression", np.ones((1, 3), np.float32), np.array([2.0]), np.ones((1, 3), np.float32), np.array([1.0]), [])
    assert list(one) == ["mean", "median"]


def test_large_data_are_sampled_and_said() -> None:
    x, y = blobs(11_000, 12, 3)
    given = floors("classification", x, y, x[:100], y[:100], NAMES)
    assert "fitted on 10,000 of 11,000 training examples" in given["classical"]["what"]
