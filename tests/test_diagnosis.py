"""Verdicts have three outcomes and are not belied by another metric; advice is neither what was done nor what cannot apply."""

from __future__ import annotations

import itertools
import math
from typing import Any, get_args

import pytest

from pretune import registry
from pretune.evaluation.advice import Context, Trouble, cures, listed
from pretune.evaluation.diagnosis import diagnose, probe_was_better
from pretune.evaluation.metrics import regression
from pretune.evaluation.verdict import verdict
from tests.test_intervals import evaluated, stepped

STRATEGIES = registry.names("strategies")
FLOORS = {
    "majority": {"what": "always ant", "value": 0.5, "log_loss": 0.69},
    "classical": {"what": "hog", "value": 0.65, "log_loss": 0.63},
}


def held(value: float, low: float, high: float, **others: Any) -> dict[str, Any]:
    return {"accuracy": value, "interval": {"accuracy": [low, high]}, **others}


# --- verdicts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("score", "outcome", "message"),
    [
        (held(0.9, 0.85, 0.95), "better", "It beats the classical baseline: accuracy 90.0 % against 65.0 %."),
        (held(0.7, 0.6, 0.8), "uncertain", "cannot be told apart from the classical baseline"),
        (held(0.6, 0.5, 0.7), "uncertain", "cannot be told apart from the classical baseline"),
        (held(0.5, 0.45, 0.55), "worse", "does not beat the classical baseline"),
        (held(0.65, 0.55, 0.75), "uncertain", "It only equals the classical baseline"),
        (
            held(0.9, 0.85, 0.95, log_loss=0.8),
            "uncertain",
            "log loss is no better than that of the majority baseline (0.8 against 0.69)",
        ),
        (held(0.9, 0.85, 0.95, log_loss=0.3), "better", "It beats"),
        ({"accuracy": 0.9}, "better", "It beats"),
        ({"accuracy": 0.4}, "worse", "does not beat"),
    ],
)
def test_a_verdict_has_three_outcomes_on_both_sides(score: dict[str, Any], outcome: str, message: str) -> None:
    found = verdict("accuracy", score, FLOORS)
    assert found is not None
    assert found.outcome == outcome
    assert message in found.sentence


@pytest.mark.parametrize(("r2", "outcome"), [(-0.058, "uncertain"), (0.3, "better"), (None, "better")])
def test_a_regression_with_negative_r2_is_not_green(r2: float | None, outcome: str) -> None:
    floors = {"mean": {"what": "mean", "value": 0.40, "r2": -0.001}, "median": {"what": "median", "value": 0.39, "r2": -0.1}}
    found = verdict("mae", {"mae": 0.3, "r2": r2, "interval": {"mae": [0.25, 0.35]}}, floors)
    assert found is not None
    assert found.outcome == outcome
    assert ("in squared error it is no better than always predicting the mean" in found.sentence) == (outcome == "uncertain")


def test_a_score_that_equals_its_baseline_needs_a_larger_set_not_another_strategy() -> None:
    message = told(held=held(0.65, 0.55, 0.75), floors=FLOORS, strategy="linear_probe")
    assert "On these examples the model gains nothing over it; more val examples would decide it." in message
    assert "strategy=" not in message


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_one_example_decides_nothing(value: float) -> None:
    found = verdict("accuracy", {"accuracy": value, "interval": {}}, FLOORS)
    assert found is not None
    assert (found.outcome, found.primary) == ("uncertain", "uncertain")
    assert "too few examples" in found.sentence


def test_there_is_no_verdict_without_a_baseline() -> None:
    assert verdict("accuracy", {"accuracy": 0.9}, {}) is None
    assert verdict("accuracy", {}, FLOORS) is None


# --- collapse, and figures that do not exist -----------------------------------------------------


def told(history: Any = (), held: Any = None, train: Any = None, floors: Any = None, name: str = "accuracy", **context: Any) -> str:
    figures = {"primary": {"name": name, "split": "val"}, "train": train or {}, "val": held or {}}
    return "\n".join(diagnose(list(history), figures, floors or {}, {"val": 50}, Context(**context)))


def test_the_interval_of_texts_is_of_those_that_were_written() -> None:
    found = {"rouge1": 0.31, "interval": {"rouge1": [0.16, 0.37]}}
    assert "on 7 examples" in told(held=found | {"examples": 7}, name="rouge1")
    assert "on 50 examples" in told(held=found, name="rouge1")


def test_a_model_that_predicts_one_class_is_said_to_have_collapsed() -> None:
    rows = {"ant": {"support": 25, "precision": 0.5}, "bee": {"support": 25, "precision": None}}
    score = {"accuracy": 0.5, "interval": {"accuracy": [0.4, 0.7]}, "per_class": rows}
    found = verdict("accuracy", score, FLOORS)
    assert found is not None
    assert (found.outcome, found.primary) == ("worse", "uncertain")
    messages = told(held=score, floors=FLOORS)
    assert "Every example is predicted as 'ant'" in messages
    assert "Do not use this model" in messages
    assert "Never predicted" not in messages, "it is said once"
    both = {"ant": {"support": 25, "precision": 0.5}, "bee": {"support": 25, "precision": 0.5}}
    assert "predicted as" not in told(held={"accuracy": 0.5, "per_class": both})
    alone = {"ant": {"support": 25, "precision": 1.0}, "bee": {"support": 0, "precision": None}}
    assert "predicted as" not in told(held={"accuracy": 1.0, "per_class": alone})


