"""The head that is solved: the optimum that scikit-learn finds, at a strength that held-out examples chose."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from torch import Tensor, nn

from pretune import api
from pretune.errors import Interrupted, TrainingError
from pretune.evaluation import path, probe
from pretune.evaluation.advice import _TABLE, Context, cures
from pretune.evaluation.path import Choice
from pretune.evaluation.probe import STRENGTHS, Solution, sentence, solve
from pretune.evaluation.solver import LINKS, Dense, fit
from pretune.features.frozen import FrozenFeatures
from pretune.labels import Labels
from pretune.models.pooling import CHOICES
from pretune.runner import solving
from pretune.runner.deadline import Deadline
from pretune.runner.reporter import Silent
from pretune.strategies import Phase
from tests.command_line import pretune
from tests.test_flows import QUICK, folder


def blobs(count: int = 90, classes: int = 3, width: int = 12, spread: float = 3.0, seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    """Return overlapping clouds whose columns differ by orders of magnitude, and their classes."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) % classes
    x = rng.normal(size=(classes, width))[y] + spread * rng.normal(size=(count, width))
    return torch.from_numpy(x * np.logspace(-1, 1, width) + 5), y


def outputs(found: Solution, x: torch.Tensor) -> torch.Tensor:
    return ((x.float() - found.mean) * found.scale) @ found.weight.T + found.bias


def one_hot(y: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.eye(y.max() + 1)[y])


@pytest.mark.parametrize(("count", "width"), [(90, 12), (24, 40)], ids=["more rows", "more columns"])
def test_it_is_the_optimum_of_logistic_regression(count: int, width: int) -> None:
    x, y = blobs(count, width=width)
    found = solve("softmax", x, one_hot(y))
    rows = ((x.float() - found.mean) * found.scale).double().numpy()
    theirs = LogisticRegression(C=found.strength, tol=1e-10, max_iter=20_000).fit(rows, y)
    np.testing.assert_allclose(outputs(found, x).softmax(1), theirs.predict_proba(rows), atol=5e-3)


def test_rows_are_centred_and_have_a_length_of_about_one() -> None:
    x, y = blobs()
    found = solve("softmax", x, one_hot(y))
    rows = (x.float() - found.mean) * found.scale
    torch.testing.assert_close(rows.mean(0), torch.zeros(12), atol=1e-5, rtol=0)
    assert float(rows.square().sum(1).mean()) == pytest.approx(1.0, abs=1e-5)
    wide, narrow = rows.std(0).max(), rows.std(0).min()
    assert wide > 50 * narrow, "columns keep their proportions"


def test_numbers_are_fitted_by_ridge_regression() -> None:
    x, _ = blobs()
    y = (x[:, :1] - x[:, :1].mean()) / x[:, :1].std() + 0.1 * torch.randn(90, 1, generator=torch.Generator().manual_seed(0))
    found = solve("squared", x, y)
    rows = ((x.float() - found.mean) * found.scale).double().numpy()
    theirs = Ridge(alpha=1 / found.strength).fit(rows, y.numpy())
    np.testing.assert_allclose(outputs(found, x).numpy(), theirs.predict(rows).reshape(-1, 1), atol=1e-3)


def test_several_labels_are_fitted_one_by_one() -> None:
    x, y = blobs()
    labels = torch.stack([torch.from_numpy(y == 0), torch.from_numpy(y != 2)], 1).double()
    found = solve("sigmoid", x, labels)
    rows = ((x.float() - found.mean) * found.scale).double().numpy()
    for column in range(2):
        theirs = LogisticRegression(C=found.strength, tol=1e-10, max_iter=20_000).fit(rows, labels[:, column].numpy())
        np.testing.assert_allclose(outputs(found, x)[:, column].sigmoid(), theirs.predict_proba(rows)[:, 1], atol=5e-3)


def test_noise_is_regularised_and_what_separates_is_not() -> None:
    x, y = blobs(120, spread=0.05)
    noise = solve("softmax", torch.randn(120, 12, generator=torch.Generator().manual_seed(1)), one_hot(y))
    clear = solve("softmax", x, one_hot(y))
    assert noise.strength <= 1 < 100 <= clear.strength
    assert noise.loss == pytest.approx(np.log(3), abs=0.05)
    assert clear.loss < 0.05


