"""How many CPU threads a run computes with: threads=, else OMP_NUM_THREADS, else the cores this process may use."""

from __future__ import annotations

import os

import pytest

from pretune.training.device import cpu_threads


@pytest.mark.parametrize(
    ("environment", "setting", "count"),
    [("1", None, 1), ("3", None, 3), (" 3,2 ", None, 3), ("1", 5, 5), (None, 5, 5)]
    + [(nonsense, None, 8) for nonsense in (None, "", "0", "-2", "many", "1.5", "²")],
)
def test_the_setting_then_the_environment_then_the_machine(
    monkeypatch: pytest.MonkeyPatch, environment: str | None, setting: int | None, count: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if environment is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", environment)
    assert cpu_threads(setting) == count


def test_processes_share_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert cpu_threads() == 2
