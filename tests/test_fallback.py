"""The classical baseline as a run's model: chosen on examples that are not the score's, saved as data, and equal when it is read again."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save, save_file

import pretune as pt
from pretune.errors import DataError, RequestError, SettingError, WeightsError
from pretune.evaluation import baseline as saving
from pretune.evaluation import classical, terms
from pretune.evaluation.advice import Context
from pretune.evaluation.baseline import Baseline, Description
from pretune.evaluation.comparison import Comparison, compared
from pretune.evaluation.diagnosis import diagnose
from pretune.evaluation.links import LinkName
from pretune.evaluation.probe import solve
from pretune.features.frozen import FrozenFeatures
from pretune.labels import Labels
from pretune.modalities import BaselineFeatures, Modality
from pretune.modalities._tfidf import Tfidf, _hashed
from pretune.modalities.image import Image
from pretune.modalities.text import Text
from pretune.runner import selection
from pretune.runner.baselines import Fitted
from pretune.tasks import Space
from pretune.tasks.classification import Classification
from pretune.tasks.multilabel import LabelSpace, Multilabel
from pretune.tasks.regression import Regression, Scale
from pretune.types import Row

TEXTS = [f"{word} number {i} of the list" for i in range(30) for word in ("good", "bad")]
CLASSES = np.array([1, 0] * 30)


# --- features that are saved ---------------------------------------------------------------------


def test_hashes_of_words_are_the_same_in_every_process_and_differ() -> None:
    words = ["good", "doog", "go", "", "gut", "好", "a" * 5000]
    assert [int(key) for key in _hashed(words[:2])] == [int(_hashed([word])[0]) for word in words[:2]]
    assert int(_hashed(["good"])[0]) == 3437609225792492370, "a saved vocabulary holds these"
    assert len(set(_hashed([word for word in words if word]).tolist())) == 6


@pytest.mark.parametrize("texts", [TEXTS, ["这个好吃", "那个不好吃", "好喝"] * 10])
def test_features_of_training_texts_are_those_of_any_text(texts: list[str]) -> None:
    floor, rows = Tfidf.fitted(texts)
    assert abs(floor.features(texts) - rows).max() < 1e-6
    again = Tfidf.read(floor.settings(), floor.arrays())
    held = [*texts[::7], "", "never seen before", texts[0].upper()]
    assert (again.features(held) != floor.features(held)).nnz == 0
    assert again.width == rows.shape[1]


def test_the_strongest_terms_of_a_class_are_named() -> None:
    model = text_baseline()
    found = terms.strongest(model, ["bad ones", "good ones"], TEXTS)
    assert found["good ones"][0] == "good"
    assert found["bad ones"][0] == "bad"
    assert "good number" in found["good ones"], "pairs of words too"
    assert terms.strongest(image_baseline(), ["a", "b"], []) == {}


@dataclass(frozen=True, kw_only=True)
class Numbers(BaselineFeatures):
    """What is stored, as it is."""

    words = "numbers"

    def features(self, items: Any) -> Any:
        return np.stack(items)


# --- the model that is saved ---------------------------------------------------------------------


def text_baseline() -> Baseline:
    fitted = Description.fitted(Text(), [Row(id=str(i), text=(text,)) for i, text in enumerate(TEXTS)], [np.zeros(1)] * len(TEXTS))
    assert fitted is not None
    model = classical.fit("softmax", fitted[1], CLASSES, 2, words=fitted[0].words)
    return Baseline.of(fitted[0], model, mean=0.0, deviation=1.0)


def pictures(count: int = 24) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 120 + 100 * (i % 2), (20, 24, 3), dtype=np.uint8) for i in range(count)]


def image_baseline() -> Baseline:
    fitted = Description.fitted(Image(), [Row(id=str(i)) for i in range(24)], pictures())
    assert fitted is not None
    model = classical.fit("softmax", fitted[1], np.arange(24) % 2, 2, words=fitted[0].words)
    return Baseline.of(fitted[0], model, mean=0.0, deviation=1.0)


def written(run: Path, model: Baseline) -> Path:
    (run / saving.FOLDER).mkdir()
    (run / saving.SETTINGS).write_text(json.dumps(model.settings()))
    (run / saving.WEIGHTS).write_bytes(save(model.tensors()))
    return run


@pytest.mark.parametrize("kind", ["text", "image"])
def test_a_baseline_that_is_read_again_gives_the_same_outputs_whatever_it_is_given_at_once(kind: str, tmp_path: Path) -> None:
    model, modality, items = (
        (text_baseline(), Text(), [*TEXTS, "new good text"]) if kind == "text" else (image_baseline(), Image(), pictures(9))
    )
    again = saving.read_baseline(written(tmp_path, model), modality, 2)
    together = again.outputs(items)
    assert torch.equal(together, model.outputs(items))
    alone = torch.cat([again.outputs([item]) for item in items])
    assert torch.allclose(alone, together, atol=1e-6)
    assert again.what == model.what


def test_a_baseline_of_numbers_gives_what_a_head_gives() -> None:
    rng = np.random.default_rng(0)
    rows, numbers = pictures(40), None
    fitted = Description.fitted(Image(), [Row(id=str(i)) for i in range(40)], rows)
    assert fitted is not None
    numbers = 1000 + 50 * np.array([row.mean() / 60 for row in rows]) + rng.normal(size=40)
    model = classical.fit("squared", fitted[1], numbers, 0, words="")
    space = Scale(mean=float(numbers.mean()), deviation=float(numbers.std()))
    head = Baseline.of(fitted[0], model, mean=space.mean, deviation=space.deviation)
    assert Regression().decode(head.outputs(rows), space) == pytest.approx(model.outputs(fitted[1]), rel=1e-4)
    assert np.corrcoef(model.outputs(fitted[1]), numbers)[0, 1] > 0.8


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda told, state: told.update(format=99), DataError),
        (lambda told, state: told["features"].update(words="something else"), DataError),
        (lambda told, state: told.update(thresholds=[0.5]), DataError),
        (lambda told, state: told.pop("features"), DataError),
        (lambda told, state: state.pop("features.0.keys"), DataError),
        (lambda told, state: state.update({"features.0.keys": state["features.0.keys"].flip(0)}), DataError),
        (lambda told, state: state.update(weight=state["weight"][:-1]), WeightsError),
        (lambda told, state: state.update(bias=torch.zeros(3)), WeightsError),
        (lambda told, state: state.update(weight=state["weight"] * float("nan")), WeightsError),
        (lambda told, state: state.pop("weight"), WeightsError),
    ],
)
def test_a_damaged_baseline_is_one_sentence(damage: Any, error: type[RequestError], tmp_path: Path) -> None:
    run = written(tmp_path, text_baseline())
    told, state = json.loads((run / saving.SETTINGS).read_text()), load_file(run / saving.WEIGHTS)
    damage(told, state)
    (run / saving.SETTINGS).write_text(json.dumps(told))
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, run / saving.WEIGHTS)
    with pytest.raises(error, match=r"baseline/model\.(json|safetensors)"):
        saving.read_baseline(run, Text(), 2)


# --- choosing ------------------------------------------------------------------------------------


def test_examples_of_one_group_are_no_evidence_of_their_own() -> None:
    truth = np.zeros(60, dtype=int)
    wrong, right = np.tile([0.2, 0.8], (60, 1)), np.tile([0.8, 0.2], (60, 1))
    network = np.where((np.arange(60) < 20)[:, None], wrong, right)
    alone = compared("softmax", network, right, truth)
    grouped = compared("softmax", network, right, truth, np.arange(60) // 20)
    assert alone.gain == pytest.approx(1 / 3)
    assert alone.baseline == 1.0
    assert alone.favours_baseline(1.0)
    assert grouped.error > 4 * alone.error
    assert compared("softmax", network, right, truth, np.zeros(60)).error == float("inf"), "one group decides nothing"


@pytest.mark.parametrize("link", ["sigmoid", "squared"])
def test_labels_are_compared_by_log_loss_and_numbers_by_their_error(link: LinkName) -> None:
    truth = np.array([[1.0, 0.0]] * 20) if link == "sigmoid" else np.linspace(0, 5, 20)
    good, bad = (np.array([[0.9, 0.1]] * 20), np.array([[0.6, 0.4]] * 20)) if link == "sigmoid" else (truth + 0.1, truth + 1.0)
    found = compared(link, bad, good, truth)
    assert found.gain == pytest.approx(2 * np.log(0.9 / 0.6) if link == "sigmoid" else 0.9)
    assert found.network > found.baseline


def test_a_baseline_that_always_predicts_the_majority_does_not_replace_a_network_that_finds_the_small_class() -> None:
    truth = (np.arange(200) < 12).astype(int)
    majority = np.tile([0.94, 0.06], (200, 1))
    doubtful = np.arange(200) < 40  # all of the small class, and 28 that it resembles
    network = np.where(doubtful[:, None], [0.45, 0.55], [0.998, 0.002])
    found = compared("softmax", network, majority, truth)
    assert found.gain > found.error, "it is right more often"
    assert not found.favours_baseline(1.0)
    sure = compared("softmax", network, np.where(truth[:, None] == 1, [0.1, 0.9], [0.9, 0.1]), truth)
    assert sure.favours_baseline(1.0)


def work(features: torch.Tensor, x: np.ndarray, encoded: torch.Tensor, task: Any, space: Space) -> tuple[Any, Fitted]:
    """Return a solved probe of these features and the baseline of `x`, on 60 training examples; all others are the score's."""
    from pretune.runner import solving

    train, count = np.arange(60), len(encoded)
    data = SimpleNamespace(
        task=task,
        space=space,
        encoded=Labels.of(encoded),
        labels_at=lambda positions: Labels.of(encoded[torch.from_numpy(positions)]),
        splits={"train": train, "val": np.arange(60, count)},
        units=np.arange(count),
        selects=None,
    )
    done = SimpleNamespace(data=data, frozen=FrozenFeatures(source=features, layout="pooled", views=1, start=1))
    goal = solving.goal(done, encoded[:60])  # type: ignore[arg-type]
    done.solution = solve(task.linear, features[:60], goal)
    truth = task.truth(Labels.of(encoded[:60]), space)
    model = classical.fit(task.baseline, x[:60], truth, len(space.classes), words="numbers")
    return done, Fitted(description=Description(modality=Image(), floor=Numbers()), classical=model)


