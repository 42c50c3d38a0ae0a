"""Which column is the label, and how its cells are to be read: sure choices are said, guesses between equals are asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pretune.auditing.lookalikes import lookalikes
from pretune.errors import DataError
from pretune.sources import sources
from pretune.sources.label_lists import integers, separator
from pretune.sources.notation import notation_of
from pretune.sources.schema import Schema
from pretune.sources.spellings import loose, merged
from pretune.sources.table import Columns, RunColumns, Table
from pretune.sources.target_type import NUMBER, ONE_CLASS, SEVERAL_CLASSES, TargetType
from pretune.sources.targets import classes_of, parse
from tests.data_files import messages_of, put, reasons, table_of

ROWS = 60


def sentence(i: int) -> str:
    return f"the {('cold', 'nice')[i % 2]} meal number {i} was served today"


def read(
    tmp_path: Path, header: list[str] | None, row: Callable[[int], list[Any]], *, target: TargetType | None = None, **named: Any
) -> Table:
    path = table_of(tmp_path / "t.csv", header, [row(i) for i in range(ROWS)])
    return sources.read(path, Columns(**named), target=target)


# --- which column --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "row", "label"),
    [
        (["text", "label", "label_confidence"], lambda i: ["ab"[i % 2], 0.5 + i / 200], "label"),
        (["text", "the_sentiment", "the_sentiment_confidence", "airline"], lambda i: ["ab"[i % 2], (1, 0.8)[i % 2], "UA"], "the_sentiment"),
        (["text", "mood", "mood:confidence"], lambda i: ["ab"[i % 2], (1, 0.8, 0.6)[i % 3]], "mood"),
        (["text", "label", "label_text"], lambda i: [i % 2, "ab"[i % 2]], "label"),
        (["text", "star_rating", "verified_purchase", "date"], lambda i: [i % 5 + 1, "YN"[i % 2], f"2015-0{i % 9 + 1}-11"], "star_rating"),
        (["text", "stars", "useful", "user_id"], lambda i: [i % 5 + 1, i % 3, f"u{i % 7}"], "stars"),
        (["text", "", "wert"], lambda i: [i, 100 + 3 * i], "wert"),
        (["text", "blood_group"], lambda i: ["AB0"[i % 3]], "blood_group"),
        (["text", "group"], lambda i: ["ab"[i % 2]], "group"),
        (["text", "mood", "patient_group"], lambda i: ["ab"[i % 2], f"p{i // 2}"], "mood"),
        (["text", "user", "mood"], lambda i: [f"u{i % 7}", "ab"[i % 2]], "mood"),
        (["text", "toxic", "rude"], lambda i: [i % 2, int(i % 3 == 0)], "toxic,rude"),
    ],
)
def test_the_label_that_is_clear(tmp_path: Path, header: list[str], row: Callable[[int], list[Any]], label: str) -> None:
    assert read(tmp_path, header, lambda i: [sentence(i), *row(i)]).columns["label"] == label


@pytest.mark.parametrize(
    ("header", "row", "either"),
    [
        (["text", "mood", "source"], lambda i: ["ab"[i % 2], ("web", "mail", "fax")[i % 3]], ("mood", "source")),
        (["text", "topic", "sentiment"], lambda i: ["xyz"[i % 3], "ab"[i % 2]], ("sentiment", "topic")),
        (["text", "age_group", "sex"], lambda i: [("0-19", "20-49", "50+")[i % 3], "fm"[i // 3 % 2]], ("age_group", "sex")),
        (["text", "lang", "toxic", "rude"], lambda i: [("en", "de")[i // 30], i % 2, int(i % 3 == 0)], ("lang", "toxic,rude")),
        (None, lambda i: [4 * (i % 2), f"user_{i % 23}", 1467810000 + 37 * i], ("column2", "column3")),
    ],
)
def test_labels_that_are_equals_are_asked_for(
    tmp_path: Path, header: list[str] | None, row: Callable[[int], list[Any]], either: tuple[str, str]
) -> None:
    first, second = either
    with pytest.raises(DataError, match=f"several columns may be the label.*label={first} or label={second}"):
        read(tmp_path, header, lambda i: [sentence(i), *row(i)])
    for name in either:
        assert read(tmp_path, header, lambda i: [sentence(i), *row(i)], label=name).columns["label"] == name


def test_a_group_is_never_the_label(tmp_path: Path) -> None:
    table = read(tmp_path, ["text", "age_group"], lambda i: [sentence(i), "abc"[i % 3]], label="age_group")
    assert "group" not in table.columns
    assert {row.group for row in table.rows} == {None}
    header = ["text", "label", "patient_group"]
    table = read(tmp_path, header, lambda i: [sentence(i), "ab"[i % 2], i // 4])
    assert table.columns["group"] == "patient_group"
    assert "group=none turns this off" in messages_of(table)
    assert "group" not in read(tmp_path, header, lambda i: [sentence(i), "ab"[i % 2], i // 4], group="none").columns


def test_no_group_is_wanted_beside_folders(tmp_path: Path) -> None:
    put(tmp_path, *(f"{name}/{i}.jpg" for name in ("cat", "dog") for i in range(4)))
    table_of(tmp_path / "a.csv", ["file", "age_group"], [[f"{name}/{i}.jpg", i % 2] for name in ("cat", "dog") for i in range(4)])
    assert {row.group for row in sources.read(tmp_path, Columns(group="none")).rows} == {None}


# --- words for nothing ---------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["nan", "null", "None", "NA", "NULL", "n/a"])
def test_a_word_for_nothing_is_a_class_where_it_is_as_frequent(tmp_path: Path, word: str) -> None:
    table = read(tmp_path, ["text", "label"], lambda i: [sentence(i), ("roti", word, "pita")[i % 3]])
    assert set(table.classes) == {"roti", word, "pita"}
    assert f"the label {word!r} is about as frequent as the others and is a class; missing={word} drops it" in messages_of(table)
    table = read(tmp_path, ["text", "label"], lambda i: [sentence(i), ("roti", word, "pita")[i % 3]], missing=word)
    assert (table.classes, reasons(table)) == (("pita", "roti"), {"na_label": 20})


def test_a_rare_word_for_nothing_is_missing_or_asked_for(tmp_path: Path) -> None:
    table = read(tmp_path, ["text", "label"], lambda i: [sentence(i), "nan" if i in (3, 4) else "ab"[i % 2]])
    assert (table.classes, reasons(table)) == (("a", "b"), {"na_label": 2})
    assert "missing=blank keeps it" in table.ledger[0].detail

    def breads(i: int) -> list[Any]:
        return [sentence(i), "nan" if i % 10 == 0 else "pita" if i % 10 == 1 else ("roti", "naan")[i % 2]]

    with pytest.raises(DataError, match="missing=nan drops these rows, missing=blank keeps it"):
        read(tmp_path, ["text", "label"], breads)
    assert "nan" not in read(tmp_path, ["text", "label"], breads, missing="nan").classes
    assert "nan" in read(tmp_path, ["text", "label"], breads, missing="blank").classes


def test_among_numbers_a_word_for_nothing_is_missing() -> None:
    assert parse(["nan", "0", "1"] * 10, "y").values[:3] == [None, "0", "1"]
    assert parse(["<NA>", "a", "b"] * 10, "y").values[:3] == [None, "a", "b"]


def test_a_run_knows_whether_the_word_is_a_class(tmp_path: Path) -> None:
    path = table_of(tmp_path / "t.csv", ["text", "label"], [[sentence(i), "nan" if i == 1 else "roti"] for i in range(20)])
    for classes, used in ((("nan", "roti"), 20), (("pita", "roti"), 19)):
        schema = Schema(text=("text",), label=("label",), text_count=1, classes=classes)
        assert len(sources.read(path, RunColumns(schema=schema), learn=False).rows) == used


# --- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["337", "1,234", "2,900", "999"], [337, 1234, 2900, 999]),
        (["1,234.50", "12.00"], [1234.5, 12]),
        (["1.234,50", "12,00"], [1234.5, 12]),
        (["1,234,567", "1,000"], [1234567, 1000]),
        (["1.234.567", "1.000"], [1234567, 1000]),
        (["1 234,5", "12,5"], [1234.5, 12.5]),
        (["1\u202f234", "337"], [1234, 337]),
        (["1'234.50", "12.50"], [1234.5, 12.5]),
        (["$1,234.50", "$12.00"], [1234.5, 12]),
        (["12 €", "1.500,50 €"], [12, 1500.5]),
        (["1.5 kg", "12 kg"], [1.5, 12]),
        (["12.5%", "100%"], [12.5, 100]),
        (["12,5", "3"], [12.5, 3]),
        (["1,125", "0,5"], [1.125, 0.5]),
        (["1e3", "-0.5"], [1000, -0.5]),
        (["\u22121,234", "337"], [-1234, 337]),
        (["a", "12 kg", "1,2,3"], [None, None, None]),
    ],
)
def test_numbers_as_people_write_them(texts: list[str], values: list[float | None]) -> None:
    notation = notation_of(texts)
    assert [notation.number(text) for text in texts] == values
    assert not notation.unclear


@pytest.mark.parametrize(("texts", "point", "comma"), [(["1,234", "5,678"], 1234, 1.234), (["1.234", "337"], 1.234, 1234)])
def test_a_sign_that_may_be_either_is_asked_for(texts: list[str], point: float, comma: float) -> None:
    from pretune.sources.reading import Reading

    with pytest.raises(DataError, match=r"decimal=point .* or decimal=comma"):
        parse(texts, "price", target=NUMBER)
    assert parse(texts, "price", target=NUMBER, reading=Reading(decimal="point")).values[0] == point
    assert parse(texts, "price", target=NUMBER, reading=Reading(decimal="comma")).values[0] == comma


def test_a_run_remembers_how_its_numbers_are_written(tmp_path: Path) -> None:
    path = table_of(tmp_path / "t.csv", ["text", "price"], [[sentence(i), f"{i * 137 + 200:,} kg"] for i in range(30)])
    table = sources.read(path)
    assert (table.task, table.rows[-1].target) == ("regression", 29 * 137 + 200)
    assert "'price' is in 'kg'; the unit was removed" in messages_of(table)
    schema = Schema.from_json(table.schema.to_json())
    assert (schema.decimal, schema.unit) == ("point", "kg")
    path = table_of(tmp_path / "e.csv", ["text", "price"], [[sentence(i), f"{i},500 kg"] for i in range(1, 9)])
    evaluated = sources.read(path, RunColumns(schema=schema), target=NUMBER, learn=False)
    assert evaluated.rows[0].target == 1500
    path = table_of(tmp_path / "g.csv", ["text", "price"], [[sentence(i), f"{i},500 g"] for i in range(1, 9)])
    with pytest.raises(DataError, match="in 'g' here, and the run was trained on 'kg'"):
        sources.read(path, RunColumns(schema=schema), target=NUMBER, learn=False)


# --- several labels in a cell --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["27,0", "3", "27", "15", "3,18"], "lists"),
        (["1", "1,2", "3,4,5"], "lists"),
        (["1,5", "2", "2,5", "3"], "numbers"),
        (["2,05", "3,1", "4", "2"], "numbers"),
        ([f"{i},{i % 7}" for i in range(20)], "numbers"),
        (["1,234", "337"], None),
        (["1", "2"], None),
        (["1,2", "b"], None),
    ],
)
def test_whole_numbers_joined_by_commas(cells: list[str], kind: str | None) -> None:
    assert integers(cells if len(cells) > 12 else cells * 4, "labels") == kind


@pytest.mark.parametrize("cells", [["1", "1,3", "1,7", "2"], ["1,2", "2,3", "1,3"]])
def test_lists_or_decimals_are_asked_for(cells: list[str]) -> None:
    with pytest.raises(DataError, match="task=multilabel or task=regression"):
        parse([*cells] * 10, "labels")
    assert parse([*cells] * 10, "labels", target=SEVERAL_CLASSES).values[1] == tuple(cells[1].split(","))
    assert parse([*cells] * 10, "labels", target=NUMBER).values[1] == float(cells[1].replace(",", "."))


@pytest.mark.parametrize(
    "names",
    [
        [f"{shade} {colour}" for shade in ("light", "dark", "pale") for colour in ("red", "blue", "green", "grey", "pink")],
        ["happy", "very happy", "sad", "very sad"],
        ["New York", "York", "New Jersey", "Jersey"],
        [f"{thing}, {state}" for thing in ("Cars", "Parts", "Tools") for state in ("used", "new", "broken")],
        ["Arts, Crafts & Sewing", "Clothing, Shoes & Jewelry", "Toys"],
    ],
)
def test_class_names_of_several_words(names: list[str]) -> None:
    assert separator(names * 4, forced=False) is None
    assert set(parse([*names] * 4, "label").values) == set(names)


def test_tags_joined_by_spaces() -> None:
    cells = ["haze primary", "clear primary", "clear primary water", "agriculture clear primary water", "cloudy", "clear", "haze"]
    cells += ["haze primary water", "agriculture haze primary", "clear water", "haze water", "agriculture clear", "agriculture haze"]
    assert separator([*cells, "27 0", "3", "27"], forced=False) is None
    assert separator(["27 0", "3", "27", "3 18"], forced=False) == " "


# --- ordinary tables -----------------------------------------------------------------------------


def test_dates_with_the_names_of_months_are_no_classes(tmp_path: Path) -> None:
    for write in ("December {}, 2017", "{} Dec 2017", "{}-Dec-17", "Dec. {}, 2017", "{} December 2017"):
        days = [write.format(i % 28 + 1) for i in range(ROWS)]
        table = read(tmp_path, ["text", "subject", "date"], lambda i, days=days: [sentence(i), ("politics", "world")[i % 2], days[i]])
        assert table.columns["label"] == "subject", write
    assert parse(["may", "march", "may", "march 3rd street"], "word").type.task == "classification"


def test_a_table_of_numbers_and_classes_is_refused_with_what_pretune_reads(tmp_path: Path) -> None:
    header = ["sepal_length", "sepal_width", "species"]
    with pytest.raises(DataError, match=r"beside numbers it has only the classes of 'species'.*text=species"):
        read(tmp_path, header, lambda i: [4 + i / 10, 2 + i / 20, ("setosa", "virginica")[i % 2]])
    named = read(tmp_path, header, lambda i: [4 + i / 10, 2 + i / 20, ("setosa", "virginica")[i % 2]], text="species", label="sepal_width")
    assert named.columns["text"] == "species"


def test_a_class_is_no_text_for_want_of_another(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="beside numbers it has only the classes of 'label'"):
        read(tmp_path, ["number", "label"], lambda i: [7 * i, "ab"[i % 2]])


def test_decimal_commas_with_three_digits_are_measured(tmp_path: Path) -> None:
    for named in ({}, {"decimal": "comma"}):
        table = read(tmp_path, ["text", "weight"], lambda i: [sentence(i), f"{i},{100 + i}"], **named)
        assert (table.task, table.rows[1].target) == ("regression", 1.101)


def test_points_that_may_separate_thousands_are_reported_with_the_other_reading(tmp_path: Path) -> None:
    table = read(tmp_path, ["text", "price"], lambda i: [sentence(i), f"{1 + i % 9}.{100 + i}"])
    assert "'1.100' in 'price' was read as 1.1; decimal=comma reads it as 1100." in messages_of(table)
    assert read(tmp_path, ["text", "price"], lambda i: [sentence(i), f"{1 + i % 9}.{100 + i}"], decimal="comma").rows[0].target == 1100
    assert "decimal=comma" not in messages_of(read(tmp_path, ["text", "price"], lambda i: [sentence(i), f"{i % 9}.{100 + i}"]))


def test_files_that_are_not_there_beside_a_text_name_the_text(tmp_path: Path) -> None:
    header = ["path", "spoken words", "accent"]
    with pytest.raises(DataError, match=r"none of the 60 files that column 'path' names is there .*text='spoken words'"):
        read(tmp_path, header, lambda i: [f"c{i}.mp3", sentence(i), ("us", "uk")[i % 2]])
    assert len(read(tmp_path, header, lambda i: [f"c{i}.mp3", sentence(i), ("us", "uk")[i % 2]], text="spoken words").rows) == ROWS


def test_column_names_in_camel_case_and_plurals_are_understood(tmp_path: Path) -> None:
    table = read(tmp_path, ["ProductId", "Text", "FindingLabels"], lambda i: [f"B{i % 9}", sentence(i), ("mass", "none", "node")[i % 3]])
    assert (table.columns["text"], table.columns["label"]) == ("Text", "FindingLabels")
    table = read(tmp_path, ["text", "Finding Labels", "gender"], lambda i: [sentence(i), ("mass", "node")[i % 2], "mf"[i % 2]])
    assert table.columns["label"] == "Finding Labels"


def test_a_cure_quotes_names_with_spaces_and_names_the_score_first(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="label='overall score' or label='user name'"):
        read(tmp_path, ["text", "user name", "overall score"], lambda i: [sentence(i), ("kim", "lee", "ann")[i % 3], i % 5])


def test_signs_and_spaces_of_numbers_tell_classes_apart(tmp_path: Path) -> None:
    for names in (("-1", "1"), ("1.5", "15")):
        table = read(tmp_path, ["text", "category"], lambda i, names=names: [sentence(i), names[i % 2]], target=ONE_CLASS)
        assert set(table.classes) == set(names)
        assert not lookalikes(table.classes)
        merged(table, merge=True)
        assert {row.target for row in table.rows} == set(names)
    assert loose("1 2") != loose("12")
    assert loose("Big  Cat") == loose("bigcat")


def test_numbers_of_thousands_of_digits_are_names_like_others(tmp_path: Path) -> None:
    many = "9" * 5000
    rows = read(tmp_path, ["n", "text", "kind"], lambda i: [many if i == 3 else i, sentence(i), "ab"[i % 2]])
    assert rows.columns["label"] == "kind"
    names = ["7", "x", many, f"-{many}", "-2"]
    assert classes_of([*names]) == (f"-{many}", "-2", "7", many, "x")


def test_of_two_signs_that_cut_alike_the_one_without_spaces_separates(tmp_path: Path) -> None:
    lines = [f"i felt number {i} today, truly;{('joy', 'anger')[i % 2]}" for i in range(ROWS)]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    assert sources.read(tmp_path / "t.csv").classes == ("anger", "joy")
    (tmp_path / "t.csv").write_text("\n".join(line.replace(", ", "; ").replace("truly;", "truly,") for line in lines))
    assert sources.read(tmp_path / "t.csv").classes == ("anger", "joy")


def test_who_names_a_column_by_its_place_means_a_table_without_a_header(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("a first text\tjoy\na second text\tanger\n")
    trained = Schema(text=("column1",), label=("column2",), text_count=1, width=2, classes=("anger", "joy"))
    assert len(sources.read(tmp_path / "t.tsv", RunColumns(schema=trained), learn=False).rows) == 2
    assert len(sources.read(tmp_path / "t.tsv", Columns(label="column2"), learn=False).rows) == 2
    (tmp_path / "t.tsv").write_text("text\tjoy\n" + "".join(f"{sentence(i)}\t{'ab'[i % 2]}\n" for i in range(8)))
    assert len(sources.read(tmp_path / "t.tsv", Columns(label="joy"), learn=False).rows) == 8
