"""What `then=` compares: one split for all runs, labels taken evenly, equal budgets, and sums over seeds."""

from __future__ import annotations

import csv
import hashlib
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pretune.corpus.resemblance import EQUAL, NOTHING, Excluded
from pretune.evaluation.pretraining_gain import LONGER, PRETRAINED, SCRATCH, interval, summary, trivial
from pretune.pretraining import Pretraining
from pretune.runner import gain, unlabelled
from pretune.runner.gain import LabelledTask, read_task
from pretune.runner.job import RunResult
from pretune.runner.reporter import Silent
from pretune.strategies import suggested
from pretune.strategies.scratch import Scratch
from pretune.training.events import Started
from pretune.training.run_dir import RunDir
from pretune.types import Row

WORDS = ["apple", "river", "stone", "cloud", "tiger", "piano", "lemon", "bridge", "candle", "forest"]


def recipe_of(folder: Path, *settings: str, rare: int = 10, common: int = 30) -> Pretraining:
    """Write texts of two classes, some of them twice but for case, and return a recipe that measures on them."""
    texts = [(f"{WORDS[i % 10]} {WORDS[i // 10]} number {i}", "rare" if i < rare else "common") for i in range(rare + common)]
    texts += [(text.upper() + " ", label) for text, label in texts[:8] + texts[-8:]]
    with (folder / "d.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["words", "kind", "person"])
        writer.writerows([text, label, f"p{i % 20}"] for i, (text, label) in enumerate(texts))
    return Pretraining.from_settings("corpus.txt", f"then={folder / 'd.csv'}", "then_label=kind", *settings)


def texts_of(task: LabelledTask, train: bool) -> list[str]:
    return [row.text[0] for row in task.rows if row.text and (row.split == "train") == train]


# --- the split -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_no_held_out_text_is_also_learned_from_in_another_case(home: Path, seed: int) -> None:
    task = read_task(recipe_of(home, f"seed={seed}"))
    train, held = ({text.casefold().strip() for text in texts_of(task, side)} for side in (True, False))
    assert train
    assert held
    assert not train & held


def test_pretraining_knows_the_held_out_texts_and_no_others(home: Path) -> None:
    task = read_task(recipe_of(home))
    assert task.held_out.documents is not None
    found = task.held_out.documents.found([[f"{text.upper()}!"] for text in texts_of(task, False)])
    assert all(codes.tolist() == [EQUAL] for codes in found)
    learned = task.held_out.documents.found([[text] for text in texts_of(task, True)])
    assert all(codes.tolist() != [EQUAL] for codes in learned)
    assert len(task.held_out.hashes) == len(set(texts_of(task, False)))


def test_held_out_items_are_not_pretrained_on(home: Path) -> None:
    task = read_task(recipe_of(home))
    held, train = texts_of(task, False), texts_of(task, True)
    learned = [text for text in train if task.held_out.documents is not None and not task.held_out.documents.found([[text]])[0].any()]
    rows = [Row(id=str(i), text=(text,)) for i, text in enumerate([*held, *(text.upper() for text in held), *learned])]
    hashes = [hashlib.sha256(str(row.text and row.text[0]).encode()).hexdigest() for row in rows]
    done: Any = SimpleNamespace(rows=rows, hashes=hashes)
    expected = [True] * (2 * len(held)) + [False] * len(learned)
    assert unlabelled._excluded(done, task.held_out).tolist() == expected
    by_bytes = unlabelled._excluded(done, Excluded(hashes=task.held_out.hashes)).tolist()
    assert by_bytes[: len(held)] == [True] * len(held)
    assert not any(by_bytes[2 * len(held) :])
    assert not unlabelled._excluded(done, NOTHING).any()


def test_groups_stay_on_one_side(home: Path) -> None:
    task = read_task(recipe_of(home, "then_group=person"))
    sides = [{row.group for row in task.rows if (row.split == "train") == side} for side in (True, False)]
    assert None not in sides[0] | sides[1]
    assert not sides[0] & sides[1]


# --- labels --------------------------------------------------------------------------------------


def test_labels_are_taken_evenly_from_the_classes_and_all_held_out_rows_stay(home: Path) -> None:
    task = read_task(recipe_of(home))
    train = {row.id: str(row.target) for row in task.rows if row.split == "train"}
    held = {row.id for row in task.rows if row.split != "train"}
    whole = gain._labelled(task, None, 0)
    assert {item for item, part in whole.items() if part == "train"} == set(train)
    for labels in (12, 0.25):
        count = round(labels * len(train)) if labels < 1 else labels
        parts = gain._labelled(task, labels, 0)
        taken = [item for item, part in parts.items() if part == "train"]
        assert len(taken) == count
        assert set(taken) <= set(train)
        assert set(parts) - set(taken) == held
        shares = Counter(train[item] for item in taken)
        for name, total in Counter(train.values()).items():
            assert abs(shares[name] - count * total / len(train)) <= 1
    draws = [frozenset(item for item, part in gain._labelled(task, 12, seed).items() if part == "train") for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


# --- the runs ------------------------------------------------------------------------------------


@pytest.fixture
def compared(home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Return a function that measures a gain over runs that only note their recipes; each takes two seconds a epoch."""

    def made(*settings: str, seconds: float = 100.0, untrained: bool = True, bfloat16: bool = False) -> list[Any]:
        recipes: list[Any] = []

        class Noting:
            def __init__(self, job: Any, *, reporter: Any, offline: bool) -> None:
                assert offline
                self.job, self.reporter = job, reporter

            def events(self) -> Any:
                recipe, folder = self.job.recipe, RunDir(self.job.place.out)
                recipes.append(SimpleNamespace(recipe=recipe, parts=dict(self.job.splits), reporter=self.reporter))
                yield Started(phase="all", step=0, steps=1, trainable=1)
                value = {"accuracy": 0.5 + 0.1 * len(recipes)}
                primary = {"name": "accuracy", "value": value["accuracy"], "split": "val", "higher_is_better": True}
                figures = {"primary": primary, "timing": {"train_s": 2.0 * recipe.training.epochs}, "val": value}
                return RunResult(folder=folder, metrics=figures)

        monkeypatch.setattr(gain, "Runner", Noting)
        folder = RunDir(home / f"pretrained{len(list(home.iterdir()))}")
        folder.path.mkdir()
        figures = {"precision": {"bfloat16": bfloat16}, "timing": {"train_s": seconds}}
        run: Any = SimpleNamespace(reporter=Silent(), offline=True)
        events = list(gain.measure(read_task(recipe_of(home, *settings)), RunResult(folder=folder, metrics=figures), untrained, run))
        assert [event.phase for event in events] == [f"{one.reporter.label}: all" for one in recipes]
        return recipes

    return made


def test_all_three_runs_start_from_one_network_and_see_one_split(compared: Callable[..., list[Any]]) -> None:
    runs = compared("seeds=1", "then_epochs=5")
    assert len(runs) == 3
    assert len({one.recipe.backbone for one in runs}) == 1
    assert runs[0].recipe.backbone.startswith("run:")
    assert runs[0].parts == runs[1].parts == runs[2].parts
    assert {"train", "val"} == set(runs[0].parts.values())
    assert {one.recipe.columns.label for one in runs} == {"kind"}
    assert [type(one.recipe.strategy).__name__ for one in runs] == ["Full", "Scratch", "Scratch"]


def test_every_run_moves_the_bar(compared: Callable[..., list[Any]]) -> None:
    assert [one.reporter.label for one in compared("seeds=1")] == ["pretrained, seed 0", "scratch, seed 0", "longer, seed 0"]


@pytest.mark.parametrize("bfloat16", [True, False])
def test_all_runs_compute_as_the_pretraining_did(compared: Callable[..., list[Any]], bfloat16: bool) -> None:
    runs = compared("seeds=1", "then_epochs=5", bfloat16=bfloat16)
    assert {one.recipe.training.precision for one in runs} == {"bfloat16" if bfloat16 else "float32"}


def test_the_third_run_may_take_as_long_as_pretraining_and_fine_tuning_together(compared: Callable[..., list[Any]]) -> None:
    runs = compared("seeds=1", "then_epochs=5", seconds=100.0)  # five epochs take ten seconds
    assert [one.recipe.training.epochs for one in runs] == [5, 5, math.ceil(5 * (100 + 10) / 10)]
    runs = compared("seeds=1", "then_epochs=5", seconds=1e9)
    assert runs[2].recipe.training.epochs == gain.MOST_EPOCHS


def test_each_seed_has_its_runs_and_each_number_of_labels(compared: Callable[..., list[Any]]) -> None:
    runs = compared("seeds=2", "labels=8,16", "then_epochs=2")
    assert [one.recipe.training.seed for one in runs] == [0, 0, 0, 1, 1, 1] * 2
    assert [Counter(one.parts.values())["train"] for one in runs] == [8] * 6 + [16] * 6
    assert len({frozenset(one.parts) for one in runs[:6]}) == 2, "another seed takes other labels"


def test_a_fresh_network_is_fine_tuned_as_from_scratch_but_for_its_weights(compared: Callable[..., list[Any]]) -> None:
    first, second, _ = compared("seeds=1")
    scratch = suggested(Scratch(), "text")
    assert (first.recipe.training.lr, first.recipe.training.weight_decay) == (scratch.lr, scratch.weight_decay)
    strategy = first.recipe.strategy
    assert (strategy.lr_decay, strategy.probe_first, strategy.freeze_norms) == (1.0, False, False)
    assert first.recipe.training.epochs == second.recipe.training.epochs > scratch.epochs, "more epochs where labels are few"
    given = compared("seeds=1", untrained=False)[0].recipe
    assert (given.training.lr, given.strategy.probe_first) == (None, True)


def test_the_strategy_is_as_asked(compared: Callable[..., list[Any]]) -> None:
    runs = compared("seeds=1", "then_strategy=linear_probe", "then_epochs=2")
    assert [type(one.recipe.strategy).__name__ for one in runs] == ["LinearProbe", "Scratch", "Scratch"]


# --- what came of it -----------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 10, 20])
def test_intervals_are_students(count: int) -> None:
    from scipy import stats

    values = [0.5 + 0.01 * i**1.5 for i in range(count)]
    mean, half = interval(values)
    low, high = stats.t.interval(0.95, count - 1, loc=sum(values) / count, scale=stats.sem(values))
    assert (mean - (half or 0), mean + (half or 0)) == pytest.approx((low, high), rel=1e-3)
    assert interval([0.5]) == (0.5, None)


def test_gains_of_errors_are_what_falls() -> None:
    shared = {"labels": 9, "metric": "mae", "higher_is_better": False}
    values = {PRETRAINED: (1.0, 1.1), SCRATCH: (2.0, 2.2), LONGER: (1.5, 1.5)}
    rows = [{**shared, "kind": kind, "value": value} for kind, found in values.items() for value in found]
    told = summary(rows)
    assert "mae +1.0500" in told["messages"][0]
    assert "mae +0.4500" in told["messages"][1]
    assert {row["kind"]: row["mean"] for row in told["table"]} == pytest.approx({PRETRAINED: 1.05, SCRATCH: 2.1, LONGER: 1.5})


def summed(pretrained: list[float], scratch: list[float], baseline: float | None = None, *, higher: bool = True) -> dict[str, Any]:
    shared = {"labels": 9, "metric": "accuracy" if higher else "mae", "higher_is_better": higher}
    floor = {} if baseline is None else {"baseline": {"name": "majority", "value": baseline}}
    arms = {PRETRAINED: pretrained, SCRATCH: scratch, LONGER: scratch}
    return summary([{**shared, **floor, "kind": kind, "value": value} for kind, found in arms.items() for value in found])


@pytest.mark.parametrize(
    ("pretrained", "scratch", "told"),
    [
        ([0.90, 0.91, 0.92], [0.80, 0.80, 0.81], "Pretraining helped."),
        ([0.80, 0.80, 0.81], [0.90, 0.91, 0.92], "Pretraining did not help: the score is worse with it."),
        ([0.9, 0.7, 0.8], [0.8, 0.75, 0.7], "Inconclusive: the interval includes 0."),
        ([0.8, 0.75, 0.7], [0.9, 0.7, 0.8], "Inconclusive: the interval includes 0."),
        ([0.8, 0.8, 0.8], [0.8, 0.8, 0.8], "Inconclusive: the interval includes 0."),
        ([0.9], [0.5], "One seed cannot tell whether pretraining helped"),
        ([0.5], [0.9], "One seed cannot tell whether pretraining helped"),
    ],
)
def test_a_gain_is_claimed_only_by_an_interval_that_leaves_0_out(pretrained: list[float], scratch: list[float], told: str) -> None:
    for sentence in summed(pretrained, scratch)["messages"]:
        assert told in sentence
    inverted = summed([-v for v in pretrained], [-v for v in scratch], higher=False)["messages"]
    assert all(told in sentence for sentence in inverted), "errors are better where they are smaller"


def test_networks_that_are_no_better_than_the_majority_show_nothing() -> None:
    told = summed([0.48, 0.48, 0.487], [0.40, 0.41, 0.41], 0.4878)
    assert all("Neither network is better than the majority baseline" in line for line in told["messages"])
    assert told["table"][-1] == {
        **{"labels": 9, "metric": "accuracy", "half_width": None, "kind": "majority baseline, no network"},
        **{"mean": pytest.approx(0.4878), "values": [0.4878]},
    }
    assert "helped." in summed([0.9, 0.91, 0.92], [0.40, 0.41, 0.41], 0.4878)["messages"][0]


def test_the_baseline_of_the_runs_is_the_best_that_looks_at_no_example() -> None:
    floors = {"mean": {"value": 2.0}, "median": {"value": 1.5}, "classical": {"value": 1.0}}
    assert trivial({"floors": floors}, False) == {"name": "median", "value": 1.5}
    assert trivial({}, True) is None


def test_what_is_claimed_is_claimed_of_the_examples_that_all_seeds_share() -> None:
    arms = zip((PRETRAINED, SCRATCH, LONGER), (0.9, 0.8, 0.95), strict=True)
    shared = {"labels": 9, "metric": "accuracy", "higher_is_better": True, "held": 41}
    rows = [{**shared, "kind": kind, "value": value + 0.01 * seed} for kind, value in arms for seed in range(3)]
    better, worse = summary(rows)["messages"]
    assert "95 % interval over seeds" in better
    assert better.endswith("Pretraining helped on these 41 held-out examples.")
    assert worse.endswith("Pretraining did not help on these 41 held-out examples: the score is worse with it.")