def test_the_loss_is_that_of_examples_that_were_held_out_with_their_group() -> None:
    """Twins in two folds would make any strength look perfect: noise is learned by heart."""
    half = torch.randn(60, 30, generator=torch.Generator().manual_seed(0))
    x, y = torch.cat([half, half + 1e-4]), np.tile(np.arange(60) % 3, 2)
    apart = solve("softmax", x, one_hot(y), np.tile(np.arange(60) % 5, 2))
    together = solve("softmax", x, one_hot(y), np.r_[np.zeros(60, int), np.ones(60, int)])
    assert apart.loss > 1.0 > 0.5 > together.loss
    assert (apart.held_out, apart.folds) == (120, 5)


def test_of_many_examples_some_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_MOST_ROWS", 40)
    x, y = blobs()
    found = solve("softmax", x, one_hot(y))
    assert (found.folds, found.held_out) == (5, 40)
    assert found.strength in STRENGTHS


def test_the_features_of_the_lowest_held_out_loss_are_taken() -> None:
    x, y = blobs(spread=1.0)
    noise = torch.randn(90, 30, generator=torch.Generator().manual_seed(0))
    given = {"noise": [(0, 30)], "signal": [(30, 42)], "both": [(0, 30), (30, 42)]}
    found = solve("softmax", torch.cat([noise, x], 1), one_hot(y), candidates=given)
    assert found.candidate == min(found.tried, key=found.tried.__getitem__) == "signal"
    assert found.columns.tolist() == list(range(30, 42))
    alone = solve("softmax", x, one_hot(y))
    torch.testing.assert_close(found.weight, alone.weight, atol=0.05 * float(alone.weight.abs().max()), rtol=0)


def test_what_is_no_better_is_not_taken_for_being_wider() -> None:
    x, y = blobs()
    found = solve("softmax", torch.cat([x, x], 1), one_hot(y), candidates={"once": [(0, 12)], "twice": [(0, 12), (12, 24)]})
    assert found.candidate == "once"
    assert found.tried["twice"] == pytest.approx(found.tried["once"], rel=0.01)


def test_blocks_are_brought_to_one_length_and_what_never_varies_is_silent() -> None:
    x, y = blobs()
    wide = torch.cat([1e4 * x, x, torch.full((90, 2), 7.0)], 1)
    found = solve("softmax", wide, one_hot(y), candidates={"all": [(0, 12), (12, 24), (24, 26)]})
    rows = (wide.float() - found.mean) * found.scale
    lengths = rows.square()[:, :12].sum(1).mean(), rows.square()[:, 12:24].sum(1).mean(), rows[:, 24:].abs().max()
    assert float(lengths[0]) == pytest.approx(float(lengths[1]), rel=1e-3)
    assert float(lengths[2]) == 0.0


def test_many_rows_come_to_the_same_optimum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a sample chose the strength, all rows are fitted in their own columns, evened out by the sample's components."""
    x, y = blobs(200, width=20)
    few = solve("softmax", x, one_hot(y))
    monkeypatch.setattr(probe, "_MOST_ROWS", 60)
    monkeypatch.setattr(probe, "STRENGTHS", (few.strength,))
    many = solve("softmax", x, one_hot(y))
    torch.testing.assert_close(outputs(many, x).softmax(1), outputs(few, x).softmax(1), atol=5e-3, rtol=0)


def test_many_rows_that_never_vary_come_to_the_shares_of_the_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_MOST_ROWS", 20)
    x, y = torch.ones(60, 4), np.array([0, 0, 1] * 20)
    torch.testing.assert_close(outputs(solve("softmax", x, one_hot(y)), x).softmax(1)[0], torch.tensor([2 / 3, 1 / 3]), atol=1e-2, rtol=0)


def test_without_folds_a_middle_strength_is_taken_and_said() -> None:
    x, y = blobs(2, classes=2)
    found = solve("softmax", x, one_hot(y), np.zeros(2, dtype=np.int64))
    assert found.held_out == 0
    assert outputs(found, x).argmax(1).tolist() == y.tolist()
    assert sentence("softmax", found).endswith("(too few examples for cross-validation)")


