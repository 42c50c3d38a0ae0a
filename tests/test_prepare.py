"""What a run trains and scores on: one set of counts after decoding, and duplicates that stay on one side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pretune import api
from pretune.data import sources
from pretune.recipe import Recipe
from pretune.runner.prepare import Prepared, open_cache, plain_modality, prepare
from pretune.runner.reporter import Silent


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
    return prepare(recipe, table, plain_modality(table), open_cache(recipe), reporter or Silent())


@pytest.fixture
def copied(home: Path) -> Path:
    """Twelve pictures with a byte-equal copy each, and eight that were saved again as JPEG."""
    for i in range(12):
        for name in ("", "copy_"):
            save(home / "data" / "ab"[i % 2] / f"{name}{i}.png", i)
    for i in range(12, 20):
        save(home / "data" / "ab"[i % 2] / f"{i}.png", i)
        save(home / "data" / "ab"[i % 2] / f"again_{i}.jpg", i, quality=85)
    return home / "data"


def test_what_patience_sets_aside_holds_no_duplicate_of_what_is_trained_on(copied: Path) -> None:
    data = prepared(copied, "patience=3")
    side = {data.rows[place].id.split("/")[1]: part for part, places in data.parts.items() for place in places}
    assert set(side.values()) == {"train", "select", "val"}
    assert [i for i in range(12) if side[f"{i}.png"] != side[f"copy_{i}.png"]] == []
    assert [i for i in range(12, 20) if side[f"{i}.png"] != side[f"again_{i}.jpg"]] == []


def test_duplicates_stay_in_one_fold_of_the_baseline(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pretune.evaluation import linear
    from pretune.runner import score

    data = prepared(copied)
    seen: list[np.ndarray] = []
    fitted = linear.fit_predict

    def watched(kind: str, x: Any, y: Any, x_eval: Any, folds: Any = None) -> Any:
        seen.append(folds)
        return fitted(kind, x, y, x_eval, folds)

    monkeypatch.setattr(linear, "fit_predict", watched)
    score.compute_floors(data, "val", 0)
    fold = {data.rows[place].id.split("/")[1]: fold for place, fold in zip(data.parts["train"], seen[0], strict=True)}
    assert len(set(fold.values())) == linear.FOLDS
    pairs = [(f"{i}.png", f"copy_{i}.png") for i in range(12)] + [(f"{i}.png", f"again_{i}.jpg") for i in range(12, 20)]
    assert [pair for pair in pairs if pair[0] in fold and fold[pair[0]] != fold[pair[1]]] == []


def test_a_baseline_that_is_fitted_on_a_sample_says_so(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pretune.runner import score

    data = prepared(copied)
    total = len(data.parts["train"])
    whole = score.compute_floors(data, "val", 0)
    assert "training examples" not in whole["classical"]["what"]
    monkeypatch.setattr(score, "FLOOR_ITEMS", 20)
    part = score.compute_floors(data, "val", 0)
    assert f"fitted on 20 of {total} training examples" in part["classical"]["what"]
    assert part["majority"] == whole["majority"], "the trivial baseline needs no sample"


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
    heard = Heard()
    data = prepared(damaged, reporter=heard)
    found = api.audit(damaged)
    assert data.counts["used"] == found.counts["used"] == 22
    assert data.counts["dropped"] == found.counts["dropped"] == 6
    assert (data.counts["train"], data.counts["val"]) == (16, 6)
    assert found.counts["per_class"] == {"a": 11, "b": 11}
    assert data.counts["per_class"] == {"a": {"train": 8, "val": 3}, "b": {"train": 8, "val": 3}}
    counted = "22 usable images (16 train, 6 val), 2 classes: a, b."
    for lines in (heard.lines, data.table.said, found.said):
        assert [line for line in lines if "usable image" in line] == [counted]
    assert sum(row.split is not None for row in data.rows) == 22
    assert {entry.item for entry in data.ledger} == {entry.item for entry in found.ledger}
    assert "val/c/0.png" in {entry.item for entry in found.ledger}


def test_counts_of_a_drawn_split_leave_contradictory_pairs_out(damaged: Path) -> None:
    data = prepared(damaged, "split=new")
    held = next(finding.message for finding in data.findings if finding.kind == "split")
    assert f"{data.counts['val']} of {data.counts['used']} items" in held
