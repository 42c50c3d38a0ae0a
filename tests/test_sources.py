"""From a path on disk to typed rows: class folders, class folders beside a manifest, bare folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pretune.errors import DataError, SettingError
from pretune.sources import sources
from pretune.sources.table import Columns
from pretune.sources.target_type import NUMBER
from pretune.sources.targets import natural
from tests.data_files import messages_of, put, reasons, table_of

# --- class folders -------------------------------------------------------------------------------


def test_class_folders(tmp_path: Path) -> None:
    put(tmp_path, "cat/1.jpg", "cat/deep/er/2.JPG", "dog/1.png", "dog/notes.txt", "README.md")
    table = sources.read(tmp_path)
    assert [(row.id, row.target) for row in table.rows] == [("cat/1.jpg", "cat"), ("cat/deep/er/2.JPG", "cat"), ("dog/1.png", "dog")]
    assert (table.modality, table.task, table.classes) == ("image", "classification", ("cat", "dog"))
    assert all(row.split is None and row.path == tmp_path / row.id for row in table.rows)
    assert "2 file(s) of other types were ignored" in messages_of(table)


@pytest.mark.parametrize("names", [("train", "val"), ("Training", "validation"), ("train", "dev", "test"), ("seg_train", "seg_test")])
def test_parts(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        put(tmp_path, f"{name}/cat/1.jpg", f"{name}/dog/1.jpg")
    table = sources.read(tmp_path)
    parts = {"train", "test"} if "seg_test" in names else {"train", "val", "test"} if len(names) == 3 else {"train", "val"}
    assert {row.split for row in table.rows} == parts
    assert table.classes == ("cat", "dog")


def test_wrappers_around_parts_and_inside_them(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for name in ("cat", "dog"):
            put(tmp_path, f"my data/data/{part}/{part}/{name}/cam1/2024/1.jpg", f"my data/data/{part}/{part}/{name}/cam2/1.jpg")
    table = sources.read(tmp_path)
    assert table.classes == ("cat", "dog")
    assert table.counts() == {"train": 4, "val": 4}
    assert "under my data/data" in table.layout


def test_parts_inside_classes(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        put(tmp_path, f"{name}/train/1.jpg", f"{name}/train/2.jpg", f"{name}/test/3.jpg")
    table = sources.read(tmp_path)
    assert table.counts() == {"train": 4, "test": 2}
    assert table.classes == ("cat", "dog")


def test_parts_without_train_are_no_classes(tmp_path: Path) -> None:
    put(tmp_path, *(f"{part}/{name}/1.jpg" for part in ("val", "test") for name in ("cat", "dog")))
    assert sources.read(tmp_path).counts() == {"val": 2, "test": 2}
    put(tmp_path / "one", "test/cat/1.jpg", "test/dog/1.jpg")
    assert sources.read(tmp_path / "one").counts() == {"test": 2}


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    put(tmp_path, "train/1.jpg", "bus/1.jpg", "car/1.jpg")
    assert sources.read(tmp_path).classes == ("bus", "car", "train")


def test_files_outside_classes_and_parts_are_in_the_ledger(tmp_path: Path) -> None:
    put(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "train/stray.jpg", "val/a/1.jpg", "val/b/2.jpg", "extra/x/1.jpg")
    table = sources.read(tmp_path)
    assert {entry.item: entry.reason for entry in table.ledger} == {"train/stray.jpg": "no_class_folder", "extra/x/1.jpg": "outside_parts"}
    assert len(table.rows) == 4


def test_an_unlabelled_test_part_is_left_out(tmp_path: Path) -> None:
    put(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "test/1.jpg", "test/2.jpg")
    table = sources.read(tmp_path)
    assert table.counts() == {"train": 2}
    assert reasons(table) == {"no_class_folder": 2}


def test_numeric_classes_keep_names_and_natural_order(tmp_path: Path) -> None:
    for name in ("0", "1", "2", "10", "11"):
        put(tmp_path, f"{name}/a.png", f"{name}/b.png")
    assert sources.read(tmp_path).classes == ("0", "1", "2", "10", "11")
    assert [row.target for row in sources.read(tmp_path, target=NUMBER).rows][:4] == [0.0, 0.0, 1.0, 1.0]
    assert sorted(["-2", "b10", "b9", "-10", "3"], key=natural) == ["-10", "-2", "3", "b9", "b10"]


def test_junk_links_and_false_files(tmp_path: Path) -> None:
    put(tmp_path, "cat/1.jpg", "dog/1.jpg", "cat/Thumbs.db", "cat/._1.jpg", "cat/.DS_Store", "__MACOSX/cat/._1.jpg", ".git/x/1.jpg")
    (tmp_path / "dog" / "x.jpg").mkdir()
    os.symlink("..", tmp_path / "cat" / "loop")
    os.symlink("gone.jpg", tmp_path / "cat" / "broken.jpg")
    os.symlink("1.jpg", tmp_path / "dog" / "again.jpg")
    table = sources.read(tmp_path)
    assert [row.id for row in table.rows] == ["cat/1.jpg", "dog/1.jpg"]
    assert {entry.item: entry.reason for entry in table.ledger} == {"cat/broken.jpg": "broken_link", "dog/again.jpg": "repeated_link"}
    assert "not followed: cat/loop" in messages_of(table)


def test_links_outside_are_followed_once(tmp_path: Path) -> None:
    put(tmp_path / "pool", "1.jpg", "2.jpg")
    put(tmp_path / "data", "cat/a.jpg", "dog/a.jpg")
    os.symlink(tmp_path / "pool", tmp_path / "data" / "dog" / "more")
    os.symlink(tmp_path / "pool" / "1.jpg", tmp_path / "data" / "cat" / "one.jpg")
    table = sources.read(tmp_path / "data")
    assert [row.id for row in table.rows] == ["cat/a.jpg", "cat/one.jpg", "dog/a.jpg", "dog/more/1.jpg", "dog/more/2.jpg"]


def test_odd_names_survive(tmp_path: Path) -> None:
    names = ["with space", "猫", "emoji 🚀", 'quote"s', "new\nline", "100% #1"]
    put(tmp_path, *(f"猫 (cats)/{name}.jpg" for name in names), *(f'- dogs, "big"/{name}.JPEG' for name in names))
    table = sources.read(tmp_path)
    assert len(table.rows) == 12
    assert table.classes == ('- dogs, "big"', "猫 (cats)")
    assert all(row.path is not None and row.path.is_file() for row in table.rows)


def test_names_that_are_no_utf8_can_be_written(tmp_path: Path) -> None:
    put(tmp_path, "cat/1.jpg", "dog/1.jpg")
    os.rename(tmp_path / "cat" / "1.jpg", os.fsencode(tmp_path / "cat") + b"/\xff.jpg")
    row = sources.read(tmp_path).rows[0]
    assert row.id == "cat/\\xff.jpg"
    assert row.path is not None
    assert row.path.read_bytes() == b"x"


def test_empty_class_is_named(tmp_path: Path) -> None:
    put(tmp_path, "cat/1.jpg", "dog/1.jpg")
    (tmp_path / "triangle").mkdir()
    table = sources.read(tmp_path)
    assert table.classes == ("cat", "dog")
    assert [(f.kind, f.items) for f in table.findings] == [("empty_class", ("triangle",))]


def test_classes_that_differ_between_parts(tmp_path: Path) -> None:
    put(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "train/c/1.jpg", "val/a/1.jpg", "val/b/1.jpg", "val/new/1.jpg")
    table = sources.read(tmp_path)
    assert table.classes == ("a", "b", "c")
    assert [entry.item for entry in table.ledger] == ["val/new/1.jpg"]
    assert {f.kind: f.items for f in table.findings} == {"unknown_class": ("new",)}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["circle/1.jpg", "circle/2.jpg"], ["only one class: circle", "at least two"]),
        (["1.jpg", "2.jpg"], ["one class at most", "one folder per class", "labels.csv", "path,label"]),
        (["a/x.txt", "b/y.txt"], ["no images", "no texts", ".jpg", "two texts at least"]),
        (["a.zip"], ["no images", ".wav"]),
    ],
)
def test_folders_that_are_refused(tmp_path: Path, files: list[str], words: list[str]) -> None:
    put(tmp_path, *files)
    with pytest.raises(DataError) as error:
        sources.read(tmp_path)
    assert all(word in str(error.value) for word in [*words, str(tmp_path)])


def test_evaluation_may_have_one_class(tmp_path: Path) -> None:
    put(tmp_path, "circle/1.jpg", "circle/2.jpg")
    assert len(sources.read(tmp_path, learn=False).rows) == 2


def test_missing_path_names_the_nearest(tmp_path: Path) -> None:
    put(tmp_path, "photos/cat/1.jpg")
    with pytest.raises(DataError, match=r"Did you mean .*photos\?"):
        sources.read(tmp_path / "fotos")


@pytest.mark.parametrize(("name", "word"), [("a.zip", "Unpack"), ("a.xlsx", "CSV"), ("a.jpg", "one folder per class")])
def test_files_that_are_no_manifest(tmp_path: Path, name: str, word: str) -> None:
    put(tmp_path, name)
    with pytest.raises(DataError, match=word):
        sources.read(tmp_path / name)


def test_audio_and_text_folders(tmp_path: Path) -> None:
    put(tmp_path / "audio", "low/1.WAV", "low/2.flac", "high/1.mp3", "high/2.opus")
    put(tmp_path / "text", *(f"{c}/{i}.txt" for c in ("pos", "neg") for i in range(3)), "README.txt")
    assert sources.read(tmp_path / "audio").modality == "audio"
    table = sources.read(tmp_path / "text")
    assert (table.modality, table.classes, len(table.rows)) == ("text", ("neg", "pos"), 6)


# --- class folders beside a manifest -------------------------------------------------------------


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    rows: list[list[object]] = []
    for label in ("crack", "free"):
        for i in range(6):
            put(tmp_path, f"{label}/{i}.jpg")
            rows.append([f"{label}/{i}.jpg", label, f"t{i // 2}", 0.5 * i, "train" if i < 4 else "test"])
    table_of(tmp_path / "labels.csv", ["path", "label", "tile_group", "area", "split"], rows)
    return tmp_path


def test_folders_label_and_the_manifest_adds_columns(tiles: Path) -> None:
    table = sources.read(tiles, Columns(group="tile_group"))
    assert table.counts() == {"train": 8, "test": 4}
    assert {row.id: row.group for row in table.rows}["crack/5.jpg"] == "t2"
    assert "labels.csv names 12 of 12 files and adds group (tile_group), split (split) by path" in messages_of(table)


def test_naming_the_column_or_the_manifest_takes_its_labels(tiles: Path) -> None:
    by_column = sources.read(tiles, Columns(label="area"))
    by_manifest = sources.read(tiles / "labels.csv", Columns(label="area"))
    for table in (by_column, by_manifest):
        assert table.task == "regression"
        assert sorted({row.target for row in table.rows}) == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]  # type: ignore[type-var]
    assert sources.read(tiles / "labels.csv").classes == ("crack", "free")


def test_folder_parts_win_over_the_split_column(tiles: Path) -> None:
    put(tiles / "data", "train/a/1.jpg", "train/b/1.jpg", "val/a/2.jpg", "val/b/2.jpg")
    table_of(
        tiles / "data" / "m.csv", ["path", "split"], [[f"{p}/{c}/{i}.jpg", "test"] for p, i in (("train", 1), ("val", 2)) for c in "ab"]
    )
    table = sources.read(tiles / "data")
    assert table.counts() == {"train": 2, "val": 2}
    assert "puts 4 file(s) elsewhere" in messages_of(table)


def test_lists_of_parts_beside_class_folders(tmp_path: Path) -> None:
    names = [f"{label}/{i}.jpg" for label in ("cat", "dog") for i in range(5)]
    put(tmp_path, *names)
    table_of(tmp_path / "train.csv", ["path"], [[name] for name in names if name[4] in "012"])
    table_of(tmp_path / "test.csv", ["path"], [[name] for name in names if name[4] in "23"])
    table = sources.read(tmp_path)
    assert table.counts() == {"train": 6, "test": 2}
    assert reasons(table) == {"not_in_manifest": 2}
    assert {f.kind: f.items for f in table.findings} == {"leak": ("cat/2.jpg", "dog/2.jpg")}


def test_fresh_parts_on_request(tiles: Path) -> None:
    table = sources.read(tiles, Columns(split="new"))
    assert table.counts() == {"all": 12}


def test_group_by_pattern(tiles: Path) -> None:
    table = sources.read(tiles, Columns(group=r"/(\d)\.jpg", split="new"))
    assert {row.group for row in table.rows} == set("012345")
    for pattern, word in ((r"(\d", "no valid pattern"), (r"(\d)(\d)", "2 capture groups"), (r"(zzz)", "matches none")):
        with pytest.raises(SettingError, match=word):
            sources.read(tiles, Columns(group=pattern))


@pytest.mark.parametrize("setting", [{"group": "tile_grup"}, {"label": "aera"}, {"split": "spilt"}])
def test_wrong_column_names_are_answered(tiles: Path, setting: dict[str, str]) -> None:
    for path in (tiles, tiles / "labels.csv"):
        with pytest.raises(SettingError, match="Did you mean"):
            sources.read(path, Columns(**setting))


def test_column_names_need_a_manifest(tmp_path: Path) -> None:
    put(tmp_path, "a/1.jpg", "b/1.jpg")
    with pytest.raises(SettingError, match="no manifest"):
        sources.read(tmp_path, Columns(group="patient"))


def test_a_manifest_that_contradicts_the_folders_is_reported(tiles: Path) -> None:
    rows = [[f"{label}/{i}.jpg", "free"] for label in ("crack", "free") for i in range(6)]
    table_of(tiles / "labels.csv", ["path", "label"], [*rows])  # type: ignore[list-item]
    findings = sources.read(tiles).findings
    assert [(f.kind, len(f.items)) for f in findings] == [("label_disagreement", 6)]


# --- what is to be predicted ---------------------------------------------------------------------


def test_unlabelled_folders_and_files(tmp_path: Path) -> None:
    put(tmp_path, "b/2.jpg", "a.jpg", "c/d/e.png", "notes.txt")
    os.symlink("gone.jpg", tmp_path / "b" / "gone.jpg")
    table = sources.read_unlabelled(tmp_path, "image")
    assert [row.id for row in table.rows] == ["a.jpg", "b/2.jpg", "c/d/e.png"]
    assert table.inputs == ["a.jpg", "b/2.jpg", "b/gone.jpg", "c/d/e.png"]
    assert table.task is None
    assert [row.id for row in sources.read_unlabelled(tmp_path / "a.jpg", "image").rows] == ["a.jpg"]
    with pytest.raises(DataError, match="no sounds found"):
        sources.read_unlabelled(tmp_path, "audio")


def test_unlabelled_manifests_answer_every_row(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "b.jpg")
    path = table_of(tmp_path / "x.csv", ["file", "label"], [["a.jpg", ""], ["gone.jpg", "x"], ["b.jpg", "y"], ["a.jpg", "x"]])
    table = sources.read_unlabelled(path, "image")
    assert [row.id for row in table.rows] == ["a.jpg", "b.jpg", "a.jpg (x.csv:5)"]
    assert table.inputs == ["a.jpg", "gone.jpg", "b.jpg", "a.jpg (x.csv:5)"]
    assert [entry.item for entry in table.ledger] == ["gone.jpg"]


def test_unlabelled_texts(tmp_path: Path) -> None:
    (tmp_path / "new.txt").write_text("a first line\n\na third, with a comma\n")
    table = sources.read_unlabelled(tmp_path / "new.txt", "text")
    assert [row.text for row in table.rows] == [("a first line",), ("",), ("a third, with a comma",)]
    path = table_of(tmp_path / "new.csv", ["text"], [["a first text"], ["a second text"]])
    assert [row.text for row in sources.read_unlabelled(path, "text").rows] == [("a first text",), ("a second text",)]


# --- what is learned from without labels ---------------------------------------------------------


def test_without_labels_items_in_no_class_are_taken_and_held_out_parts_are_not_mixed_up(tmp_path: Path) -> None:
    put(
        tmp_path,
        "train/cat/1.jpg",
        "train/dog/2.jpg",
        "train/loose.jpg",
        "test/cat/3.jpg",
        "test/loose.jpg",
        "unlabeled/4.jpg",
        "demo/5.jpg",
    )
    table = sources.read_items(tmp_path, "image")
    assert {row.id: row.split for row in table.rows} == {
        "test/cat/3.jpg": "test",
        "test/loose.jpg": "test",
        "train/cat/1.jpg": "train",
        "train/dog/2.jpg": "train",
        "train/loose.jpg": "train",
        "unlabeled/4.jpg": "train",
    }
    assert [entry.item for entry in table.ledger] == ["demo/5.jpg"]
    assert sources.read(tmp_path, modality="image").counts() == {"train": 2, "test": 1}


def test_without_labels_a_folder_may_be_of_any_depth_and_what_else_it_holds_is_said(tmp_path: Path) -> None:
    put(tmp_path, "1.jpg", "a/2.jpg", "b/3.jpg", "b/c/4.jpg", "5.wav", "notes.txt")
    table = sources.read_items(tmp_path, "image")
    assert [row.id for row in table.rows] == ["1.jpg", "a/2.jpg", "b/3.jpg", "b/c/4.jpg"]
    assert not table.ledger
    put(tmp_path / "flat", "1.jpg", "2.jpg", "3.wav")
    assert "1 file(s) of other types were ignored (1 .wav)." in messages_of(sources.read_items(tmp_path / "flat", "image"))


def test_without_labels_rows_of_a_manifest_need_none_but_keep_their_part(tmp_path: Path) -> None:
    put(tmp_path, *(f"{n}.jpg" for n in range(8)))
    rows = [[f"{n}.jpg", "" if n % 4 == 3 else "ab"[n % 2], "test" if n > 5 else "train"] for n in range(8)]
    table_of(tmp_path / "list.csv", ["path", "label", "split"], rows)
    table = sources.read_items(tmp_path, "image")
    assert [(row.id, row.split) for row in table.rows] == [(f"{n}.jpg", "test" if n > 5 else "train") for n in range(8)]
    assert len(sources.read(tmp_path).rows) == 6
    table_of(tmp_path / "list.csv", ["path", "split"], [[row[0], row[2]] for row in rows])
    assert sources.read_items(tmp_path, "image").counts() == {"train": 6, "test": 2}


def test_columns_are_refused_where_there_are_none_and_empty_folders_are_nothing(tmp_path: Path) -> None:
    put(tmp_path / "flat", "1.jpg", "2.jpg")
    for columns in (Columns(label="x"), Columns(split="x"), Columns(path="x")):
        with pytest.raises(SettingError, match="has no manifest"):
            sources.read_items(tmp_path / "flat", "image", columns)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="It holds no files"):
        sources.modality_at(tmp_path / "empty")