def test_a_request_to_stop_is_obeyed_before_the_next_fit() -> None:
    x, y = blobs()
    asked = []

    def pause() -> None:
        asked.append(1)
        if len(asked) == 3:
            raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        solve("softmax", x, one_hot(y), pause=pause)
    assert len(asked) == 3


def test_a_run_says_what_was_chosen_and_by_what(home: Path) -> None:
    folder(home / "photos")
    done = pretune("finetune", "photos", "strategy=linear_probe", *QUICK, "out=run", "--offline")
    line = next(line for line in done.stderr.splitlines() if line.startswith("head: "))
    assert re.match(r"head: L2-regularised logistic regression on the means( and deviations)? of .*, C = ", line)
    assert re.search(r"5-fold cross-validation \(log loss .* on 26 training examples; by pooling: mean ", line)
    told = json.loads((home / "run" / "model.json").read_text())
    assert told["pooling"] in CHOICES["map"]
    assert "probe: solved in " in done.stderr
    events = [json.loads(line)["event"] for line in (home / "run" / "events.jsonl").read_text().splitlines()]
    assert events == ["started", "finished"]
    told = json.loads((home / "run" / "metrics.json").read_text())
    again = api.evaluate(home / "run", home / "photos")
    assert again["primary"]["value"] > told["floors"]["majority"]["accuracy"]
    assert again["learned_from"] == told["counts"]["train"] == 26


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("epochs=2",), "epochs is set"),
        (("lr=0.01", "optim=sgd"), "lr, optim are set"),
        (("head.dropout=0.1",), "its input is varied at random"),
        (("augment=light",), "its features are not cached"),
    ],
)
def test_exact_is_refused_where_steps_are_needed(home: Path, words: tuple[str, ...], why: str) -> None:
    folder(home / "photos", 6)
    done = pretune("finetune", "photos", "strategy=linear_probe", "head=linear", "head.solver=exact", *words, *QUICK, "--offline", code=2)
    assert f"head.solver=exact does not apply: {why}" in done.stderr.replace("the head is not all that learns, or ", "")


@pytest.mark.parametrize("words", [("epochs=2",), ("head=linear", "head.solver=steps"), ("head=mlp",)])
def test_steps_are_taken_where_they_are_asked_for(home: Path, words: tuple[str, ...]) -> None:
    folder(home / "photos", 6)
    pretune("finetune", "photos", "strategy=linear_probe", *words, *QUICK, "out=run", "--offline")
    assert '"event": "stepped"' in (home / "run" / "events.jsonl").read_text()


def test_a_solved_head_is_not_told_to_take_fewer_epochs() -> None:
    solved = Context(strategy="linear_probe", modality="text", solved=True)
    assert not [
        cure for trouble in _TABLE for cure in cures(trouble, solved) if "epochs" in cure or "weight_decay" in cure or " lr" in cure
    ]
    assert cures("imbalance", solved)[0] == "class_weights=true"


