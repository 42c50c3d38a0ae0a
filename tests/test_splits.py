"""Parts that are drawn: properties that hold for any rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest

from pretune.data.splits import assign, carve, merge
from pretune.errors import DataError
from pretune.sources.classes import count
from pretune.sources.target_texts import TargetText, TargetTexts
from pretune.sources.target_type import NUMBER, ONE_CLASS, SEVERAL_CLASSES
from pretune.types import Row


def rows_of(counts: dict[str, int]) -> list[Row]:
    return [Row(id=f"{name}/{i:04d}.jpg", target=name) for name, n in counts.items() for i in range(n)]


def random_rows(seed: int) -> tuple[list[Row], list[list[int]]]:
    """Return rows of uneven classes, some grouped, and some twins."""
    rng = np.random.default_rng(seed)
    n, classes = int(rng.integers(30, 300)), int(rng.integers(2, 9))
    chances = rng.dirichlet(np.ones(classes))
    groups = int(rng.integers(5, n))
    rows = [
        Row(id=f"{i:05d}", target=f"c{rng.choice(classes, p=chances)}", group=f"g{rng.integers(groups)}" if rng.random() < 0.7 else None)
        for i in range(n)
    ]
    twins = [sorted(rng.choice(n, size=int(rng.integers(2, 5)), replace=False).tolist()) for _ in range(int(rng.integers(0, 10)))]
    return rows, twins


def side(rows: list[Row]) -> dict[str, str | None]:
    return {row.id: row.split for row in rows}


@pytest.mark.parametrize("seed", range(30))
def test_no_group_and_no_twins_on_two_sides(seed: int) -> None:
    rows, twins = random_rows(seed)
    out, _ = assign(rows, target=ONE_CLASS, fraction=0.25, seed=seed, twins=twins)
    assert [row.id for row in out] == [row.id for row in rows]
    assert {row.split for row in out} == {"train", "val"}
    by_group: dict[str, set[str | None]] = defaultdict(set)
    for row in out:
        if row.group is not None:
            by_group[row.group].add(row.split)
    assert all(len(parts) == 1 for parts in by_group.values())
    assert all(len({out[i].split for i in same}) == 1 for same in twins)
    assert {row.target for row in out if row.split == "train"} == {row.target for row in rows}


@pytest.mark.parametrize("seed", range(5))
def test_the_draw_depends_on_ids_and_seed_only(seed: int) -> None:
    rows, _ = random_rows(seed)
    first = side(assign(rows, target=ONE_CLASS, fraction=0.2, seed=seed)[0])
    shuffled = [rows[i] for i in np.random.default_rng(1).permutation(len(rows))]
    assert side(assign(shuffled, target=ONE_CLASS, fraction=0.2, seed=seed)[0]) == first
    others = [side(assign(rows, target=ONE_CLASS, fraction=0.2, seed=seed + k)[0]) for k in (1, 2, 3)]
    assert any(other != first for other in others)


def test_each_class_gives_its_rounded_share() -> None:
    out, _ = assign(rows_of({"a": 200, "b": 12, "c": 3, "d": 2, "e": 1}), target=ONE_CLASS, fraction=0.2, seed=0)
    held = Counter(row.target for row in out if row.split == "val")
    assert held == {"a": 40, "b": 2, "c": 1, "d": 1}


def test_adding_rows_moves_few_others() -> None:
    rows = rows_of({"a": 100, "b": 100})
    before = side(assign(rows, target=ONE_CLASS, fraction=0.2, seed=0)[0])
    more = [*rows, *(Row(id=f"a/new{i}.jpg", target="a") for i in range(5))]
    after = side(assign(more, target=ONE_CLASS, fraction=0.2, seed=0)[0])
    assert sum(before[key] != after[key] for key in before) <= 4


def test_single_items_stay_in_train_and_are_said() -> None:
    out, findings = assign(rows_of({"a": 20, "b": 20, "cross": 1}), target=ONE_CLASS, fraction=0.2, seed=0)
    assert [row.split for row in out if row.target == "cross"] == ["train"]
    assert {f.kind: f.items for f in findings}["single_item_class"] == ("cross",)


def test_a_class_of_one_group_stays_in_train_and_is_said() -> None:
    rows = [replace(row, group="g" if row.target == "c" else row.id) for row in rows_of({"a": 20, "b": 20, "c": 5})]
    out, findings = assign(rows, target=ONE_CLASS, fraction=0.2, seed=0)
    assert {row.split for row in out if row.target == "c"} == {"train"}
    assert {f.kind: f.items for f in findings}["single_group_class"] == ("c",)


def test_given_parts_are_kept() -> None:
    rows = rows_of({"a": 10, "b": 10})
    given = [replace(row, split="train" if i % 3 else "test") for i, row in enumerate(rows)]
    assert assign(given, target=ONE_CLASS, fraction=0.2, seed=0) == (given, [])
    half = [replace(row, split=None if row.split == "train" else row.split) for row in given]
    out, findings = assign(half, target=ONE_CLASS, fraction=0.2, seed=0)
    assert out == given
    assert "are used as train" in findings[0].message


def test_a_lone_train_part_is_split() -> None:
    rows = [replace(row, split="train") for row in rows_of({"a": 10, "b": 10})]
    out, _ = assign(rows, target=ONE_CLASS, fraction=0.2, seed=0)
    assert Counter(row.split for row in out) == {"train": 16, "val": 4}


def test_what_cannot_be_split_is_refused() -> None:
    with pytest.raises(DataError, match="single example"):
        assign(rows_of({"a": 1, "b": 1}), target=ONE_CLASS, fraction=0.2, seed=0)
    with pytest.raises(DataError, match="one group"):
        assign([replace(row, group="g") for row in rows_of({"a": 5, "b": 5})], target=ONE_CLASS, fraction=0.2, seed=0)
    with pytest.raises(DataError, match="none to train on"):
        assign([replace(row, split="test") for row in rows_of({"a": 5, "b": 5})], target=ONE_CLASS, fraction=0.2, seed=0)


def test_numbers_are_stratified_by_size() -> None:
    rows = [Row(id=str(i), target=float(i)) for i in range(200)]
    out, _ = assign(rows, target=NUMBER, fraction=0.2, seed=3)
    held = np.array([row.target for row in out if row.split == "val"], dtype=float)
    assert len(held) == 40
    assert abs(held.mean() - 99.5) < 8


def test_every_tenth_of_the_numbers_gives_its_share() -> None:
    for seed in range(5):
        rows = [Row(id=str(i), target=float(i)) for i in range(200)]
        out, _ = assign(rows, target=NUMBER, fraction=0.2, seed=seed)
        held = [int(float(str(row.target))) // 20 for row in out if row.split == "val"]
        assert Counter(held) == dict.fromkeys(range(10), 4)


def test_each_label_of_several_is_on_both_sides() -> None:
    rng = np.random.default_rng(0)
    rows = [
        Row(id=str(i), target=tuple(name for name, p in (("a", 0.5), ("b", 0.2), ("rare", 0.04)) if rng.random() < p)) for i in range(200)
    ]
    out, _ = assign(rows, target=SEVERAL_CLASSES, fraction=0.2, seed=0)
    for part in ("train", "val"):
        assert set(count([row for row in out if row.split == part])) == {"a", "b", "rare"}
    assert 30 <= sum(row.split == "val" for row in out) <= 50


def test_carve_takes_from_train_only_and_keeps_groups_whole() -> None:
    rows = [replace(row, split="val" if i % 4 == 0 else "train", group=f"g{i // 3}") for i, row in enumerate(rows_of({"a": 60, "b": 60}))]
    held = carve(rows, target=ONE_CLASS, fraction=0.15, seed=0)
    assert held == sorted(held)
    assert {rows[i].split for i in held} == {"train"}
    rest = {row.group for i, row in enumerate(rows) if row.split == "train" and i not in held}
    assert not rest & {rows[i].group for i in held}
    assert 8 <= len(held) <= 20


def test_merge_joins_what_overlaps() -> None:
    assert sorted(merge([[1, 2], [5, 6], [2, 9], [7]])) == [[1, 2, 9], [5, 6], [7]]


def test_only_targets_with_classes_are_said_to_be_stratified() -> None:
    texts = [Row(id=str(i), text=f"text {i}", target=TargetText(f"summary {i}")) for i in range(40)]
    _, written = assign(texts, target=TargetTexts(task="summarisation"), fraction=0.2, seed=0)
    _, classes = assign(rows_of({"a": 20, "b": 20}), target=ONE_CLASS, fraction=0.2, seed=0)
    assert "stratified" not in " ".join(finding.message for finding in written)
    assert "stratified by class" in " ".join(finding.message for finding in classes)