@pytest.mark.parametrize("kind", [Classification, Multilabel, Regression])
@pytest.mark.parametrize("better", ["network", "baseline"])
def test_the_model_is_chosen_by_cross_validation_on_the_training_set_alone(kind: type, better: str) -> None:
    """In the score's examples everything is the other way round: they choose nothing."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=120)
    sign = np.where(np.arange(120) < 60, 1, -1)
    good, bad = (np.stack([hidden * side, rng.normal(size=120)], 1) + 0.05 * rng.normal(size=(120, 2)) for side in (sign, -sign))
    bad[:60] = rng.normal(size=(60, 2))
    encoded = {
        Classification: torch.from_numpy((hidden > 0).astype(np.int64)),
        Multilabel: torch.from_numpy(np.stack([hidden > 0, hidden > 0.5], 1).astype(np.float32)),
        Regression: torch.from_numpy(hidden).float(),
    }[kind]
    names = {Classification: ("a", "b"), Multilabel: ("a", "b"), Regression: ()}[kind]
    space: Space = {
        Classification: Space(classes=names),
        Multilabel: LabelSpace(classes=names, thresholds=(0.5, 0.5)),
        Regression: Scale(mean=3.0, deviation=2.0),
    }[kind]
    features, x = (good, bad) if better == "network" else (bad, good)
    done, fitted = work(torch.from_numpy(features).float(), x, encoded, kind(), space)
    found = selection.select(None, done, fitted, None)
    assert found.model == better
    assert found.comparison is not None
    assert found.comparison.examples == 60, "each training example was held out once"
    assert found.by == "5-fold cross-validation of the training set"
    other: Any = "network" if better == "baseline" else "baseline"
    forced = selection.select(other, done, fitted, None)
    assert (forced.model, forced.asked, forced.by) == (other, True, found.by), "a setting is obeyed"


def test_each_training_example_is_held_out_once_and_groups_stay_whole() -> None:
    from pretune.runner import solving

    x = np.random.default_rng(0).normal(size=(90, 3))
    done, _ = work(
        torch.from_numpy(x).float(), x, torch.from_numpy((x[:, 0] > 0).astype(np.int64)), Classification(), Space(classes=("a", "b"))
    )
    done.recipe = SimpleNamespace(training=SimpleNamespace(seed=0))
    found = solving.cross_validated(done)
    assert found is not None
    positions, raw = found
    assert sorted(positions.tolist()) == list(range(60))
    assert ((raw[:, 1] > raw[:, 0]).numpy() == (x[positions, 0] > 0)).mean() > 0.85
    done.data.units = np.zeros(90, dtype=int)
    assert solving.cross_validated(done) is None, "one group cannot be held out"


def test_without_evidence_the_network_stays() -> None:
    done, fitted = work(
        torch.randn(90, 3),
        np.random.default_rng(0).normal(size=(90, 3)),
        torch.arange(90) % 2,
        Classification(),
        Space(classes=("a", "b")),
    )
    done.solution = None
    found = selection.select(None, done, fitted, None)
    assert (found.model, found.by, found.comparison) == ("network", "", None)


def test_a_baseline_that_takes_the_place_learns_from_more_examples_where_the_time_allows_it() -> None:
    from pretune.runner import baselines

    rng = np.random.default_rng(0)
    targets = torch.from_numpy((rng.random((60, 2)) < 0.5).astype(np.float32))
    data: Any = SimpleNamespace(
        task=Multilabel(),
        space=LabelSpace(classes=("a", "b"), thresholds=(0.5, 0.5)),
        encoded=Labels.of(targets),
        splits={"train": np.arange(60)},
        units=np.arange(60),
        modality=Image(),
        rows=[Row(id=str(i)) for i in range(60)],
        ingested=SimpleNamespace(store=pictures(60)),
    )
    few = baselines.fit(data, 0, most=20)
    assert few is not None
    few = replace(few, seconds=1.0, classical=replace(few.classical, thresholds=np.array([0.3, 0.7])))
    all_of_them = selection.refitted(data, few, 0, 100.0)
    assert len(all_of_them.classical.rows) == 60
    assert "20 of" not in all_of_them.classical.what
    assert all_of_them.classical.fitted.strength == few.classical.fitted.strength
    assert all_of_them.classical.thresholds is not None
    assert all_of_them.classical.thresholds.tolist() == [0.3, 0.7], "chosen on held-out examples, which it has none of"
    assert selection.refitted(data, few, 0, 2.0) is few


def test_a_choice_that_there_is_not_is_refused() -> None:
    from pretune.runner import baselines

    class Other(Modality):
        """A modality without classical features."""

    class Own(Classification):
        """A task of the person's own, with outputs of its own."""

        def outputs(self, space: Space) -> int:
            return len(space.classes) - 1

    data: Any = SimpleNamespace(task=Classification(), modality=Other(), splits={"train": np.arange(9)})
    baselines.require_choice(None, data)
    with pytest.raises(SettingError, match="predictor is not used by the modality other, which has no classical baseline"):
        baselines.require_choice("baseline", data)
    data.modality, data.task = Image(), Own()
    with pytest.raises(SettingError, match="predictor is not used by task=own"):
        baselines.require_choice("network", data)
    data.task = Classification()
    baselines.require_choice("network", data)