def test_the_first_process_solves_for_all_and_its_failure_ends_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one process alone raises would leave the others waiting for its broadcast."""
    run = SimpleNamespace(device=SimpleNamespace(decide=lambda make: make()), deadline=Deadline(None))
    work: Any = SimpleNamespace(run=run, model=SimpleNamespace(head=nn.Linear(2, 2)))
    monkeypatch.setattr(solving, "_solution", lambda work: (_ for _ in ()).throw(TrainingError("no memory")))
    events = solving.solve(work, Phase(name="probe", open=0, share=1.0))
    assert next(events).phase == "probe"
    with pytest.raises(TrainingError, match="no memory"):
        next(events)


def test_a_head_that_nothing_trains_is_computed_where_it_is() -> None:
    """Cached features stay on the CPU where the head is on a GPU; `meta` stands for one here."""
    labels, seen = Labels.of(torch.tensor([0, 1, 0])), []

    def computed(model: Any, backbone: Any, features: torch.Tensor, encoded: torch.Tensor, space: Any) -> str:
        seen.extend([features.device.type, encoded.device.type])
        return "computed"

    strategy = SimpleNamespace(solve=computed)
    data = SimpleNamespace(splits={"train": np.arange(3)}, labels=lambda split: labels, space=None)
    work: Any = SimpleNamespace(
        strategy=strategy,
        model=SimpleNamespace(body=[]),
        backbone=None,
        data=data,
        run=SimpleNamespace(device=SimpleNamespace(device=torch.device("meta")), reporter=Silent()),
        frozen=FrozenFeatures(source=torch.randn(3, 4), layout="pooled", views=1, start=2),
    )
    solving.compute(work)
    assert seen == ["meta", "meta"]


@pytest.mark.parametrize(("layout", "stages", "widens"), [("pooled", 3, True), ("map", 3, False), ("pooled", 12, True)])
def test_only_a_pooled_model_is_widened_and_only_where_its_pooling_can_be_taken_back(
    layout: str, stages: int, widens: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    repooled = []
    widths = {f"stage{i}": ("map", 3) for i in range(stages)}
    model = SimpleNamespace(layout=layout, body=list(widths), widths=lambda raw: widths, repool=lambda name, width: repooled.append(name))
    monkeypatch.setattr(solving, "asked_for_steps", lambda *args, **asked: None)
    for probing, held in (("mean", True), ("last4_mean_std", stages < 11)):
        work: Any = SimpleNamespace(
            recipe=SimpleNamespace(inputs=SimpleNamespace(pooling=None)),
            data=SimpleNamespace(task=None, rows=[0] * 5, example=lambda: torch.zeros(1)),
            backbone=SimpleNamespace(layout="map", probing=probing),
            strategy=SimpleNamespace(trains=True),
            phases=[Phase(name="probe", open=0, share=1.0)],
            model=model,
            mixing=(),
            own_loss=False,
            run=SimpleNamespace(device=SimpleNamespace(device=torch.device("cpu"))),
        )
        repooled.clear()
        solving.widen(work)
        assert bool(repooled) == (widens and held)


def test_held_out_scores_are_of_heads_that_did_not_learn_from_them(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = blobs()
    found, folds = solve("softmax", x, one_hot(y)), np.arange(90) // 30
    pairs = [(np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)) for fold in range(3)]
    together = probe.held_out("softmax", x, one_hot(y), found, pairs)
    rows = ((x.float() - found.mean) * found.scale).double().numpy()
    for fold, (train, held) in enumerate(pairs):
        theirs = LogisticRegression(C=found.strength, tol=1e-10, max_iter=20_000).fit(rows[train], y[train])
        np.testing.assert_allclose(together[30 * fold : 30 * fold + 30].softmax(1), theirs.predict_proba(rows[held]), atol=0.02)
    monkeypatch.setattr(probe, "_MOST_ROWS", 40)
    torch.testing.assert_close(probe.held_out("softmax", x, one_hot(y), found, pairs).softmax(1), together.softmax(1), atol=0.02, rtol=0)


def test_two_classes_are_one_column_of_a_sigmoid() -> None:
    x, y = blobs(classes=2)
    found = solve("softmax", x, one_hot(y))
    torch.testing.assert_close(found.weight[0], -found.weight[1])
    rows = ((x.float() - found.mean) * found.scale).double().numpy()
    theirs = LogisticRegression(C=2 * found.strength, tol=1e-10, max_iter=20_000).fit(rows, y)
    np.testing.assert_allclose(outputs(found, x).softmax(1), theirs.predict_proba(rows), atol=5e-3)


def test_wider_features_must_be_better_by_more_than_chance() -> None:
    before = torch.tensor([0.1, 0.9] * 10)
    plain = Choice(strength=1.0, loss=0.5, losses=before)
    lower = torch.tensor([0.0, 0.8] * 10)
    assert probe._is_better(Choice(strength=1.0, loss=0.4, losses=lower), plain)
    assert not probe._is_better(Choice(strength=1.0, loss=0.499, losses=before - 0.001), plain), "too little"
    by_chance = before + torch.tensor([0.2] * 19 + [-4.8])
    assert not probe._is_better(Choice(strength=1.0, loss=0.45, losses=by_chance), plain), "one example decides"


# --- squares: the minimum itself, whatever the penalty and however rows resemble each other ------


def alike(count: int = 40, width: int = 60) -> tuple[Tensor, Tensor]:
    """Return rows whose principal components fall off slowly, and numbers that only the small ones tell."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(count, width, generator=random) * 0.85 ** torch.arange(width).clamp(max=30)
    x = x - x.mean(0)
    y = x @ torch.randn(width, 1, generator=random)
    return x / x.square().sum(1).mean().sqrt(), (y - y.mean()) / y.std()


