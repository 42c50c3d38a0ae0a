"""Settings that a finished run's predictions are made with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pretune.cli import early
from pretune.cli.arguments import parse
from pretune.deploy._saved_model import with_settings
from pretune.errors import SettingError
from pretune.tasks.classification import Classification
from pretune.tasks.text_generation import TextGeneration


def test_settings_of_writing_can_be_given_to_a_finished_run() -> None:
    trained = TextGeneration(max_new_tokens=40)
    given = with_settings(trained, {"temperature": "0.7", "top_k": 5})
    assert given == TextGeneration(max_new_tokens=40, temperature=0.7, top_k=5)
    assert with_settings(trained, {}) == trained


def test_what_belongs_to_training_is_refused() -> None:
    with pytest.raises(SettingError, match=r"task\.label_smoothing is fixed .* task=classification has no settings for predict"):
        with_settings(Classification(), {"label_smoothing": 0.1})
    with pytest.raises(SettingError, match="the run is one of task=text_generation"):
        with_settings(TextGeneration(), {"name": "classification"})
    with pytest.raises(SettingError, match=r"task\.top_p"):
        with_settings(TextGeneration(), {"top_p": 2})


def test_a_wrong_value_is_refused_before_the_run_is_read(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(json.dumps({"task": {"name": "text_generation"}}))
    data = tmp_path / "new.jsonl"
    data.write_text("{}")
    words = ["predict", str(tmp_path), str(data)]
    early.check(parse([*words, "task.temperature=0.7"]))
    with pytest.raises(SettingError, match=r"task\.temperature"):
        early.check(parse([*words, "task.temperature=-1"]))
    with pytest.raises(SettingError, match="max_new_tokens"):
        early.check(parse([*words, "task.max_new_token=3"]))