def test_a_regression_that_predicts_one_number_is_said_to_have_collapsed() -> None:
    import numpy as np

    targets = np.arange(20.0)
    assert "the same number for every example" in told(held=regression(np.full(20, 9.5), targets), name="mae")
    assert "the same number" not in told(held=regression(targets[::-1].copy(), targets), name="mae")
    constant = told(held=regression(targets, np.full(20, 0.1)), name="mae")
    assert "R² is undefined on val" in constant


def test_what_the_tokenizer_does_not_know_comes_first() -> None:
    message = told(held=held(0.4, 0.38, 0.42), floors=FLOORS, strategy="linear_probe", unknown_tokens="66 % of the tokens are unknown.")
    assert message.startswith("66 % of the tokens are unknown.")
    assert "try a backbone whose tokenizer knows this language" in message


# --- divergence ----------------------------------------------------------------------------------


def test_ten_steps_after_which_the_score_is_better_have_not_diverged() -> None:
    rise = stepped([0.2, 0.3, 0.25, 0.5, 0.3, 0.6, 0.35, 0.4, 0.5, 0.6], "full", lr=2e-4)
    assert "diverged" not in told(rise, held={"accuracy": 0.8})
    long = stepped([0.5] * 30 + [2.0] * 30, "full", lr=2e-4)
    probe = [*stepped([2.0] * 30, "probe"), *evaluated([0.6, 0.7], "probe", "select")]
    assert "diverged" in told([*probe, *long, *evaluated([0.65], "full", "select")])
    assert "diverged" not in told([*probe, *long, *evaluated([0.8], "full", "select")]), "it improved"
    assert "diverged" not in told([*stepped([1.0] * 60), *evaluated([0.5, 0.6], part="select")], held={"accuracy": 0.6})


def test_a_rise_within_the_noise_of_single_batches_is_not_a_divergence() -> None:
    noisy = [1.0, 1.2] + [0.2 if i % 2 else 3.2 for i in range(18)]
    assert "diverged" not in told(stepped(noisy), held={"accuracy": 0.5})
    assert "the loss became infinite" in told(stepped([1.0, math.inf]), held={"accuracy": 0.5})


def test_a_run_of_a_few_steps_is_said_to_be_short_not_incapable() -> None:
    message = told(
        stepped([2.0, 1.9, 1.8, 1.7, 1.6, 1.5]), held={"accuracy": 0.4}, train={"accuracy": 0.4}, strategy="scratch", from_scratch=True
    )
    assert "after 6 training steps. Train longer: raise epochs or time" in message


def test_the_probe_is_advised_only_where_it_was_better() -> None:
    def history(split: str, *values: float) -> list[dict[str, Any]]:
        return [*evaluated([0.6, 0.7], "probe", split), *stepped([1.0] * 30, "full"), *evaluated(list(values), "full", split)]

    assert probe_was_better(history("select", 0.5, 0.6), "accuracy") is True
    assert probe_was_better(history("select", 0.8, 0.6), "accuracy") is False
    assert probe_was_better(history("val", 0.5, 0.6), "accuracy") is None, "the score's split advises nothing"
    assert probe_was_better(stepped([1.0] * 30), "accuracy") is None
    over = {"train": {"accuracy": 1.0}, "held": held(0.7, 0.65, 0.75), "strategy": "full"}
    assert "strategy=linear_probe" in told(**over, probe_was_better=True)
    assert "strategy=linear_probe" not in told(**over, probe_was_better=False)


# --- all advice, all runs ------------------------------------------------------------------------

TRAINING = ("epochs", "lr", "weight_decay", "label_smoothing", "class_weights", "patience", "augment", "time")
CONTEXTS = [
    Context(strategy=s, from_scratch=f, classes=t, modality=m, given=g, augment=a, probe_was_better=b)
    for s, f, t, m, g, a, b in itertools.product(
        STRATEGIES,
        (False, True),
        (True, False),
        ("image", "text", "audio"),
        (frozenset(), frozenset({"patience", "class_weights", "label_smoothing"})),
        ("none", "strong"),
        (None, True, False),
    )
    if f or s != "scratch"
]


