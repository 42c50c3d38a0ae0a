"""The score: outputs in the items' order, intervals over groups in the user's units, baselines that never see what is scored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from pretune import api
from pretune.errors import DataError
from pretune.evaluation import intervals
from pretune.labels import Labels
from pretune.modalities import Modality
from pretune.modalities._tfidf import Tfidf
from pretune.models.learner import Learner
from pretune.runner import baselines, score
from pretune.runner.reporter import Noted, Silent
from pretune.sources.names import names_of
from pretune.sources.schema import Schema
from pretune.tasks import Space
from pretune.tasks.classification import Classification
from pretune.tasks.multilabel import LabelSpace, Multilabel
from pretune.tasks.regression import Regression, Scale
from pretune.training.device import Device
from pretune.training.plan import Precision
from pretune.types import Batch, Features, Row

CPU = Device(device=torch.device("cpu"))


class Numbered:
    """A view of ragged items; each holds its own number in all its positions."""

    def __init__(self, lengths: list[int]) -> None:
        self.lengths = np.array(lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, index: Any, epoch: int) -> Batch:
        longest = int(self.lengths[index].max())
        tensor = torch.from_numpy(index)[:, None].float().expand(-1, longest)
        return Batch(inputs=Features(tensor=tensor, layout="raw"), labels=None, index=torch.from_numpy(index))


class Echo(Learner):
    """Gives back each item's number; notes the mode it was asked in."""

    def __init__(self) -> None:
        super().__init__()
        self.modes: set[bool] = set()

    def predict(self, batch: Batch) -> Tensor:
        self.modes.add(self.training)
        return batch.inputs.tensor[:, :1]


def test_outputs_come_in_the_items_order_whatever_the_batches() -> None:
    lengths = np.random.default_rng(0).integers(1, 500, 90).tolist()
    learner = Echo().train()
    out = score.outputs(learner, Numbered(lengths), CPU, Precision(), batch_size=8)
    assert out[:, 0].tolist() == list(range(90))
    assert learner.modes == {False}


def test_of_training_items_that_are_costly_a_sample_is_measured_and_of_held_out_ones_all() -> None:
    parts = {"train": np.arange(3000), "select": np.arange(3000, 3010), "val": np.arange(4000, 6500)}
    data: Any = SimpleNamespace(splits=parts, kept_whole=None)
    cheap, costly = (score.measured(data, seed=0, costly=costly) for costly in (False, True))
    assert set(cheap) == set(costly) == {"train", "val"}
    assert len(cheap["train"]) == 3000
    assert len(costly["train"]) == len(set(costly["train"])) == score.TRAIN_ITEMS
    assert (costly["val"] == parts["val"]).all()
    assert set(costly["train"]) <= set(parts["train"])
    data.kept_whole = np.arange(6500) // 3
    whole = score.measured(data, seed=0, costly=True)["train"]
    assert len(whole) == 999
    assert set(np.unique(data.kept_whole[whole], return_counts=True)[1]) == {3}


# --- intervals -----------------------------------------------------------------------------------


def rows_of(groups: list[str | None]) -> list[Row]:
    return [Row(id=str(i), group=group) for i, group in enumerate(groups)]


def test_the_scores_interval_draws_whole_groups() -> None:
    rng = np.random.default_rng(0)
    right = np.repeat(rng.random(20) < 0.6, 5)
    raw = torch.from_numpy(np.where(right[:, None], [2.0, 0.0], [0.0, 2.0]))
    truth = torch.zeros(100, dtype=torch.long)
    names = [f"g{i // 5}" for i in range(100)]
    space = Space(classes=("a", "b"))
    grouped = score.interval(raw, Labels.of(truth), rows_of(names), Classification(), space)
    alone = score.interval(raw, Labels.of(truth), rows_of([None] * 100), Classification(), space)
    most = score.interval(raw, Labels.of(truth), rows_of([None, *names[1:]]), Classification(), space)
    expected = intervals.intervals(raw.softmax(1).numpy(), truth.numpy(), groups=np.array(names))
    assert tuple(grouped["accuracy"]) == pytest.approx(expected["accuracy"])
    for found in (grouped, most):
        assert np.ptp(found["accuracy"]) > 1.7 * np.ptp(alone["accuracy"]), "items of a group are no evidence of their own"


