"""Layouts as people have them: which folders are splits, which are folds, which are classes; tables and lists beside them."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from pretune.errors import DataError, SettingError
from pretune.sources import lists, sources
from pretune.sources.split_names import is_fold, split_of_file, split_of_folder, splits_of_folders, splits_of_words
from pretune.sources.table import Columns, Table
from pretune.sources.target_type import NUMBER
from tests.data_files import messages_of, put, reasons, table_of

CLASSES = ("cat", "dog")


def files(*folders: str, count: int = 4, end: str = "jpg") -> list[str]:
    return [f"{folder}/{i}.{end}" for folder in folders for i in range(count)]


def sides(table: Table) -> set[tuple[str, str | None]]:
    return {(row.id.split("/")[0], row.split) for row in table.rows}


# --- words for splits ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "other", "part"),
    [
        ("train", "test1", "test"),
        ("train2017", "val2017", "val"),
        ("Train (1)", "Test (1)", "test"),
        ("training_set", "holdout", "test"),
        ("trainval", "test", "test"),
        ("dataset_train", "dataset_valid", "val"),
        ("TrainImages", "TestImages", "test"),
        ("train_224x224", "dev_v2", "val"),
        ("train", "eval", "val"),
    ],
)
def test_folders_that_are_splits(tmp_path: Path, train: str, other: str, part: str) -> None:
    put(tmp_path, *(name for folder in (train, other) for c in CLASSES for name in files(f"{folder}/{c}")))
    table = sources.read(tmp_path)
    assert (table.classes, sides(table)) == (CLASSES, {(train, "train"), (other, part)})


def test_words_for_splits() -> None:
    assert splits_of_folders(["training", "validation", "evaluation"]) == {"training": "train", "validation": "val", "evaluation": "test"}
    assert splits_of_words(["train", "dev", "eval", "other"]) == {"train": "train", "dev": "val", "eval": "test"}
    assert splits_of_folders(["train", "eval", "x"]) == {"train": "train", "eval": "val"}
    assert [split_of_folder(name) for name in ("trains", "test_drive", "train_test", "contest", "images")] == [None] * 5
    assert [split_of_file(name) for name in ("testing_list", "TrainImages", "val2014", "train_test_split", "notes")] == [
        "test", "train", "val", None, None,
    ]  # fmt: skip
    assert all(map(is_fold, ("fold1", "Fold_02", "cv-3", "k-fold 4", "split1", "3rd_fold")))
    assert not any(map(is_fold, ("folder1", "1", "cat1", "scaffold2", "part1", "fold")))


def test_a_split_without_class_folders_has_no_labels(tmp_path: Path) -> None:
    put(tmp_path, *files("train/cat", "train/dog", "test1"))
    table = sources.read(tmp_path)
    assert (table.classes, dict(table.counts())) == (CLASSES, {"train": 8})
    assert table.layout == "class folders with train splits"
    assert "test1/ holds 4 images in no class folder" in messages_of(table)
    assert reasons(table) == {"no_class_folder": 4}


def test_numbers_are_classes_and_images_is_none(tmp_path: Path) -> None:
    put(tmp_path, *files(*(f"{part}/{k}" for part in ("train", "test") for k in range(3))))
    assert sources.read(tmp_path).classes == ("0", "1", "2")
    put(tmp_path / "tiny", *files("train/n1/images", "train/n2/images", "val/images"))
    tiny = sources.read(tmp_path / "tiny")
    assert (tiny.classes, tiny.counts(), reasons(tiny)) == (("n1", "n2"), {"train": 8}, {"no_class_folder": 4})
    assert "val/ holds 4 images in no class folder" in messages_of(tiny)


@pytest.mark.parametrize("folders", [("train", "test1"), ("train2017", "val2017"), ("train",), ("fold1", "fold2", "fold3")])
def test_splits_and_folds_with_files_in_them_are_no_classes(tmp_path: Path, folders: tuple[str, ...]) -> None:
    put(tmp_path, *files(*folders))
    with pytest.raises(DataError, match="neither class folders nor a manifest"):
        sources.read(tmp_path)


def test_the_cures_of_a_flat_folder_work(tmp_path: Path) -> None:
    put(tmp_path, *(f"train/{CLASSES[i % 2]}.{i}.jpg" for i in range(12)), *files("test1"))
    with pytest.raises(DataError, match="The names of the files may hold the classes") as refused:
        sources.read(tmp_path)
    pattern = re.search(r"label='(.*?)' takes cat \(6\), dog \(6\)", str(refused.value))
    assert pattern
    table = sources.read(tmp_path, Columns(label=pattern[1]))
    assert (table.classes, len(table.rows), reasons(table)) == (CLASSES, 12, {"no_label": 4})
    columns = re.search(r"lines: (\S+) / (\S+),cat", str(refused.value))
    assert columns
    rows: list[list[object]] = [[columns[2], "cat"]]
    rows += [[f"train/{CLASSES[i % 2]}.{i}.jpg", CLASSES[i % 2]] for i in range(12)]
    table_of(tmp_path / "labels.csv", columns[1].split(","), rows)
    assert sources.read(tmp_path).classes == CLASSES


def test_one_folder_whose_names_hold_the_classes_is_asked_about(tmp_path: Path) -> None:
    put(tmp_path, *(f"recordings/{digit}_{who}_{i}.wav" for digit in range(3) for who in ("ann", "bob") for i in range(3)))
    with pytest.raises(DataError, match="may hold the classes") as refused:
        sources.read(tmp_path)
    found = [sources.read(tmp_path, Columns(label=label)).classes for label in re.findall(r"label='(.*?)' takes", str(refused.value))]
    assert found == [("ann", "bob"), ("0", "1", "2")]


def test_a_class_that_is_called_like_a_split_is_warned_of(tmp_path: Path) -> None:
    put(tmp_path, *files("train", "car", "bus"))
    table = sources.read(tmp_path)
    assert table.classes == ("bus", "car", "train")
    assert [(f.kind, f.severity, f.items) for f in table.findings] == [("split_as_class", "warning", ("train",))]


def test_a_split_among_its_own_classes_is_refused_and_the_cure_works(tmp_path: Path) -> None:
    put(tmp_path, *files("train/cat", "train/dog", "cat", "dog"))
    with pytest.raises(DataError, match=f"Move them into a folder val/.*give only {tmp_path / 'train'}"):
        sources.read(tmp_path)
    assert sources.read(tmp_path / "train").classes == CLASSES


# --- folds and levels ----------------------------------------------------------------------------


def test_folds_of_class_folders_are_groups(tmp_path: Path) -> None:
    put(tmp_path, *files(*(f"audio/fold{k}/{c}" for k in range(1, 6) for c in CLASSES), end="wav"))
    table = sources.read(tmp_path)
    assert table.classes == CLASSES
    assert {(row.id.split("/")[1], row.group) for row in table.rows} == {(f"fold{k}", f"fold{k}") for k in range(1, 6)}
    assert "5 folds, each kept whole" in table.layout


def test_folds_take_their_labels_from_a_table(tmp_path: Path) -> None:
    put(tmp_path, *(f"audio/fold{k}/{k}-{i}.wav" for k in range(1, 4) for i in range(4)))
    rows: list[list[object]] = [[f"{k}-{i}.wav", k, i % 2, CLASSES[i % 2]] for k in range(1, 4) for i in range(4)]
    (tmp_path / "metadata").mkdir()
    table_of(tmp_path / "metadata" / "U.csv", ["slice_file_name", "fold", "classID", "class"], rows)
    table = sources.read(tmp_path)
    assert (table.classes, len(table.rows)) == (CLASSES, 12)
    assert {row.group for row in table.rows} == {"1", "2", "3"}
    assert {row.group for row in sources.read(tmp_path, Columns(group="none")).rows} == {None}


def test_folds_with_splits_of_their_own_are_refused_and_the_cure_works(tmp_path: Path) -> None:
    put(tmp_path, *files(*(f"fold_{k}/{part}/{c}" for k in range(3) for part in ("train", "test") for c in CLASSES)))
    with pytest.raises(DataError, match=f"Give one of them: {tmp_path / 'fold_0'}"):
        sources.read(tmp_path)
    assert sources.read(tmp_path / "fold_0").counts() == {"train": 8, "test": 8}


@pytest.mark.parametrize("wrap", ["", "data/", "train/"])
def test_the_same_folders_in_every_folder_are_asked_about_and_both_spellings_work(tmp_path: Path, wrap: str) -> None:
    put(tmp_path, *files(*(f"{wrap}{city}/{c}" for city in ("london", "paris") for c in CLASSES)))
    if wrap == "train/":
        put(tmp_path, *files(*(f"test/{city}/{c}" for city in ("london", "paris") for c in CLASSES)))
    with pytest.raises(DataError, match="either may be the classes") as refused:
        sources.read(tmp_path)
    first, second = re.findall(r"label='(.*?)' takes", str(refused.value))
    outer, inner = (sources.read(tmp_path, Columns(label=label)) for label in (first, second))
    assert (outer.classes, inner.classes) == (("london", "paris"), CLASSES)
    assert ({row.split for row in inner.rows} == {"train", "test"}) == (wrap == "train/")


def test_numbered_folders_inside_classes_are_no_level(tmp_path: Path) -> None:
    put(tmp_path, *files(*(f"{c}/cam{k}" for c in CLASSES for k in (1, 2))))
    assert sources.read(tmp_path).classes == CLASSES


def test_nested_classes_are_named_and_the_spelling_works(tmp_path: Path) -> None:
    put(tmp_path, *files("animals/cat", "animals/dog", "cars/bmw", "cars/vw"))
    table = sources.read(tmp_path)
    assert table.classes == ("animals", "cars")
    label = re.search(r"no classes of their own; label='(.*?)' takes them", messages_of(table))
    assert label
    assert sources.read(tmp_path, Columns(label=label[1])).classes == ("bmw", "cat", "dog", "vw")


def test_label_patterns_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    put(tmp_path, *files("a", "b"))
    with pytest.raises(SettingError, match=r"matches none of the paths; they look like 'a/0\.jpg'"):
        sources.read(tmp_path, Columns(label="(x+)$"))
    with pytest.raises(SettingError, match="has 2 capture groups"):
        sources.read(tmp_path, Columns(label="(a)|(b)"))
    numbers = sources.read(tmp_path, Columns(label=r"/(\d)\."), target=NUMBER)
    assert {row.target for row in numbers.rows} == {0.0, 1.0, 2.0, 3.0}


@pytest.mark.parametrize(
    "junk",
    ["__MACOSX/cat/._1.jpg", ".ipynb_checkpoints/1.jpg", "cat/Thumbs.db", "lost+found/1.jpg", "@eaDir/cat/1.jpg", "$RECYCLE.BIN/1.jpg"],
)
def test_what_systems_leave_behind_is_no_class(tmp_path: Path, junk: str) -> None:
    put(tmp_path, *files("cat", "dog"), junk)
    table = sources.read(tmp_path)
    assert (table.classes, len(table.rows)) == (CLASSES, 8)


# --- tables --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "folder"), [("metadata.csv", ""), ("metadata.csv", "images/"), ("_classes.csv", ""), ("metadata.jsonl", "")]
)
def test_a_table_in_each_split(tmp_path: Path, name: str, folder: str) -> None:
    for part in ("train", "valid"):
        put(tmp_path, *(f"{part}/{folder}{i}.png" for i in range(8)))
        if name.endswith(".jsonl"):
            lines = [f'{{"file_name": "{i}.png", "label": "{CLASSES[i % 2]}"}}' for i in range(8)]
            (tmp_path / part / name).write_text("\n".join(lines))
        elif name == "_classes.csv":
            table_of(tmp_path / part / name, ["filename", " cat", " dog"], [[f"{i}.png", int(i % 2 == 0), i % 2] for i in range(8)])
        else:
            table_of(tmp_path / part / name, ["file_name", "label"], [[f"{i}.png", CLASSES[i % 2]] for i in range(8)])
    table = sources.read(tmp_path)
    assert (table.classes, sides(table), len(table.rows)) == (CLASSES, {("train", "train"), ("valid", "val")}, 16)
    assert not table.ledger


@pytest.mark.parametrize("written", ["{part}/{i}.png", "{i}.png"])
def test_a_table_above_the_splits_takes_them_from_the_folders(tmp_path: Path, written: str) -> None:
    pairs = [(part, i) for part, start in (("train", 0), ("test", 100)) for i in range(start, start + 8)]
    put(tmp_path, *(f"{part}/{i}.png" for part, i in pairs))
    rows: list[list[object]] = [[written.format(part=part, i=i), CLASSES[i % 2]] for part, i in pairs]
    path = table_of(tmp_path / "labels.csv", ["file", "label"], rows)
    for data in (tmp_path, path):
        table = sources.read(data)
        assert (sides(table), len(table.rows)) == ({("train", "train"), ("test", "test")}, 16)
        assert "the folders in which the files lie give the splits" in messages_of(table)
    assert {row.split for row in sources.read(tmp_path, Columns(split="new")).rows} == {None}


def test_a_split_column_that_contradicts_the_folders_is_believed_and_said(tmp_path: Path) -> None:
    put(tmp_path, *files("train", "test"))
    rows: list[list[object]] = [
        [f"{part}/{i}.jpg", CLASSES[i % 2], "train" if i else "test"] for part in ("train", "test") for i in range(4)
    ]
    table = sources.read(table_of(tmp_path / "l.csv", ["file", "label", "split"], rows))
    assert table.counts() == {"train": 6, "test": 2}
    assert [(f.kind, len(f.items)) for f in table.findings] == [("split_disagreement", 4)]


@pytest.mark.parametrize(
    ("column", "values", "splits"),
    [
        ("is_train", (1, 1, 1, 0), ("train", "train", "train", "test")),
        ("set", ("Train", "Train", "Holdout", "Train"), ("train", "train", "test", "train")),
        ("partition", ("training", "validation", "evaluation", "training"), ("train", "val", "test", "train")),
        ("subset", ("train", "dev", "train", "train"), ("train", "val", "train", "train")),
    ],
)
def test_split_columns(tmp_path: Path, column: str, values: tuple[object, ...], splits: tuple[str, ...]) -> None:
    put(tmp_path, *(f"{i}.jpg" for i in range(8)))
    rows = [[f"{i}.jpg", CLASSES[i % 2], values[i % 4]] for i in range(8)]
    table = sources.read(table_of(tmp_path / "l.csv", ["file", "label", column], rows))
    assert [row.split for row in sorted(table.rows, key=lambda row: row.id)] == [*splits, *splits]


def test_a_split_column_of_numbers_is_not_guessed(tmp_path: Path) -> None:
    put(tmp_path, *(f"{i}.jpg" for i in range(8)))
    rows: list[list[object]] = [[f"{i}.jpg", CLASSES[i % 2], i % 3] for i in range(8)]
    table = sources.read(table_of(tmp_path / "l.csv", ["file", "label", "partition"], rows))
    assert {row.split for row in table.rows} == {None}
    assert "column 'partition' is not used as the split: its values ('0', '1', '2')" in messages_of(table)


# --- lists ---------------------------------------------------------------------------------------


def test_lists_separated_by_spaces(tmp_path: Path) -> None:
    put(tmp_path, *(f"my imgs/p {i}.jpg" for i in range(12)))
    lines = [f"my imgs/p {i}.jpg {CLASSES[i % 2]}" for i in range(12)]
    (tmp_path / "train.txt").write_text("\n".join(lines[:8]))
    for data in (tmp_path, tmp_path / "train.txt"):
        table = sources.read(data)
        assert (table.classes, len(table.rows), table.rows[0].split) == (CLASSES, 8, None)
    (tmp_path / "val.txt").write_text("\n".join(lines[8:]))
    assert sources.read(tmp_path).counts() == {"train": 8, "val": 4}
    (tmp_path / "val.txt").rename(tmp_path / "train_more.txt")
    with pytest.raises(DataError, match=f"not clear which is meant. Name one: {tmp_path}"):
        sources.read(tmp_path)


def test_forms_of_lists(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("0 x/1.jpg\n1 x/2.jpg\n")
    turned = lists.read_list(path)
    assert turned is not None
    assert turned.values == [["x/1.jpg", "0"], ["x/2.jpg", "1"]]
    path.write_text("x/1.jpg 1 0\n\nx/2.jpg 0 1\n")
    several = lists.read_list(path)
    assert several is not None
    assert (several.columns, several.values[1], several.numbers) == (["path", "column2", "column3"], ["x/2.jpg", "0", "1"], [1, 3])
    path.write_text("x/1.jpg red fox\nx/2.jpg cat\n")
    words = lists.read_list(path)
    assert words is not None
    assert words.values == [["x/1.jpg", "red fox"], ["x/2.jpg", "cat"]]
    path.write_text("a.bc d/ " * 400_000)
    assert lists.read_list(path) is None, "and that took no time"
    for text in ("a text without files\nand another\n", "x/1.jpg,0\nx/2.jpg,1\n", "x/1.jpg\nx/2.jpg\n", ""):
        path.write_text(text)
        assert lists.read_list(path) is None


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_lists_of_the_files_of_a_split(tmp_path: Path, form: str) -> None:
    names = [f"café/{i}.wav" for i in range(8)] + [f"no/{i}.wav" for i in range(8)]
    put(tmp_path, *(unicodedata.normalize(form, name) for name in names), "_noise_/1.wav")
    for name, places in (("testing_list.txt", (6, 7)), ("validation_list.txt", (4, 5))):
        listed = [f"{c}/{i}.wav" for c in ("café", "no") for i in places]
        (tmp_path / name).write_text("\n".join(listed), encoding="utf-8")
    table = sources.read(tmp_path)
    assert {row.split for row in table.rows if row.id.endswith(("6.wav", "7.wav"))} == {"test"}
    assert table.counts() == {"train": 9, "val": 4, "test": 4}
    assert "all other files are train; folders give the labels" in messages_of(table)


def test_lists_without_file_extensions_in_a_folder_of_their_own(tmp_path: Path) -> None:
    names = [f"{c}/{k}{i}" for k, c in enumerate(("pie", "ribs")) for i in range(8)]
    put(tmp_path, *(f"images/{name}.jpg" for name in names))
    for name, chosen in (("train", names[::2]), ("test", names[1::4])):
        put(tmp_path, f"meta/{name}.txt", content="\n".join(chosen).encode())
    table = sources.read(tmp_path)
    assert (table.counts(), reasons(table)) == ({"train": 8, "test": 4}, {"not_in_manifest": 4})


def test_texts_beside_examples_and_examples_that_are_texts_are_no_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "texts", *(f"{c}/test_{i}.txt" for c in ("pos", "neg") for i in range(4)), content=b"pos/test_0.txt\n")
    put(
        tmp_path / "captions",
        *(f"{c}/train_{i}.{end}" for c in CLASSES for i in range(30) for end in ("jpg", "txt")),
        content=b"cat/train_0.jpg\n",
    )
    monkeypatch.setattr(lists, "lines_of", lambda path: pytest.fail(f"{path} was read"))
    assert len(sources.read(tmp_path / "texts").rows) == 8
    assert len(sources.read(tmp_path / "captions").rows) == 60


def test_several_lists_of_one_split_are_not_used_and_said(tmp_path: Path) -> None:
    put(tmp_path, *files("a", "b"), *(f"splits/{name}.txt" for name in ("train1", "test1", "test2")), content=b"a/0.jpg\nb/1.jpg\n")
    table = sources.read(tmp_path)
    assert {row.split for row in table.rows} == {None}
    assert "list several choices of the same split and were not used" in messages_of(table)


# --- Unicode -------------------------------------------------------------------------------------


def test_class_folders_in_two_unicode_forms_are_one_class(tmp_path: Path) -> None:
    for part, form in (("train", "NFD"), ("test", "NFC")):
        put(tmp_path, *files(*(f"{part}/{unicodedata.normalize(form, name)}" for name in ("café", "thé"))))
    table = sources.read(tmp_path)
    assert (table.classes, table.counts()) == (("café", "thé"), {"train": 8, "test": 8})
    assert "folders in different Unicode forms (NFC, NFD) are one class: 'café', 'thé'." in messages_of(table)
    assert all(unicodedata.is_normalized("NFC", name) for name in table.classes)


def test_labels_of_a_table_in_two_unicode_forms_are_one_class(tmp_path: Path) -> None:
    rows: list[list[object]] = [
        [f"the {i}th text of this table", unicodedata.normalize(("NFC", "NFD")[i // 10], ("café", "thé")[i % 2])] for i in range(20)
    ]
    table = sources.read(table_of(tmp_path / "l.csv", ["text", "label"], rows))
    assert table.classes == ("café", "thé")
    assert ["Unicode form only are one" in finding.message for finding in table.findings] == [True]


def test_text_files_that_are_tables(tmp_path: Path) -> None:
    for split, count in (("train", 24), ("val", 12), ("test", 12)):
        lines = [f"i felt number {i} of {split} today{', truly' * (i % 3)};{('joy', 'anger')[i % 2]}" for i in range(count)]
        put(tmp_path, f"emotions/{split}.txt", content="\n".join(lines).encode())
    table = sources.read(tmp_path / "emotions")
    assert Counter(row.split for row in table.rows) == {"train": 24, "val": 12, "test": 12}
    assert (table.task, table.classes) == ("classification", ("anger", "joy"))
    put(tmp_path, "sms/SMSSpamCollection", content="\n".join(f"{('ham', 'spam')[i % 2]}\tsee you at {i}" for i in range(20)).encode())
    assert sources.read(tmp_path / "sms").classes == ("ham", "spam")
    put(tmp_path, "one/notes.txt", "one/more.txt", content="\n".join(f"a line, number {i}, of text" for i in range(20)).encode())
    with pytest.raises(DataError, match="no texts"):
        sources.read(tmp_path / "one")