@pytest.mark.parametrize("trouble", get_args(Trouble))
def test_no_advice_was_followed_already_or_cannot_apply(trouble: Trouble) -> None:
    for context in CONTEXTS:
        advice = cures(trouble, context)
        text = listed(advice)
        assert f"strategy={context.strategy}" not in text, context
        if context.from_scratch:
            assert "strategy=" not in text, "there are no pretrained weights to keep"
        if context.strategy == "direct":
            assert not any(key in text for key in TRAINING), (context, text)
        if not context.has_classes:
            assert "class_weights" not in text
            assert "label_smoothing" not in text
        if "class_weights" in context.given:
            assert "class_weights=true" not in text
            assert "label_smoothing=" not in text
            assert "patience" not in text
        if context.modality == "text" or context.augment == "strong":
            assert "augment" not in text
        if context.probe_was_better is False:
            assert "linear_probe" not in text
        assert len(advice) == len(set(advice))


@pytest.mark.parametrize("trouble", ["baseline", "capacity", "imbalance"])
def test_there_is_always_something_to_do(trouble: Trouble) -> None:
    assert all(cures(trouble, context) for context in CONTEXTS)


def test_a_sentence_never_ends_without_its_advice() -> None:
    rows = {"ant": {"support": 25, "precision": 0.5}, "bee": {"support": 9, "precision": None}, "cat": {"support": 9, "precision": 0.4}}
    score = held(0.4, 0.38, 0.42, ece=0.3, mean_confidence=0.9, balanced_accuracy=0.2, per_class=rows, log_loss=2.0)
    counts = {"val": 500, "per_class": {"ant": {"train": 500}, "bee": {"train": 20}}}
    falls = evaluated([0.6, 0.8, 0.7, 0.7, 0.7], part="select")
    histories = (stepped([2 - i / 60 for i in range(60)]), [*stepped([1.0] * 30), *falls])
    for context, history in itertools.product(CONTEXTS[::7], histories):
        if context.strategy == "direct" and history:
            continue  # it has no history
        figures = {"primary": {"name": "accuracy", "split": "val"}, "train": {"accuracy": 0.7}, "val": score}
        for sentence in diagnose(history, figures, FLOORS, counts, context):
            assert sentence.endswith("."), sentence
            for hole in (" .", ": .", "try ;", "try .", "; .", "then .", "  ", "there, ."):
                assert hole not in sentence, (context, sentence)


def test_lists_are_written_as_people_write_them() -> None:
    assert (listed([]), listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])) == ("", "a", "a or b", "a, b or c")


# --- what a default cannot be blamed for ---------------------------------------------------------

GAP = {"train": {"accuracy": 1.0}, "held": held(0.82, 0.78, 0.86)}


def test_a_solved_head_is_not_said_to_overfit_as_cross_validation_chose_its_penalty() -> None:
    for context in ({"solved": True, "strategy": "linear_probe"}, {"model": "baseline", "strategy": "full"}):
        message = told(**GAP, **context).splitlines()[-1]
        assert "verfitting" not in message
        assert "accuracy is 100.0 % on train and 82.0 % on val. The strength of its penalty was chosen by cross-validation" in message
        assert "More training examples help most" in message
        assert not any(cure in message for cure in ("epochs", "weight_decay", "augment", "strategy=")), message
    assert "; then a pretrained backbone." in told(**GAP, solved=True, strategy="linear_probe", from_scratch=True)
    assert "cross-validation" not in told(**GAP, strategy="direct"), "class means have no penalty"
    assert "Overfitting: " in told(**GAP, strategy="full")


def test_fewer_epochs_are_advised_only_where_what_selects_was_better_before_the_end() -> None:
    better, worse = (evaluated(scores, part="select") for scores in ([0.7, 0.75, 0.82], [0.83, 0.82, 0.82]))
    assert "fewer epochs" not in told(better, **GAP, strategy="full")
    assert "fewer epochs" in told(worse, **GAP, strategy="full")


def test_no_advice_depends_on_the_curve_of_the_split_that_is_scored() -> None:
    rises, falls = ([0.1, 0.2, 0.5, 0.7, 0.82], [0.95, 0.9, 0.85, 0.83, 0.82])
    phases = (stepped([2.0] * 30, "probe"), stepped([0.5] * 30 + [2.0] * 30, "full", lr=2e-4))
    messages = {
        told([*phases[0], *evaluated(one, "probe"), *phases[1], *evaluated(other, "full")], **GAP, strategy="full")
        for one in (rises, falls)
        for other in (rises, falls)
    }
    assert len(messages) == 1
    assert "patience=3 (it sets training examples aside to stop by, and keeps the best weights)" in messages.pop()


def test_training_is_not_said_to_be_too_long_and_too_short_at_once() -> None:
    falling = stepped([2 - i / 60 for i in range(60)])
    message = told(falling, train={"accuracy": 0.85}, held=held(0.6, 0.55, 0.65), strategy="full")
    assert "Overfitting" in message
    assert "Underfitting" not in message


def test_nothing_is_advised_to_improve_a_score_that_nothing_can_improve() -> None:
    message = told(held=held(1.0, 0.6, 1.0), floors=FLOORS, strategy="linear_probe")
    assert "cannot be told apart from the classical baseline" in message
    assert "More val examples would decide it." in message
    assert "to improve" not in message
    assert "to improve the model, try" in told(held=held(0.7, 0.6, 0.8), floors=FLOORS, strategy="linear_probe")
