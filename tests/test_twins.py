"""Sets that must stay together: joined however they overlap, never the last of a class, quiet clips as loud ones."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pretune.auditing import duplicates
from pretune.data.splits import assign, merge
from pretune.sources.target_type import ONE_CLASS
from pretune.types import Row
from tests.test_audit import Arrays


@pytest.mark.parametrize("seed", range(20))
def test_overlapping_sets_are_joined_in_any_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sets = [rng.choice(30, size=int(rng.integers(1, 4)), replace=False).tolist() for _ in range(12)]
    reach = np.eye(30, dtype=bool)
    for members in sets:
        reach[np.ix_(members, members)] = True
    for _ in range(5):
        reach = (reach.astype(int) @ reach.astype(int)) > 0
    named = sorted({index for members in sets for index in members})
    expected = {tuple(np.flatnonzero(reach[index]).tolist()) for index in named}
    assert {tuple(unit) for unit in merge(sets)} == expected
    assert merge([[1, 2], [3, 4], [2, 4]]) == [[1, 2, 3, 4]]


@pytest.mark.parametrize("seed", range(12))
def test_a_group_that_holds_the_last_of_a_class_stays_in_train(seed: int) -> None:
    """Its other items alone would be taken."""
    rows = [Row(id=f"a{i}", target="a", group="g" if i < 20 else None) for i in range(200)]
    rows += [Row(id="c", target="c", group="g")]
    out, _ = assign(rows, target=ONE_CLASS, fraction=0.2, seed=seed)
    assert {row.split for row in out if row.group == "g"} == {"train"}
    assert 30 <= Counter(row.split for row in out)["val"] <= 50


@pytest.mark.parametrize("loudness", [0.5, 0.001])
def test_clips_that_differ_in_gain_are_twins_however_loud(loudness: float) -> None:
    rng = np.random.default_rng(0)
    clips = [(rng.standard_normal(8000) * loudness).astype(np.float32) for _ in range(6)]
    clips.append((clips[2] * 0.5).astype(np.float32))
    infos = [{"seconds": 1.0, "rms": float(np.sqrt((clip**2).mean())), "peak": float(np.abs(clip).max())} for clip in clips]
    rows = [Row(id=str(i), target="a") for i in range(7)]
    done: Any = SimpleNamespace(rows=rows, store=Arrays(clips, infos), hashes=[str(i) for i in range(7)])
    assert duplicates.find(done).near == [[2, 6]]
