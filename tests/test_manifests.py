"""Manifests: delimiters, encodings, broken lines, columns that are found, files that are named."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from pretune.errors import BadItem, DataError, SettingError
from pretune.formats import encodings
from pretune.sources import sources
from pretune.sources.classes import left_out
from pretune.sources.readers.delimited import sniff
from pretune.sources.readers.header import has_header
from pretune.sources.table import Columns
from pretune.sources.targets import classes_of, parse
from tests.data_files import messages_of, put, reasons, sentences, table_of

# --- manifests of files --------------------------------------------------------------------------


def test_paths_of_a_manifest(tmp_path: Path) -> None:
    put(tmp_path / "d", *(f"imgs/{c}_{i}.jpg" for c in "ab" for i in range(4)))
    put(tmp_path, "secret.jpg")
    good = [[f"imgs/{c}_{i}.jpg" if i else f"imgs\\{c}_{i}.jpg", c] for i in range(4) for c in "ab"]
    bad = [
        ["imgs/gone.jpg", "a"],
        ["/etc/hostname", "b"],
        ["../secret.jpg", "a"],
        ["imgs/a_1.jpg", "a"],
        ["imgs/b_2.jpg", ""],
        ["IMGS/B_3.JPG", "b"],
    ]
    path = table_of(tmp_path / "d" / "labels.csv", ["image", "label"], [*good, *bad])  # type: ignore[list-item]
    table = sources.read(path)
    assert len(table.rows) == 8
    assert sorted(row.id for row in table.rows) == sorted(f"imgs/{c}_{i}.jpg" for c in "ab" for i in range(4))
    assert reasons(table) == {"missing_file": 1, "outside_root": 2, "repeated_row": 2, "blank_label": 1}
    details = {entry.reason: entry.detail for entry in table.ledger}
    assert "labels.csv row 9 (line 10) names imgs/gone.jpg" in details["missing_file"]
    assert len(table.inputs) == 14
    assert left_out(table.ledger) == [
        "dropped: 2 rows with a path that leads outside the folder; 2 rows with a file that was named before; "
        "1 row with a file that does not exist; 1 row without label."
    ]


def test_absolute_paths_are_followed_where_they_are_the_rule(tmp_path: Path) -> None:
    files = [tmp_path / "photos" / c / f"{i}.jpg" for i in range(4) for c in "ab"]
    put(tmp_path, *map(str, files))
    (tmp_path / "lists").mkdir()
    rows: list[list[object]] = [[str(file), file.parent.name] for file in files]
    table = sources.read(table_of(tmp_path / "lists" / "labels.csv", ["image", "label"], [*rows, ["../gone.jpg", "a"]]))  # type: ignore[list-item]
    assert sorted(row.id for row in table.rows) == sorted(f"{c}/{i}.jpg" for i in range(4) for c in "ab")
    assert {row.path for row in table.rows} == set(files)
    assert reasons(table) == {"outside_root": 1}
    assert f"its paths are absolute, below {tmp_path / 'photos'}" in messages_of(table)


def test_letter_case_is_repaired(tmp_path: Path) -> None:
    put(tmp_path, "IMG_1.JPG", "b.jpg")
    path = table_of(tmp_path / "x.csv", ["file", "label"], [["img_1.jpg", "a"], ["b.jpg", "b"]])
    table = sources.read(path)
    assert [row.id for row in table.rows] == ["IMG_1.JPG", "b.jpg"]
    assert [(entry.action, entry.reason) for entry in table.ledger] == [("repaired", "other_spelling")]


def test_paths_relative_to_a_folder_below(tmp_path: Path) -> None:
    put(tmp_path, *(f"imgs/{i}.jpg" for i in range(6)))
    table_of(tmp_path / "labels.csv", ["path", "label"], [[f"{i}.jpg", "ab"[i % 2]] for i in range(6)])
    table = sources.read(tmp_path)
    assert [row.id for row in table.rows] == [f"imgs/{i}.jpg" for i in range(6)]
    assert "relative to imgs/" in messages_of(table)


def test_paths_with_a_lead_from_another_machine(tmp_path: Path) -> None:
    put(tmp_path, *(f"imgs/{i}.jpg" for i in range(6)))
    table_of(tmp_path / "labels.csv", ["path", "label"], [[f"/home/me/data/imgs/{i}.jpg", "ab"[i % 2]] for i in range(6)])
    table = sources.read(tmp_path)
    assert len(table.rows) == 6
    assert "'/home/me/data/' was cut" in messages_of(table)


def test_names_without_endings(tmp_path: Path) -> None:
    put(tmp_path, *(f"train/{i:03x}f.jpg" for i in range(6)), "test/zz.jpg")
    table_of(tmp_path / "labels.csv", ["id", "breed"], [[f"{i:03x}f", ("pug", "collie")[i % 2]] for i in range(6)])
    table = sources.read(tmp_path)
    assert table.classes == ("collie", "pug")
    assert [row.id for row in table.rows] == [f"train/{i:03x}f.jpg" for i in range(6)]
    assert not table.ledger


def test_nothing_is_downloaded(tmp_path: Path) -> None:
    path = table_of(tmp_path / "x.csv", ["url", "label"], [[f"https://x.org/{i}.jpg", "ab"[i % 2]] for i in range(4)])
    with pytest.raises(DataError, match="nothing is downloaded"):
        sources.read(path)


def test_a_file_with_two_labels(tmp_path: Path) -> None:
    put(tmp_path, *(f"{i}.jpg" for i in range(10)))
    rows: list[list[object]] = [[f"{i}.jpg", "ab"[i % 2]] for i in range(10)]
    table = sources.read(table_of(tmp_path / "x.csv", ["path", "label"], [*rows, ["3.jpg", "a"]]))
    assert len(table.rows) == 9
    assert reasons(table) == {"contradictory_label": 2}
    several = [[f"{i}.jpg", "c"] for i in range(0, 10, 2)]
    table = sources.read(table_of(tmp_path / "x.csv", ["path", "label"], [*rows, *several]))  # type: ignore[list-item]
    assert table.task == "multilabel"
    assert table.rows[0].target == ("a", "c")


def test_repeated_measurements_stay(tmp_path: Path) -> None:
    put(tmp_path, *(f"{i}.jpg" for i in range(10)))
    rows: list[list[object]] = [[f"{i}.jpg", i + 0.5] for i in range(10)]
    table = sources.read(table_of(tmp_path / "x.csv", ["path", "value"], [*rows, ["3.jpg", 4.25]]))
    assert len({row.id for row in table.rows}) == 11


# --- tables of texts -----------------------------------------------------------------------------


def test_columns_are_found_and_said(tmp_path: Path) -> None:
    rows = [[i, text, i % 5, label] for i, (text, label) in enumerate(sentences())]
    table = sources.read(table_of(tmp_path / "data.csv", ["id", "review_text", "stars", "verdict"], rows))
    assert table.columns == {"text": "review_text", "label": "verdict"}
    assert "not used: id, stars" in messages_of(table)
    assert table.rows[0].id == "data.csv:2"
    assert table.rows[0].text == ("the nice meal number 0 was served today",)


@pytest.mark.parametrize(("delimiter", "name"), [(",", "a.csv"), (";", "a.csv"), ("\t", "a.csv"), ("|", "a.txt"), ("\t", "a.tsv")])
def test_delimiters(tmp_path: Path, delimiter: str, name: str) -> None:
    rows = [[f"{text}, really; so", label] for text, label in sentences()]
    table = sources.read(table_of(tmp_path / name, ["text", "label"], rows, delimiter=delimiter))
    assert len(table.rows) == 20
    assert table.rows[0].text == ("the nice meal number 0 was served today, really; so",)


@pytest.mark.parametrize(
    ("encoding", "word"), [("utf-8-sig", "byte order mark"), ("utf-16", "UTF-16"), ("utf-16-le", "UTF-16"), ("cp1252", "Windows-1252")]
)
def test_encodings(tmp_path: Path, encoding: str, word: str) -> None:
    text = "text\tlabel\n" + "".join(f"{a} au café, señor\t{b}\n" for a, b in sentences())
    path = tmp_path / "data.csv"
    path.write_bytes(text.encode(encoding))
    table = sources.read(path)
    assert table.columns == {"text": "text", "label": "label"}
    assert str(table.rows[0].text).count("café, señor") == 1
    assert word in messages_of(table)


def test_chinese_and_what_cannot_be_told() -> None:
    chinese = "味道很好吃，服务热情。太难吃了，态度很差。" * 3
    assert encodings.decode(chinese.encode("gb18030")).text == chinese
    assert encodings.decode("一".encode() + b"\xff plain").encoding.startswith("UTF-8 with some bytes")
    for other, codec in (("Привет, как дела? Очень хорошо" * 3, "cp1251"), ("これはテストです" * 5, "shift_jis")):
        with pytest.raises(BadItem, match="cannot be told"):
            encodings.decode(other.encode(codec))
    with pytest.raises(BadItem, match="a PNG image"):
        encodings.decode(b"\x89PNG\r\n\x1a\n")


def test_quotes_and_newlines(tmp_path: Path) -> None:
    rows = [[f'He said "{a}",\nthen left;\n5" end', b] for a, b in sentences()]
    table = sources.read(table_of(tmp_path / "data.csv", ["text", "label"], rows))
    assert len(table.rows) == 20
    assert table.rows[1].id == "data.csv:5"
    assert not table.ledger


def test_broken_lines_cost_only_themselves(tmp_path: Path) -> None:
    good = "".join(f"{a},{b}\n" for a, b in sentences())
    bad = 'one field\na,b,c\nx,good,,\n"unclosed,good\n' + "zero \0 bytes,bad\n"
    (tmp_path / "data.csv").write_text("text,label\n" + good + bad + good)
    table = sources.read(tmp_path / "data.csv")
    assert len(table.rows) == 41
    assert reasons(table) == {"ragged": 2, "extra_blank_fields": 1, "unclosed_quote": 1, "nul_bytes": 1}
    assert {int(entry.item.partition(":")[2]) for entry in table.ledger} == {22, 23, 24, 25, 26}


def test_literal_quotes_in_a_tab_separated_file(tmp_path: Path) -> None:
    lines = [f"{a}\t{b}" for a, b in sentences()]
    lines[3:6] = ['"great" he said\tgood', '" unclosed here\tbad', 'what a "film"\tgood']
    (tmp_path / "data.tsv").write_text("\n".join(lines) + "\n")
    table = sources.read(tmp_path / "data.tsv")
    assert len(table.rows) == 20
    assert table.rows[4].text == ('" unclosed here',)
    assert "no header line" in messages_of(table)


def test_header_or_not() -> None:
    rest = [["a fine day it was", "good"], ["a bad day it was", "bad"]]
    assert has_header(["text", "label"], rest)
    assert has_header(["phrase", "mood"], rest)
    assert not has_header(["what a day", "good"], rest)
    assert not has_header(["what a day", "1"], rest)
    assert not has_header(["imgs/1.jpg", "x"], [["imgs/2.jpg", "y"]])
    assert has_header(["0", "1"], rest)


def test_sniff_gives_up_on_prose() -> None:
    assert sniff(["First Citizen:\n", "Before we proceed any further, hear me speak.\n", "\n", "All:\n", "Speak, speak.\n"]) == ""


def test_a_field_of_a_megabyte(tmp_path: Path) -> None:
    rows = [*sentences(), ["a" * 1_000_000, "good"]]
    assert len(sources.read(table_of(tmp_path / "data.csv", ["text", "label"], rows)).rows) == 21
    assert csv.field_size_limit() == 131072


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "data.csv is empty"),
        ("\n \n", "data.csv is empty"),
        ("text,label\n", "no rows"),
        ("text\nhello there\nagain there\n", "one column"),
        ("text,label\n" + "fine,good\n" * 5, "only one class: good"),
        ("text,label\n" + "".join(f"number {i} here,answer {i} there\n" for i in range(30)), "too many to be classes"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "data.csv").write_text(content)
    with pytest.raises(DataError, match=words):
        sources.read(tmp_path / "data.csv")


def test_blank_and_missing_labels_and_texts(tmp_path: Path) -> None:
    extra = [["a text", ""]] * 10 + [["another text", "NA"]] * 2 + [["", ""], ["  ", " "], ["", "good"], ["\u200b", "bad"]]
    table = sources.read(table_of(tmp_path / "data.csv", ["text", "label"], [*sentences(), *extra]))  # type: ignore[list-item]
    assert len(table.rows) == 20
    assert reasons(table) == {"blank_label": 10, "na_label": 2, "blank_row": 2, "empty_text": 2}
    for words in ("10 rows without label", "2 rows with a label that was treated as missing", "2 rows with an empty text"):
        assert words in left_out(table.ledger)[0]


def test_train_dev_and_test_tables(tmp_path: Path) -> None:
    for name, n in (("train", 10), ("dev", 3), ("test", 2)):
        table_of(tmp_path / f"{name}.tsv", None, [[text, int(label == "good")] for text, label in sentences(n)], delimiter="\t")
    put(tmp_path, "README.md")
    table = sources.read(tmp_path)
    assert table.counts() == {"train": 20, "val": 6, "test": 4}
    assert table.classes == ("0", "1")
    assert table.rows[-1].id.startswith("train.tsv:")


def test_a_test_table_without_labels_is_left_out(tmp_path: Path) -> None:
    table_of(tmp_path / "train.csv", ["text", "label"], sentences())
    table_of(tmp_path / "test.csv", ["text"], [["only a text"]])
    table = sources.read(tmp_path)
    assert len(table.rows) == 20
    assert "test.csv has no column 'label'" in messages_of(table)


def test_a_split_column_and_a_flag(tmp_path: Path) -> None:
    rows = [[*row, part] for row, part in zip(sentences(), ["train"] * 14 + ["dev"] * 3 + ["Test"] * 3, strict=True)]
    table = sources.read(table_of(tmp_path / "a.csv", ["text", "label", "split"], rows))
    assert table.counts() == {"train": 14, "val": 3, "test": 3}
    rows = [[*row, i % 4 == 0] for i, row in enumerate(sentences())]
    assert sources.read(table_of(tmp_path / "b.csv", ["text", "label", "is_valid"], rows)).counts() == {"train": 15, "val": 5}
    with pytest.raises(SettingError, match="must say train, val or test"):
        sources.read(tmp_path / "b.csv", Columns(split="label"))


def test_sentence_pairs(tmp_path: Path) -> None:
    rows = [[text, "a short premise", label] for text, label in sentences()]
    path = table_of(tmp_path / "a.csv", ["hypothesis", "premise", "label"], rows)
    assert sources.read(path).rows[0].text == ("a short premise", "the nice meal number 0 was served today")
    assert sources.read(path, Columns(text="hypothesis,premise")).rows[0].text == (
        "the nice meal number 0 was served today",
        "a short premise",
    )


def test_decimal_commas_make_a_number_column(tmp_path: Path) -> None:
    put(tmp_path, *(f"{i}.jpg" for i in range(12)))
    table = sources.read(table_of(tmp_path / "werte.csv", ["bild", "wert"], [[f"{i}.jpg", f"{i},5"] for i in range(12)], delimiter=";"))
    assert (table.task, table.columns["label"]) == ("regression", "wert")
    assert table.rows[3].target == 3.5
    assert not table.ledger
    assert "commas in 'wert' were read as decimal points" in messages_of(table)


def test_several_manifests_are_not_guessed(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        table_of(tmp_path / name, ["text", "label"], sentences())
    with pytest.raises(DataError, match="several manifests"):
        sources.read(tmp_path)
    (tmp_path / "b.csv").write_text("just\nnotes\nin a line\n")
    assert len(sources.read(tmp_path).rows) == 20


# --- JSON and Arrow ------------------------------------------------------------------------------


def test_json_objects_by_key(tmp_path: Path) -> None:
    by_key = {f"n{i}": {"text": a, "label": b} for i, (a, b) in enumerate(sentences())}
    (tmp_path / "keyed.json").write_text(json.dumps(by_key))
    table = sources.read(tmp_path / "keyed.json")
    assert (table.columns, len(table.rows)) == ({"text": "text", "label": "label"}, len(by_key))
    columns = {name: {f"n{i}": pair[at] for i, pair in enumerate(sentences())} for at, name in enumerate(("text", "label"))}
    (tmp_path / "columns.json").write_text(json.dumps(columns))  # as pandas writes it
    assert [row.text for row in sources.read(tmp_path / "columns.json").rows] == [row.text for row in table.rows]


def test_a_list_in_the_place_of_a_text_is_not_called_empty(tmp_path: Path) -> None:
    rows = [{"text": a, "label": b} for a, b in sentences()]
    rows += [{"text": ["one", "two"], "label": "good"}, {"text": None, "label": "good"}]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = sources.read(tmp_path / "data.jsonl")
    assert [entry.reason for entry in table.ledger] == ["nested_text", "empty_text"]
    assert table.ledger[0].detail.endswith("has a list where one text belongs")


def test_json_lines_with_broken_ones(tmp_path: Path) -> None:
    good = [json.dumps({"text": a, "label": b}) for a, b in sentences()]
    bad = ['{"text": "cut', "", "[1,2]", '{"text": "no label"}', '{"text": NaN, "label": "good"}']
    (tmp_path / "data.jsonl").write_text("\r\n".join(good + bad) + "\r\n", newline="")
    table = sources.read(tmp_path / "data.jsonl")
    assert len(table.rows) == 20
    assert {entry.item: entry.reason for entry in table.ledger} == {
        "data.jsonl:21": "bad_json",
        "data.jsonl:23": "not_an_object",
        "data.jsonl:24": "blank_label",
        "data.jsonl:25": "empty_text",
    }
    assert table.inputs[20:] == ["data.jsonl:21", "data.jsonl:23", "data.jsonl:24", "data.jsonl:25"]


@pytest.mark.parametrize("shape", ["array", "under", "columns", "pandas"])
def test_json_documents(tmp_path: Path, shape: str) -> None:
    items = [{"sentence": a, "sentiment": b} for a, b in sentences()]
    columns = {key: [item[key] for item in items] for key in ("sentence", "sentiment")}
    pandas = {key: {str(i): value for i, value in enumerate(values)} for key, values in columns.items()}
    document = {"array": items, "under": {"version": 1, "data": items}, "columns": columns, "pandas": pandas}[shape]
    (tmp_path / "data.json").write_text(json.dumps(document, indent=1))
    table = sources.read(tmp_path / "data.json")
    assert table.columns == {"text": "sentence", "label": "sentiment"}
    assert len(table.rows) == 20


def test_integers_of_json_stay_names(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text("\n".join(json.dumps({"text": f"text number {i}", "label": [0, 1, 10][i % 3]}) for i in range(12)))
    assert sources.read(tmp_path / "d.jsonl").classes == ("0", "1", "10")
    assert classes_of(parse([0.0, 1.0, None, 10.0] * 4, "y").values) == ("0", "1", "10")


def test_parquet_and_datasets_folders(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {"text": [a for a, _ in sentences()], "label": [int(b == "good") for _, b in sentences()]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "data.parquet")
    assert sources.read(tmp_path / "data.parquet").classes == ("0", "1")
    for part in ("train", "test"):
        folder = tmp_path / "saved" / part
        folder.mkdir(parents=True)
        with pyarrow.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as sink:
            table = pyarrow.table(columns)
            with pyarrow.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
        (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
        features = {"text": {"dtype": "string", "_type": "Value"}, "label": {"names": ["neg", "pos"], "_type": "ClassLabel"}}
        (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    table = sources.read(tmp_path / "saved")
    assert table.counts() == {"train": 20, "test": 20}
    assert table.classes == ("neg", "pos")