def test_the_scores_interval_is_in_the_users_units() -> None:
    rng = np.random.default_rng(0)
    space = Scale(mean=1000.0, deviation=50.0)
    encoded = torch.from_numpy(rng.normal(size=80)).float()
    raw = (encoded + 0.1).unsqueeze(1)
    low, high = score.interval(raw, Labels.of(encoded), rows_of([None] * 80), Regression(), space)["mae"]
    assert low <= 5.0 + 1e-3
    assert 5.0 - 1e-3 <= high < 6.0


# --- baselines -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Described(Modality):
    """A modality whose classical features are the stored numbers."""

    baseline_words: ClassVar[str] = "numbers"

    def baseline_features(self, arrays: list[Any]) -> Any:
        return np.stack(arrays)


def test_baselines_are_fitted_on_train_and_measured_on_the_scores_items() -> None:
    """In train the number says the class and most are of class b; in val it says the opposite and most are of class a."""
    rng = np.random.default_rng(0)
    classes = np.array([0] * 15 + [1] * 25 + [0] * 14 + [1] * 6)
    sign = np.where(np.arange(60) < 40, 1, -1)
    x = (sign * (2 * classes - 1))[:, None] + 0.1 * rng.normal(size=(60, 1))
    data: Any = SimpleNamespace(
        task=Classification(),
        space=Space(classes=("a", "b")),
        encoded=Labels.of(torch.from_numpy(classes)),
        splits={"train": np.arange(40), "val": np.arange(40, 60)},
        modality=Described(),
        ingested=SimpleNamespace(store=list(x.astype(np.float32))),
        rows=[Row(id=str(i)) for i in range(60)],
        units=np.arange(60),
    )
    found = baselines.measured(data, baselines.fit(data, 0), data.splits["val"])
    assert found["classical"]["value"] == 0.0, "what holds in train alone is learned"
    assert found["majority"]["value"] == 6 / 20, "the commonest class of train, measured on val"
    assert "b" in found["majority"]["what"]


def test_baselines_of_numbers_are_in_the_users_units() -> None:
    x = np.linspace(-1, 1, 50)[:, None]
    numbers = 1000 + 50 * x[:, 0]
    space = Scale(mean=float(numbers[:40].mean()), deviation=float(numbers[:40].std()))
    data: Any = SimpleNamespace(
        task=Regression(),
        space=space,
        encoded=Labels.of(torch.from_numpy((numbers - space.mean) / space.deviation).float()),
        splits={"train": np.arange(40), "val": np.arange(40, 50)},
        modality=Described(),
        ingested=SimpleNamespace(store=list(x.astype(np.float32))),
        rows=[Row(id=str(i)) for i in range(50)],
        units=np.arange(50),
    )
    found = baselines.measured(data, baselines.fit(data, 0), data.splits["val"])
    assert found["mean"]["value"] == pytest.approx(np.abs(numbers[40:] - numbers[:40].mean()).mean(), rel=1e-4)
    assert found["median"]["value"] == pytest.approx(np.abs(numbers[40:] - np.median(numbers[:40])).mean(), rel=1e-4)


def test_errors_of_groups_are_drawn_together() -> None:
    rng = np.random.default_rng(0)
    truth, error = np.zeros(100), np.repeat(rng.normal(size=20), 5)
    names = np.repeat(np.arange(20), 5)
    for outputs, targets in ((truth + error, truth), (np.stack([error > 0, error > 1], 1) * 1.0, np.ones((100, 2)))):
        alone, grouped = (intervals.intervals(outputs, targets, groups=groups) for groups in (None, names))
        errors = grouped.keys() & {"mae", "rmse", "micro_f1", "subset_accuracy"}
        assert len(errors) == 2
        for name in errors:
            assert np.ptp(grouped[name]) > 1.5 * np.ptp(alone[name]), name


def test_an_interval_of_many_items_is_that_of_the_normal_distribution() -> None:
    """At 95 % and a number of items at which the mean of errors is normal."""
    error = np.random.default_rng(0).normal(size=600)
    low, high = intervals.intervals(error, np.zeros(600), resamples=4000)["mae"]
    deviation = np.abs(error).std() / np.sqrt(600)
    assert (high - low) / (2 * 1.96 * deviation) == pytest.approx(1.0, abs=0.08)
    assert (low + high) / 2 == pytest.approx(np.abs(error).mean(), abs=0.2 * deviation)


