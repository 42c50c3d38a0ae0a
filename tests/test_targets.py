"""Labels and numbers as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pretune.errors import DataError
from pretune.sources import sources
from pretune.sources.numbers import is_measured, number
from pretune.sources.table import Columns
from pretune.sources.target_type import NUMBER, ONE_CLASS
from pretune.sources.targets import classes_of, parse
from tests.data_files import put, reasons, sentences, table_of

# --- targets -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "measured"),
    [
        (["0", "1", "10"] * 20, False),
        ([str(i % 10) for i in range(700)], False),
        ([str(i) for i in range(40)], True),
        (["1.5", "2", "3"] * 10, True),
        (["1.0", "0.0"] * 10, False),
        (["3.0"] * 12, True),
        (["1", "2", "1e9"] * 5, True),
        (["1", "2", "inf"] * 5, True),
        (["1", "2", "12,5"] * 5, True),
        (["1", "0", "nan"] * 5, False),
        (["1", "2", "cat"] * 5, False),
        ([str(i % 100) for i in range(5000)], False),
        ([str(i % 30) for i in range(90)], False),
        ([str(14 * i % 422) for i in range(600)], True),
    ],
)
def test_numbers_or_classes(values: list[str], measured: bool) -> None:
    assert is_measured(values) is measured


@pytest.mark.parametrize(
    ("column", "values", "task"),
    [
        ("value", range(10), "regression"),
        ("Age", range(20, 40), "regression"),
        ("value", range(5), "classification"),
        ("digit", range(10), "classification"),
        ("value", ["low", "high"], "classification"),
    ],
)
def test_a_name_that_says_quantity_makes_integers_numbers(column: str, values: list[object], task: str) -> None:
    targets = parse([str(value) for value in values] * 10, column)
    assert targets.type.task == task
    inferred = values != ["low", "high"]  # names of classes need no word
    assert any("task=" in message for message in targets.messages) is inferred


def test_numbers_as_written() -> None:
    assert [number(text) for text in ("3", "12,5", "-0,25", "1e3", "\u22124")] == [3.0, 12.5, -0.25, 1000.0, -4.0]
    assert [number(text) for text in ("12,500", "about 7", "", "1_000", "1,2,3")] == [None] * 5


def test_regression_targets(tmp_path: Path) -> None:
    values: list[object] = [*range(5, 29), "", "NaN", "inf", "12,5", "about 7", "1e9"]
    put(tmp_path, *(f"{i}.png" for i in range(len(values))))
    table = sources.read(table_of(tmp_path / "t.csv", ["image", "size"], [[f"{i}.png", v] for i, v in enumerate(values)]))
    assert table.task == "regression"
    assert len(table.rows) == 25
    assert table.rows[-1].target == 12.5
    assert reasons(table) == {"no_finite_number": 4, "decimal_comma": 1, "absurd_outlier": 1}
    details = " ".join(entry.detail for entry in table.ledger)
    assert all(word in details for word in ("'NaN'", "'inf'", "'about 7'", "a blank", "'1e9'"))


def test_ambiguous_commas_follow_their_column() -> None:
    assert parse(["1,125", "0,5", "2"], "x", target=NUMBER).values == [1.125, 0.5, 2.0]
    assert parse(["1,125", "0.5", "2"], "x", target=NUMBER).values == [1125.0, 0.5, 2.0]


def test_far_outliers_are_named_and_kept() -> None:
    targets = parse([*map(float, range(20)), 400.5], "size")
    assert targets.values[-1] == 400.5
    assert targets.findings[0].kind == "outlier"


def test_task_overrides() -> None:
    assert parse(["0", "1"] * 5, "y", target=NUMBER).values[:2] == [0.0, 1.0]
    assert parse(["0.5", "1.5"] * 5, "y", target=ONE_CLASS).type.single


def test_constant_target_is_refused(tmp_path: Path) -> None:
    put(tmp_path, *(f"{i}.png" for i in range(12)))
    path = table_of(tmp_path / "t.csv", ["image", "size"], [[f"{i}.png", "3.0"] for i in range(12)])
    with pytest.raises(DataError, match=r"is 3\.0: a constant target"):
        sources.read(path)


@pytest.mark.parametrize(
    "values",
    [
        ["cat|dog", "cat", "dog|bird", "bird"],
        ["cat;dog", "cat", "dog; bird", "bird"],
        ["cat,dog", "cat", "dog, bird", "bird", "cat,bird"],
        ["cat dog", "cat", "dog bird", "bird", "cat bird", "dog", "cat dog bird"],
        ['["cat", "dog"]', '["cat"]', '["dog", "bird"]', '["bird"]'],
        ["['cat', 'dog']", "['cat']", "['dog', 'bird']", "['bird']"],
        [["cat", "dog"], ["cat"], ["dog", "bird"], ["bird"]],
    ],
)
def test_multilabel_as_people_write_it(values: list[object]) -> None:
    targets = parse(values * 3, "tags")
    assert targets.type.task == "multilabel"
    assert targets.values[:2] == [("cat", "dog"), ("cat",)]
    assert classes_of(targets.values) == ("bird", "cat", "dog")


@pytest.mark.parametrize(
    "names", [["golden retriever", "labrador retriever", "pug"], ["Smith, John", "Doe, Jane"], ["red|green", "blue"], ["New York", "Paris"]]
)
def test_names_with_signs_are_one_class(names: list[str]) -> None:
    targets = parse(names * 5, "label")
    assert targets.type.task == "classification"
    assert set(targets.values) == set(names)


def test_one_hot_columns(tmp_path: Path) -> None:
    texts = [text for text, _ in sentences(4)]
    rows = [[i, text, int(i % 2 == 0), int(i % 3 == 0), 0 if i < 7 else 1] for i, text in enumerate(texts)]
    table = sources.read(table_of(tmp_path / "a.csv", ["id", "comment_text", "toxic", "rude", "threat"], rows))
    assert table.task == "multilabel"
    assert [row.target for row in table.rows[:3]] == [("rude", "toxic"), (), ("toxic",)]
    rows = [[text, int(i % 2 == 0), int(i % 2 == 1)] for i, text in enumerate(texts)]
    table = sources.read(table_of(tmp_path / "b.csv", ["text", "ham", "spam"], rows))
    assert (table.task, table.classes) == ("classification", ("ham", "spam"))
    table = sources.read(tmp_path / "a.csv", Columns(label="toxic,threat"))
    assert table.classes == ("threat", "toxic")


def test_a_frequent_na_is_a_class() -> None:
    targets = parse(["NA", "EU", "AS"] * 10, "continent")
    assert classes_of(targets.values) == ("AS", "EU", "NA")
    assert "is a class; missing=NA drops it" in targets.messages[0]


def test_white_space_around_labels_is_cut_and_case_is_kept() -> None:
    targets = parse(["positive", "positive ", "positive\u00a0", "Positive", "negative"] * 4, "label")
    assert classes_of(targets.values) == ("Positive", "negative", "positive")
    assert targets.findings[0].kind == "label_spaces"