@pytest.mark.parametrize("known", [True, False])
def test_the_cost_of_other_strategies_is_what_a_pass_took_times_their_passes(known: bool) -> None:
    from pretune.runner import costs

    data = SimpleNamespace(rows=[None] * 1000, splits={"train": np.arange(800)}, modality=Image())
    frozen = FrozenFeatures(source=torch.zeros(1), layout="pooled", views=2, start=1, seconds=200.0 if known else None)
    done: Any = SimpleNamespace(data=data, frozen=frozen, model=SimpleNamespace(body=["a", "b", "c", "d"]))
    found = costs.of_strategies(done, 0.0, 200)
    if not known:
        assert found == {}
        return
    each = 200.0 / 2000
    assert found["full"] == pytest.approx(each * (2 * 1000 + 3 * 800 * 5))
    assert found["partial"] == pytest.approx(each * (2 * 1000 + 3 * 800 * 8 * 2 / 4))
    done.frozen = None
    assert costs.of_strategies(done, 20.0, 200)["full"] == pytest.approx(found["full"]), "measured on 200 examples"


# --- what a person reads -------------------------------------------------------------------------

FLOORS = {"majority": {"what": "always ant", "value": 0.5}, "classical": {"what": "hog", "value": 0.9}}


def sentences(value: float, low: float, high: float, context: Context) -> str:
    held = {"accuracy": value, "interval": {"accuracy": [low, high]}}
    figures = {"primary": {"name": "accuracy", "split": "val"}, "val": held, "network": {"val": {"accuracy": 0.7}}}
    return "\n".join(diagnose([], figures, FLOORS, {"val": 500}, context))


