"""Intervals cover as they promise, know groups, and are fast; diagnosis says what a person can act on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pretune.evaluation import metrics
from pretune.evaluation.diagnosis import diagnose
from pretune.evaluation.intervals import interval, intervals, of_difference, of_sums, wilson
from pretune.evaluation.student import student
from pretune.evaluation.sums import Sums, ratio
from tests.test_metrics import NAMES, sample


def test_intervals_hold_the_metric_and_agree_with_the_plain_bootstrap() -> None:
    probabilities, targets = sample()
    ours = metrics.classification(probabilities, targets, NAMES)
    fast = intervals(probabilities, targets)
    for name in ("accuracy", "balanced_accuracy", "macro_f1"):

        def slow_metric(p: Any, t: Any, name: str = name) -> float:
            return metrics.classification(p, t, NAMES)[name]

        slow = interval(slow_metric, probabilities, targets, resamples=300)
        assert slow is not None
        assert fast[name][0] < ours[name] < fast[name][1]
        assert fast[name] == pytest.approx(slow, abs=0.012)


def test_intervals_of_numbers_and_labels_agree_with_the_plain_bootstrap() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(1000, 5, 300)
    guess = truth + rng.normal(0, 2, 300)
    fast = intervals(guess, truth)
    labels = (rng.random((300, 3)) < 0.4).astype(float)
    shares = np.clip(labels * 0.4 + 0.6 * rng.random((300, 3)), 0, 1)
    fast_labels = intervals(shares, labels, thresholds=np.array([0.5, 0.4, 0.6]))
    for name in ("mae", "rmse", "r2"):
        slow = interval(lambda p, t, n=name: metrics.regression(p, t)[n], guess, truth, resamples=300)
        assert fast[name] == pytest.approx(slow, rel=0.05)
    for name in ("macro_f1", "micro_f1", "subset_accuracy"):
        slow = interval(
            lambda p, t, n=name: metrics.multilabel(p, t, list("abc"), np.array([0.5, 0.4, 0.6]))[n], shares, labels, resamples=300
        )
        assert fast_labels[name] == pytest.approx(slow, abs=0.015)


def test_items_of_one_group_do_not_count_as_many() -> None:
    probabilities, targets = sample(items=60)
    groups = np.repeat(np.arange(60), 5)
    copied = np.repeat(probabilities, 5, axis=0), np.repeat(targets, 5)
    low, high = intervals(*copied, groups=groups)["accuracy"]
    naive = intervals(*copied)["accuracy"]
    alone = intervals(probabilities, targets)["accuracy"]
    assert high - low > 1.8 * (naive[1] - naive[0])
    assert (low, high) == pytest.approx(alone, abs=0.03)
    assert interval("accuracy", *copied, groups=groups) == (low, high)


def test_a_perfect_score_is_still_uncertain() -> None:
    perfect = np.eye(2)[np.array([0, 1] * 10)]
    given = intervals(perfect, np.array([0, 1] * 10))
    assert given["accuracy"] == pytest.approx((0.8389, 1.0), abs=1e-4)
    assert given["balanced_accuracy"][0] < 0.9
    assert wilson(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)


def test_one_item_or_one_group_has_no_interval() -> None:
    assert intervals(np.array([[0.9, 0.1]]), np.array([0])) == {}
    assert intervals(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 4.0]), groups=np.array(["a", "a", "a"])) == {}
    assert interval("mae", np.array([1.0]), np.array([1.0])) is None


def test_a_small_difference_on_the_same_examples_is_told_from_chance() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(50, 200, 30).astype(float)
    nats = tokens * rng.normal(1.1, 0.2, 30)  # examples differ much more than the two models do
    statistics = {"character_loss": ratio(1, 0)}
    before = Sums(sums=np.stack([tokens, nats], 1), statistics=statistics, kinds={"character_loss": "error"})
    after = Sums(sums=np.stack([tokens, nats - 0.05 * tokens + rng.normal(0, 0.5, 30)], 1), statistics=statistics)
    found = of_difference(before, after, "character_loss")
    assert found is not None
    difference, low, high = found
    assert low < difference < high < 0
    assert difference == pytest.approx(-0.05, abs=0.01)
    alone = of_sums([before])["character_loss"]
    assert alone[1] - alone[0] > 5 * (high - low)
    assert of_difference(before, after, "character_loss", np.zeros(30)) is None


def test_intervals_are_deterministic() -> None:
    probabilities, targets = sample(items=10_000)
    first = intervals(probabilities, targets)
    assert first == intervals(probabilities, targets)
    assert first["macro_f1"] != intervals(probabilities, targets, seed=1)["macro_f1"]


def errors(kind: str, size: int, rng: np.random.Generator) -> Any:
    return {"normal": rng.normal(size=size), "laplace": rng.laplace(size=size)}[kind]


@pytest.mark.parametrize(("kind", "rmse", "mae"), [("normal", 1.0, (2 / np.pi) ** 0.5), ("laplace", 2**0.5, 1.0)])
@pytest.mark.parametrize("size", [20, 80])
def test_intervals_of_errors_cover_the_truth_on_few_examples(kind: str, rmse: float, mae: float, size: int) -> None:
    """Percentiles cover it in 0.84 to 0.91 of the trials."""
    rng, trials = np.random.default_rng(0), 300
    truth, found = {"rmse": rmse, "mae": mae, "r2": 1 - rmse**2 / 9}, dict.fromkeys(("rmse", "mae", "r2"), 0)
    for trial in range(trials):
        targets = rng.normal(0, 3, size)
        given = intervals(targets + errors(kind, size, rng), targets, resamples=200, seed=trial)
        found = {name: count + (given[name][0] <= truth[name] <= given[name][1]) for name, count in found.items()}
    least = {"normal": 0.9, "laplace": 0.88}[kind]
    assert all(least <= count / trials <= 0.99 for count in found.values()), found


@pytest.mark.parametrize(
    ("recalls", "shares"), [((0.9, 0.7), (0.7, 0.3)), ((0.97, 0.9, 0.9), (0.6, 0.2, 0.2)), ((0.8, 0.6, 0.6, 0.5), (0.4, 0.2, 0.2, 0.2))]
)
@pytest.mark.parametrize("size", [20, 80])
def test_intervals_of_classes_cover_the_truth_on_few_examples(recalls: tuple[float, ...], shares: tuple[float, ...], size: int) -> None:
    """Percentiles cover balanced accuracy and macro-F1 in 0.68 to 0.92 of the trials."""
    rng, trials, classes = np.random.default_rng(0), 300, len(recalls)
    chances = np.where(np.eye(classes, dtype=bool), recalls, (1 - np.array(recalls))[:, None] / (classes - 1))
    cells = np.array(shares)[:, None] * chances
    truth = {"balanced_accuracy": float(np.mean(recalls)), "macro_f1": float(np.mean(2 * cells.diagonal() / (cells.sum(0) + cells.sum(1))))}
    found = dict.fromkeys(truth, 0)
    for trial in range(trials):
        true, claimed = np.divmod(rng.choice(classes**2, size, p=cells.ravel()), classes)
        given = intervals(np.eye(classes)[claimed] * 0.8 + 0.1, true, resamples=200, seed=trial)
        found = {name: count + (given[name][0] <= truth[name] <= given[name][1]) for name, count in found.items()}
    assert all(0.88 <= count / trials <= 1 for count in found.values()), found


def test_intervals_of_few_groups_cover_the_truth() -> None:
    """Six groups of eight items that are right together; percentiles cover the accuracy in 0.86 of the trials."""
    rng, trials, covered = np.random.default_rng(0), 300, 0
    groups = np.repeat(np.arange(6), 8)
    for trial in range(trials):
        right = rng.random(48) < rng.beta(3, 1, 6)[groups]
        true = rng.integers(0, 2, 48)
        low, high = intervals(np.eye(2)[np.where(right, true, 1 - true)], true, groups=groups, seed=trial)["accuracy"]
        covered += low <= 0.75 <= high
    assert 0.89 <= covered / trials <= 0.99


def test_the_loss_has_an_interval_that_holds_it() -> None:
    probabilities, targets = sample(items=100)
    low, high = intervals(probabilities, targets)["log_loss"]
    value = metrics.classification(probabilities, targets, NAMES)["log_loss"]
    assert low < value < high
    grouped = intervals(probabilities, targets, groups=np.arange(100))["log_loss"]
    assert grouped == pytest.approx((low, high), rel=1e-9)


def test_an_error_of_nothing_is_certain_and_one_class_is_not() -> None:
    numbers = np.arange(5.0)
    assert intervals(numbers, numbers)["mae"] == (0.0, 0.0)
    one = intervals(np.eye(2)[[0, 0, 0, 0]], np.array([0, 0, 0, 0]))
    assert one["accuracy"][1] == one["balanced_accuracy"][1] == 1.0
    assert one["balanced_accuracy"][0] < 0.9


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 19, 79, 5000])
def test_students_t_is_scipys(degrees: int) -> None:
    from scipy import stats

    assert student(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=2e-3)
    assert student(degrees, 0.9) == pytest.approx(stats.t.ppf(0.95, degrees), rel=2e-3)


# --- diagnosis -----------------------------------------------------------------------------------


def stepped(losses: list[float], phase: str = "probe", lr: float = 0.1) -> list[dict[str, Any]]:
    return [{"event": "stepped", "phase": phase, "step": i, "loss": loss, "lr": lr} for i, loss in enumerate(losses)]


def evaluated(values: list[float], phase: str = "probe", part: str = "val") -> list[dict[str, Any]]:
    common = {"event": "evaluated", "phase": phase, "split": part, "best": False}
    return [{**common, "step": 10 * e, "epoch": e, "metrics": {"accuracy": v}} for e, v in enumerate(values)]


def told(history: Any = (), train: Any = None, val: Any = None, floors: Any = None, counts: Any = None, name: str = "accuracy") -> str:
    figures = {"primary": {"name": name, "split": "val"}, "train": train or {}, "val": val or {}}
    return "\n".join(diagnose(list(history), figures, floors or {}, counts or {}))


def test_a_good_run_needs_no_advice() -> None:
    val = {"accuracy": 0.95, "interval": {"accuracy": [0.93, 0.97]}, "ece": 0.02, "mean_confidence": 0.95}
    floors = {"majority": {"what": "m", "value": 0.5}, "classical": {"what": "c", "value": 0.65}}
    counts = {"val": 400, "per_class": {"a": {"train": 100}, "b": {"train": 120}}}
    assert told(stepped([1 / (1 + i) for i in range(60)]), {"accuracy": 0.99}, val, floors, counts) == ""


@pytest.mark.parametrize(
    ("message", "given"),
    [
        ("against 65.0 %. The baseline is hog.", {"val": {"accuracy": 0.6}, "floors": {"classical": {"what": "hog", "value": 0.65}}}),
        ("It only equals the classical baseline", {"val": {"accuracy": 1.0}, "floors": {"classical": {"what": "hog", "value": 1.0}}}),
        ("does not beat the mean baseline", {"val": {"mae": 2.0}, "floors": {"mean": {"what": "mean", "value": 1.5}}, "name": "mae"}),
        ("Overfitting", {"train": {"accuracy": 1.0}, "val": {"accuracy": 0.7, "interval": {"accuracy": [0.65, 0.75]}}}),
        ("Overfitting", {"train": {"mae": 0.1}, "val": {"mae": 1.0, "interval": {"mae": [0.8, 1.2]}}, "name": "mae"}),
        ("Underfitting: accuracy is only 55.0 %", {"train": {"accuracy": 0.55}, "val": {"accuracy": 0.54}}),
        ("the training loss was still falling", {"history": stepped([2 - i / 60 for i in range(60)]), "train": {"accuracy": 0.6}}),
        ("Training diverged: the loss rose from 1 to 9", {"history": stepped([1.0] * 20 + [9.0] * 20)}),
        ("try 0.01", {"history": stepped([1.0, float("nan")])}),
        ("accuracy is 60.0–80.0 % on 50 examples", {"val": {"accuracy": 0.7, "interval": {"accuracy": [0.6, 0.8]}}, "counts": {"val": 50}}),
        ("1 class has fewer than 10 training examples: b (3)", {"counts": {"per_class": {"a": {"train": 20}, "b": {"train": 3}}}}),
        ("use balanced accuracy (60.0 %)", {
            "val": {"accuracy": 0.9, "balanced_accuracy": 0.6}, "counts": {"per_class": {"a": {"train": 500}, "b": {"train": 20}}}
        }),
        ("Never predicted on val, though present: b", {"val": {"per_class": {"b": {"support": 4, "precision": None}}}}),
        ("overconfident", {"val": {"ece": 0.2, "accuracy": 0.7, "mean_confidence": 0.9}, "counts": {"val": 500}}),
    ],
)  # fmt: skip
def test_trouble_is_said_with_its_figures_and_a_cure(message: str, given: dict[str, Any]) -> None:
    assert message in told(**given)


def test_the_best_epoch_and_whether_it_was_kept() -> None:
    seen = evaluated([0.6, 0.8, 0.7, 0.7, 0.7])
    assert told(seen) == "", "val is the score, and chooses nothing"
    selected = [{**event, "split": "select", "best": event["epoch"] == 1} for event in seen]
    message = told([*seen, *selected])
    assert "Epoch 1 was the best on select (accuracy 80.0 %); at the end it was 70.0 %. The best weights were kept" in message


FALLS = [0.6, 0.8, 0.7, 0.7, 0.7]


def test_the_course_of_training_is_that_of_the_last_phase() -> None:
    probe = [*stepped([2 - i / 60 for i in range(60)]), *evaluated(FALLS, part="select")]
    settled = stepped([1 / (1 + i) for i in range(60)], "full")
    assert "still falling at the end" in told(probe, {"accuracy": 0.8}, {"accuracy": 0.8})
    assert "Epoch 1 was the best on select" in told(probe)
    assert told([*probe, *settled], {"accuracy": 0.8}, {"accuracy": 0.8}) == "", "the probe's weights are not the model's"
    assert "Epoch 1 of phase 'full' was the best on select" in told([*probe, *settled, *evaluated(FALLS, "full", "select")])
    falling = stepped([2 - i / 60 for i in range(60)], "full")
    assert "still falling at the end of phase 'full' (1.28 → 1.03" in told([*stepped([0.1] * 60), *falling], {"accuracy": 0.8})


def test_a_phase_diverges_by_itself_at_its_own_rate() -> None:
    probe, risen = stepped([2.0] * 10 + [0.5] * 10, lr=0.1), stepped([0.5] * 20 + [1.4] * 20, "full", lr=0.003)
    assert "Training diverged in phase 'full': the loss rose from 0.5 to 1.4. Lower lr (it was 0.003; try 0.0003)." in told(
        [*probe, *risen]
    )
    fitted = stepped([0.001] * 20 + [0.003] * 20, "full")
    assert told([*probe, *fitted]) == "", "noise beside what the run began with"
    broken = stepped([1.0] * 20 + [9.0] * 20)
    assert "diverged" not in told([*broken, *stepped([0.5, 0.4], "full")])


def test_the_rate_that_is_too_high_is_the_peak_not_the_warm_ups_first() -> None:
    warming = [{**event, "lr": 0.1 * min(1.0, event["step"] / 10)} for event in stepped([1.0] * 20 + [9.0] * 20)]
    assert "it was 0.1; try 0.01" in told(warming)


def test_what_a_restart_took_again_is_not_told() -> None:
    failed, again = stepped([1.0] * 20 + [9.0] * 19), stepped([1.0] * 30, lr=0.05)
    assert told([*failed, *again]) == ""
