"""What a run trains and scores on: one set of counts after decoding, and duplicates that stay on one side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pretune import api, registry
from pretune.errors import DataError
from pretune.recipe import Recipe
from pretune.runner.prepare import Prepared, open_cache, plain_modality, prepare
from pretune.runner.reporter import Silent
from pretune.sources import sources
from pretune.sources.spellings import align, merged
from pretune.sources.table import Table
from pretune.sources.target_type import ONE_CLASS, SEVERAL_CLASSES
from pretune.types import Row


class Heard(Silent):
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def warn(self, line: str) -> None:
        self.lines.append(line)


def picture(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((48, 48), Image.Resampling.BICUBIC)


def save(path: Path, seed: int, **how: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(seed).save(path, **how)


def prepared(folder: Path, *settings: str, reporter: Any = None) -> Prepared:
    recipe = Recipe.from_settings(str(folder), **dict(setting.split("=", 1) for setting in settings))
    table = sources.read(folder, recipe.columns)
    task = registry.load("tasks", table.task)()
    return prepare(recipe, table, task, plain_modality(table), open_cache(recipe.place), reporter or Silent())


@pytest.fixture
def copied(home: Path) -> Path:
    """Twelve images with a byte-equal copy each, and eight that were saved again as JPEG."""
    for i in range(12):
        for name in ("", "copy_"):
            save(home / "data" / "ab"[i % 2] / f"{name}{i}.png", i)
    for i in range(12, 20):
        save(home / "data" / "ab"[i % 2] / f"{i}.png", i)
        save(home / "data" / "ab"[i % 2] / f"again_{i}.jpg", i, quality=85)
    return home / "data"


def test_what_patience_sets_aside_holds_no_duplicate_of_what_is_trained_on(copied: Path) -> None:
    data = prepared(copied, "patience=3")
    side = {data.rows[place].id.split("/")[1]: part for part, places in data.splits.items() for place in places}
    assert set(side.values()) == {"train", "select", "val"}
    assert [i for i in range(12) if side[f"{i}.png"] != side[f"copy_{i}.png"]] == []
    assert [i for i in range(12, 20) if side[f"{i}.png"] != side[f"again_{i}.jpg"]] == []


def test_duplicates_stay_in_one_fold_of_the_baseline(copied: Path) -> None:
    from pretune.evaluation import linear
    from pretune.runner import baselines

    data = prepared(copied)
    fitted = baselines.fit(data, 0)
    assert fitted is not None
    fold: dict[str, int] = {}
    for number, (_, held) in enumerate(fitted.classical.fitted.pairs):
        fold |= {data.rows[place].id.split("/")[1]: number for place in data.splits["train"][fitted.classical.rows[held]]}
    assert len(set(fold.values())) == linear.FOLDS
    pairs = [(f"{i}.png", f"copy_{i}.png") for i in range(12)] + [(f"{i}.png", f"again_{i}.jpg") for i in range(12, 20)]
    assert [pair for pair in pairs if pair[0] in fold and fold[pair[0]] != fold[pair[1]]] == []


def test_a_baseline_that_is_fitted_on_a_sample_says_so(copied: Path) -> None:
    from pretune.runner import baselines

    data = prepared(copied)
    total = len(data.splits["train"])
    whole, part = (baselines.fit(data, 0, most=most) for most in (total, 20))
    assert whole is not None
    assert part is not None
    assert "training examples" not in whole.classical.what
    assert f"fitted on 20 of {total} training examples" in part.classical.what
    measured = [baselines.measured(data, fitted, data.splits["val"]) for fitted in (whole, part)]
    assert measured[0]["majority"] == measured[1]["majority"], "the trivial baseline needs no sample"
    positions = data.splits["train"][part.classical.rows]
    assert len(positions) == 20
    truth = baselines.truth(data, positions)
    assert (part.outputs(data, positions).argmax(1) == truth).all(), "features of the very examples whose targets are taken"


@pytest.fixture
def damaged(home: Path) -> Path:
    """Thirteen of each class; one of each is broken, one pair contradicts itself, all of class c in train are broken."""
    for part, base in (("train", 0), ("val", 100)):
        for i in range(10 if part == "train" else 3):
            for at, name in enumerate("ab"):
                save(home / "data" / part / name / f"{i}.png", base + 20 * at + i)
    for name in "ab":
        (home / "data" / "train" / name / "0.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    (home / "data" / "train" / "b" / "1.png").write_bytes((home / "data" / "train" / "a" / "1.png").read_bytes())
    save(home / "data" / "val" / "c" / "0.png", 500)
    (home / "data" / "train" / "c").mkdir()
    (home / "data" / "train" / "c" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    return home / "data"


def test_there_is_one_number_of_usable_examples(damaged: Path) -> None:
    """28 files: 3 are broken, 2 contradict each other, 1 is of a class without usable training examples."""
    attends_padding = Heard()
    data = prepared(damaged, reporter=attends_padding)
    found = api.audit(damaged)
    assert data.counts["used"] == found.counts["used"] == 22
    assert data.counts["dropped"] == found.counts["dropped"] == 6
    assert (data.counts["train"], data.counts["val"]) == (16, 6)
    assert found.counts["per_class"] == {"a": 11, "b": 11}
    assert data.counts["per_class"] == {"a": {"train": 8, "val": 3}, "b": {"train": 8, "val": 3}}
    counted = "22 usable images (16 train, 6 val), 2 classes: a, b."
    for lines in (attends_padding.lines, data.table.messages, found.messages):
        assert [line for line in lines if "usable image" in line] == [counted]
    assert sum(row.split is not None for row in data.rows) == 22
    assert {entry.item for entry in data.ledger} == {entry.item for entry in found.ledger}
    assert "val/c/0.png" in {entry.item for entry in found.ledger}


def test_counts_of_a_drawn_split_leave_contradictory_pairs_out(damaged: Path) -> None:
    data = prepared(damaged, "split=new")
    held = next(finding.message for finding in data.findings if finding.kind == "split")
    assert f"{data.counts['val']} of {data.counts['used']} examples" in held


# --- classes of one, and look-alikes -------------------------------------------------------------


@pytest.fixture
def uneven(home: Path) -> Path:
    """Twelve of 'cat' and 'dog', one of 'Dog ' and one of 'owl'."""
    for i in range(24):
        save(home / "data" / ("cat", "dog")[i % 2] / f"{i}.png", i)
    save(home / "data" / "owl" / "30.png", 30)
    save(home / "data" / "Dog " / "40.png", 40)
    return home / "data"


def test_a_class_of_one_is_not_used_unless_asked_for(uneven: Path) -> None:
    data = prepared(uneven)
    assert data.space.classes == ("cat", "dog")
    assert [(entry.item, entry.reason) for entry in data.ledger] == [("owl/30.png", "rare_class")]
    message = next(finding.message for finding in data.findings if finding.kind == "rare_class")
    assert "'owl' (1)" in message
    assert "min_examples=1" in message
    assert data.counts["used"] == api.audit(uneven).counts["used"] == 25
    kept = prepared(uneven, "min_examples=1")
    assert kept.space.classes == ("cat", "dog", "owl")
    assert "single_item_class" in {finding.kind for finding in kept.findings}
    assert api.audit(uneven, min_examples=1).counts["used"] == 26


def test_classes_that_are_all_too_small_are_refused_by_name(uneven: Path) -> None:
    with pytest.raises(DataError, match=r"only one class has usable images.*dog.*'owl' \(1\), 'cat' \(12\)"):
        prepared(uneven, "min_examples=13")


def test_a_class_of_one_in_train_that_test_can_score_stays(home: Path) -> None:
    for i in range(12):
        save(home / "data" / ("test" if i > 7 else "train") / ("cat", "dog")[i % 2] / f"{i}.png", i)
    save(home / "data" / "train" / "owl" / "30.png", 30)
    save(home / "data" / "test" / "owl" / "31.png", 31)
    assert prepared(home / "data").space.classes == ("cat", "dog", "owl")


def test_rare_spellings_of_a_class_are_merged_and_reported(uneven: Path) -> None:
    data = prepared(uneven)
    per_class = api.audit(uneven).counts["per_class"]
    assert per_class == {"cat": 12, "dog": 13}
    message = next(finding.message for finding in data.findings if finding.kind == "merged_classes")
    assert "'Dog ' (1) is 'dog' (12)" in message
    apart = prepared(uneven, "merge_classes=false", "min_examples=1")
    assert apart.space.classes == ("Dog ", "cat", "dog", "owl")


def named(**counts: int) -> Table:
    rows = [Row(id=f"{name}{i}", target=name) for name, count in counts.items() for i in range(count)]
    return Table(rows=rows, modality="text", target_type=ONE_CLASS, root=Path(), layout="table")


@pytest.mark.parametrize(
    ("counts", "merge", "left"),
    [
        ({"good": 216, "Good": 1, "bad": 100}, None, {"good", "bad"}),
        ({"good": 216, "GOOD": 21, "bad": 100}, None, {"good", "bad"}),
        ({"good": 20, "Good": 18}, None, {"good", "Good"}),
        ({"good": 20, "Good": 18, "bad": 9}, True, {"good", "bad"}),
        ({"good": 216, "Good": 1}, False, {"good", "Good"}),
        ({"a": 100, "A": 1}, None, {"a", "A"}),
        ({"cpp": 100, "c++": 1, "c#": 1}, None, {"cpp", "c++", "c#"}),
        ({"hot dog": 50, "hot_dog": 2, "cat": 50}, None, {"hot dog", "hot_dog", "cat"}),
        ({"hot dog": 50, "hot_dog": 2, "cat": 50}, True, {"hot dog", "cat"}),
    ],
)
def test_which_look_alikes_are_merged(counts: dict[str, int], merge: bool | None, left: set[str]) -> None:
    table = named(**counts)
    merged(table, merge)
    assert {row.target for row in table.rows} == left
    assert len(table.rows) == sum(counts.values())
    assert [finding.kind for finding in table.findings] == ["merged_classes"] * (len(left) < len(counts))
    parted = named(**{"Cat": 9, "dog": 9})
    parted.rows = [replace(row, split="train") for row in parted.rows] + [
        Row(id=f"t{name}", target=name, split="test") for name in ("cat", "DOG", "Dog", "owl")
    ]
    merged(parted, None)
    assert [row.target for row in parted.rows if row.split == "test"] == ["Cat", "dog", "dog", "owl"], "train has one spelling of each"
    both = Table(rows=[Row(id="1", target=("Good", "good"))], modality="text", target_type=SEVERAL_CLASSES, root=Path(), layout="table")
    merged(both, True)
    assert both.rows[0].target in (("good",), ("Good",))


def test_labels_are_aligned_with_the_classes_of_a_run_by_their_looks_where_only_one_fits() -> None:
    table = named(**{"GOOD ": 2, "cafe\u0301": 1, "bad": 1, "x": 1, "odd": 1})
    align(table, ("good", "café", "bad", "X", "x", "Odd", "ODD"))
    assert [row.target for row in table.rows] == ["good", "good", "café", "bad", "x", "odd"]
    assert "'GOOD ' (2) as 'good'" in table.messages[0]


def test_what_pretraining_holds_out_has_no_near_duplicate_in_train(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The split of the pretraining run itself, which is stopped before it trains."""
    from pretune.data import splits as sampling

    splits: list[dict[str, set[str]]] = []
    sampled = sampling.at_random

    def watched(rows: list[Row], *rest: Any, **more: Any) -> dict[str, Any]:
        parts = sampled(rows, *rest, **more)
        splits.append({part: {rows[place].id.split("/")[1] for place in places} for part, places in parts.items()})
        raise KeyboardInterrupt

    monkeypatch.setattr(sampling, "at_random", watched)
    with pytest.raises(KeyboardInterrupt):
        api.pretrain(copied, backbone="scratch:cnn,width=8,stages=2,depth=1", objective="contrastive", held=0.5, image_size=32)
    again = [(f"{i}.png", f"again_{i}.jpg") for i in range(12, 20)]
    assert [pair for pair in again if sum(name in splits[0]["held"] for name in pair) == 1] == []
    assert splits[0]["train"]