def test_a_network_below_its_baseline_is_not_the_end() -> None:
    context = Context(strategy="linear_probe", baseline_saved=True, seconds={"full": 730.0, "partial": 40.0})
    message = sentences(0.7, 0.65, 0.75, context)
    assert "Do not use this model" not in message
    assert "The baseline is saved with the run: predict and evaluate use it with predictor=baseline." in message
    assert "patience=… sets examples aside" in message
    assert "strategy=full (about 12 min), strategy=partial (about 40 s)" in message
    assert "Do not use this model yet" in sentences(0.7, 0.65, 0.75, replace(context, baseline_saved=False))


def test_a_baseline_that_is_the_model_is_not_compared_with_itself() -> None:
    figures = "accuracy 88.0 % against the network's 70.0 %"
    context = Context(strategy="linear_probe", model="baseline", baseline_saved=True, compared=figures)
    message = sentences(0.9, 0.87, 0.93, context)
    assert message.startswith(f"The run's model is the classical baseline, not the network: {figures}.")
    assert "On val the network has accuracy 70.0 %." in message
    assert "equals" not in message
    assert "predictor=baseline was set" in sentences(0.9, 0.87, 0.93, replace(context, chosen=False))


# --- a whole run ---------------------------------------------------------------------------------


def test_a_run_whose_network_learned_nothing_predicts_with_the_baseline(home: Path) -> None:
    with (home / "d.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["text", "label", "split"])
        for i in range(150):
            table.writerow([f"{('good', 'bad')[i % 2]} example {i % 50}", "pn"[i % 2], ("train", "val", "test")[i // 50]])
    settings: dict[str, Any] = {"backbone": "scratch:textcnn", "epochs": 1, "lr": 1e-9, "offline": True}
    run = pt.finetune("d.csv", out="run", **settings)
    told = run.metrics
    assert (told["model"], told["selection"]["by"]) == ("baseline", "the split val")
    assert told["test"]["accuracy"] == 1.0
    assert told["network"]["test"]["accuracy"] < 0.9
    assert told["baseline"]["terms"]["p"][0].startswith("good")
    assert not {path.suffix for path in (run.path / "baseline").iterdir()} - {".json", ".safetensors"}
    rows = list(csv.DictReader((run.path / "predictions.csv").open()))
    (home / "new.csv").write_text("text\ngood one\n\nbad one\n")
    first, *rest = run.predict("new.csv")
    assert first["prediction"] == "p"
    assert [row.get("prediction") for row in run.predict("d.csv")][50:] == [row["prediction"] for row in rows]
    assert rest[-1]["prediction"] == "n"
    assert run.evaluate("d.csv", part="test")["primary"]["value"] == 1.0
    assert run.evaluate("d.csv", part="test", predictor="network")["primary"]["value"] == told["network"]["test"]["accuracy"]
    page = run.report.read_text()
    assert "the classical baseline: logistic regression on TF-IDF" in page
    assert "Terms of the baseline" in page
    with pytest.raises(SettingError, match="predictor must be one of network, baseline; got 'forest'"):
        run.predict("new.csv", predictor="forest")
    forced = pt.finetune("d.csv", out="forced", predictor="network", **settings)
    assert forced.metrics["model"] == "network"
    assert [row["prediction"] for row in forced.predict("new.csv", predictor="baseline") if "prediction" in row] == ["p", "n"]


def test_a_baseline_says_by_cross_validation_only_where_there_was_any() -> None:
    x, truth = np.random.default_rng(0).normal(size=(10, 4)), np.arange(10) % 2
    assert "by cross-validation" in classical.fit("softmax", x, truth, 2, words="numbers").what
    assert "by cross-validation" not in classical.fit("softmax", x, truth, 2, words="numbers", groups=np.zeros(10)).what


@pytest.mark.parametrize(("count", "message"), [(1, "on 1 example (the split val)"), (2, "on 2 examples (the split val)")])
def test_the_number_of_examples_is_said_in_words_that_agree(count: int, message: str) -> None:
    comparison = Comparison(metric="accuracy", network=1.0, baseline=0.5, gain=-0.5, error=0.1, examples=count)
    assert selection.Selection(by="the split val", comparison=comparison).figures.endswith(message)