def ridge(x: Tensor, y: Tensor, strength: float) -> Tensor:
    """Return weight and bias of the textbook's normal equations in float64."""
    wide = torch.cat([x, torch.ones(len(x), 1)], 1).double()
    penalty = torch.eye(wide.shape[1], dtype=torch.float64) / strength
    penalty[-1, -1] = 0
    return torch.linalg.solve(wide.T @ wide + penalty, wide.T @ y.double())


@pytest.mark.parametrize("strength", STRENGTHS)
def test_held_out_numbers_are_those_of_the_minimum_at_every_penalty(strength: float) -> None:
    x, y = alike()
    fold = np.arange(len(x)) % 5
    pairs = [(np.flatnonzero(fold != one), np.flatnonzero(fold == one)) for one in range(5)]
    rows = path.Principal.of(x).rows
    found = path.held_out(LINKS["squared"], rows, y, pairs, strength)
    exact = [ridge(rows[train], y[train], strength) for train, _ in pairs]
    wanted = torch.cat([rows[held].double() @ weight[:-1] + weight[-1] for (_, held), weight in zip(pairs, exact, strict=True)])
    torch.testing.assert_close(found, wanted.float(), rtol=1e-3, atol=1e-3)


def test_a_head_for_numbers_says_the_loss_that_its_held_out_scores_have() -> None:
    x, y = alike()
    folds = np.arange(len(x)) % 5
    solution = probe.solve("squared", x, y, folds)
    pairs = [(np.flatnonzero(folds != one), np.flatnonzero(folds == one)) for one in range(5)]
    scores = probe.held_out("squared", x, y, solution, pairs)
    truth = y[np.concatenate([held for _, held in pairs])]
    assert float(0.5 * (scores - truth).square().mean()) == pytest.approx(solution.loss, rel=1e-2)


def test_many_float32_rows_with_equal_columns_have_a_ridge_solution() -> None:
    """Their sums of squares round by more than a weak penalty: in float32 the matrix is not positive definite."""
    x = torch.randn(6_000, 1, generator=torch.Generator().manual_seed(0)).repeat(1, 40)
    weight = fit(LINKS["squared"], Dense(x), x[:, :1], strength=3.16e4)
    assert weight.dtype == x.dtype
    torch.testing.assert_close(x @ weight[:-1] + weight[-1], x[:, :1], rtol=1e-3, atol=1e-3)


def test_fine_tuning_begins_with_a_solved_head(home: Path) -> None:
    folder(home / "photos")
    done = pretune("finetune", "photos", "strategy=full", *QUICK, "epochs=1", "predictor=network", "out=run", "--offline")
    assert "head: L2-regularised logistic regression" in done.stderr
    events = [json.loads(line) for line in (home / "run" / "events.jsonl").read_text().splitlines()]
    finished = [event["reason"] for event in events if event["event"] == "finished"]
    assert finished == ["solved", "completed"]


@pytest.mark.parametrize("word", ["head.dropout=0.1", "class_weights=true", "label_smoothing=0.1", "head.solver=steps"])
def test_fine_tuning_begins_with_steps_where_a_setting_is_of_the_head_or_the_loss(word: str, home: Path) -> None:
    folder(home / "photos")
    words = ("head=linear", word) if word.startswith("head.") else (word,)
    done = pretune("finetune", "photos", "strategy=full", *QUICK, *words, "epochs=1", "predictor=network", "out=run", "--offline")
    assert done.code == 0, done.stderr
    events = [json.loads(line) for line in (home / "run" / "events.jsonl").read_text().splitlines()]
    assert [event["reason"] for event in events if event["event"] == "finished"] == ["completed", "completed"]