@pytest.mark.parametrize("grouped", [True, False])
def test_evaluate_draws_whole_groups_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grouped: bool) -> None:
    rng = np.random.default_rng(0)
    error = np.repeat(rng.random(15) < 0.3, 4)
    lines = [f"text number {i},{'ab'[i % 2]}{f',p{i // 4:02d}' if grouped else ''}" for i in range(60)]
    (tmp_path / "d.csv").write_text("\n".join([f"text,label{',person_group' if grouped else ''}", *lines]))

    class Predictor:
        model = "network"
        modality = None
        name, task, space, schema = "text", Classification(), Space(classes=("a", "b")), Schema()

        def __init__(self, run: Path, **named: Any) -> None: ...

        def align(self, table: Any) -> None: ...

        def messages(self) -> list[str]:
            return []

        def decoded(self, rows: list[Row], **named: Any) -> Any:
            chosen = np.array([["a", "b"].index(str(row.target)) for row in rows]) ^ error
            raw = torch.from_numpy(np.log(np.eye(2)[chosen] * 0.8 + 0.1))
            return list(range(len(rows))), self.task.decode(raw, self.space), []

    monkeypatch.setattr(api, "Predictor", Predictor)
    told = api.evaluate(tmp_path, tmp_path / "d.csv")
    truth, names = np.arange(60) % 2, np.arange(60) // 4
    expected = intervals.interval("accuracy", np.eye(2)[truth ^ error] * 0.8 + 0.1, truth, groups=names if grouped else None)
    assert tuple(told["primary"]["interval"]) == pytest.approx(expected)


def test_labels_that_the_run_does_not_know_are_reported_and_a_row_of_such_alone_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["one,a|new", "two,b|a", "three,new|other", "four,b", "five,a|b"]
    (tmp_path / "d.csv").write_text("\n".join(["text,label", *lines]))

    class Predictor:
        model = "network"
        modality = None
        name, task, space, schema = "text", Multilabel(), LabelSpace(classes=("a", "b"), thresholds=(0.5, 0.5)), Schema()

        def __init__(self, run: Path, **named: Any) -> None: ...

        def align(self, table: Any) -> None: ...

        def messages(self) -> list[str]:
            return []

        def decoded(self, rows: list[Row], **named: Any) -> Any:
            known = np.array([[name in names_of(row) for name in "ab"] for row in rows])
            return list(range(len(rows))), self.task.decode(torch.from_numpy(np.where(known, 2.0, -2.0)), self.space), []

    monkeypatch.setattr(api, "Predictor", Predictor)
    noted = Noted(Silent())
    told = api.evaluate(tmp_path, tmp_path / "d.csv", reporter=noted)
    assert told["counts"] == {"used": 4, "dropped": 1}
    assert "'new' or 'other'" in told["dropped"][0]["detail"]
    assert told["unknown_labels"] == ["new"]
    assert [note for note in noted.notes if "does not know the labels new:" in note]
    assert told["metrics"]["micro_f1"] == 1.0
    (tmp_path / "d.csv").write_text("text,label\none,c|d\ntwo,d\nthree,c|d")
    with pytest.raises(DataError, match=r"none of its classes is one of the run's: c, d\. The run knows a, b"):
        api.evaluate(tmp_path, tmp_path / "d.csv")


def test_a_perfect_score_of_few_groups_is_still_uncertain() -> None:
    truth, groups = np.arange(20) % 2, np.arange(20) // 2
    low, high = intervals.intervals(np.eye(2)[truth], truth, groups=groups)["accuracy"]
    assert low == pytest.approx(intervals.wilson(1.0, 10)[0])
    assert high == 1.0
    labels = np.stack([truth, 1 - truth], 1)
    assert intervals.intervals(labels * 0.9, labels)["micro_f1"][0] < 0.95


def test_the_text_baseline_reads_words_and_characters_of_equal_weight() -> None:
    train = ["the quick fox", "a lazy dog", "brown bears sleep"]
    floor, rows = Tfidf.fitted(train)
    held = floor.features(["the quick fox", "foxes", "zzz"])
    np.testing.assert_allclose(np.sqrt(rows.multiply(rows).sum(1)), 1.0, atol=1e-5)
    alike = (held @ rows.T).toarray()
    assert alike[0] == pytest.approx([1.0, *alike[0, 1:]], abs=1e-5), "the same text is the same row"
    assert 0.02 < alike[1, 0] < 0.5, "foxes shares characters with fox and no word"
    assert alike[2].max() == 0.0
