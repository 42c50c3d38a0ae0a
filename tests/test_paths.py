"""Where the files are that manifests name, however they are written, and where a manifest may not lead."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from pretune.errors import DataError
from pretune.sources import sources
from pretune.sources.names import variants
from pretune.sources.table import Table
from tests.data_files import messages_of, put, reasons, table_of

NAMES = [f"p{i}.jpg" for i in range(8)]


def labelled(path: Path, names: list[str], *more: list[object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return table_of(path, ["image", "label"], [*([name, "ab"[i % 2]] for i, name in enumerate(names)), *more])


def ids(table: Table) -> list[str]:
    return sorted(row.id for row in table.rows)


@pytest.mark.parametrize(
    ("disk", "written"),
    [
        ("im/P{}.JPG", "p{}.jpg"),
        ("im/P{}.JPG", r"IM\p{}.jpg"),
        ("im/my photo {}.jpg", "im/my%20photo%20{}.jpg"),
        ("im/my photo {}.jpg", "my%20photo%20{}.JPG"),
        ("im/my photo {}.jpg", "my+photo+{}.jpg"),
        ("im/a+b%20{}.jpg", "im/a+b%20{}.jpg"),
        ("Images/{}.jpg", "/home/me/data/images/{}.jpg"),
        ("im/{}.jpg", r"C:\Users\Me\data\im\{}.jpg"),
        ("im/{}.jpg", "/im/{}.jpg"),
        ("im/{}.jpg", "file:///data/im/{}.jpg"),
        ("im/p {}.jpg", "/data/local-files/?d=im/p%20{}.jpg"),
        ("pics/{}.jpg", "https://example.org/x/{}.jpg?size=large"),
        (unicodedata.normalize("NFD", "im/é{}.jpg"), unicodedata.normalize("NFC", "é{}.jpg")),
        ("deep/er/im/{}.jpg", "old/im/{}.jpg"),
        ("all/a{}", "all/a{}"),
    ],
)
def test_names_are_found_however_they_are_written(tmp_path: Path, disk: str, written: str) -> None:
    put(tmp_path, *(disk.format(i) for i in range(8)), content=b"\x89PNG\r\n\x1a\n" + bytes(16))
    table = sources.read(labelled(tmp_path / "l.csv", [written.format(i) for i in range(8)]), modality="image")
    assert ids(table) == sorted(disk.format(i) for i in range(8))
    assert {row.target for row in table.rows} == {"a", "b"}
    assert not table.ledger, "what is the rule is said once"


def test_ways_to_read_a_path() -> None:
    assert variants("./a%20b.jpg") == ["a%20b.jpg", "a b.jpg"]
    assert variants("file://localhost/x/a%20b.jpg") == ["/x/a b.jpg"]
    assert variants(r"C:\x\a.jpg") == ["C:/x/a.jpg"]
    assert variants("a+b.jpg") == ["a+b.jpg", "a b.jpg"]
    assert variants("plain.jpg") == ["plain.jpg"]


# --- several folders -----------------------------------------------------------------------------


def test_files_in_several_folders_are_found_by_their_names(tmp_path: Path) -> None:
    put(tmp_path, *(f"audio/fold{i % 4}/p{i}.jpg" for i in range(8)))
    table = sources.read(labelled(tmp_path / "meta" / "l.csv", NAMES))
    assert ids(table) == sorted(f"audio/fold{i % 4}/p{i}.jpg" for i in range(8))
    assert "found by their names, in audio/fold0/, audio/fold1/" in messages_of(table)


def test_equal_names_are_told_apart_by_the_cells_of_their_rows(tmp_path: Path) -> None:
    put(tmp_path, *(f"audio/fold{k}/{i}.jpg" for k in (1, 2, 3) for i in range(4)))
    rows: list[list[object]] = [[f"{i}.jpg", k, "ab"[i % 2]] for k in (1, 2, 3) for i in range(4)]
    table = sources.read(table_of(tmp_path / "l.csv", ["file", "fold", "label"], rows))
    assert ids(table) == sorted(f"audio/fold{k}/{i}.jpg" for k in (1, 2, 3) for i in range(4))
    parted = [[part, f"{i}.jpg", "ab"[i % 2]] for part in ("train", "test") for i in range(4)]
    put(tmp_path / "p", *(f"{part}/{i}.jpg" for part in ("train", "test") for i in range(4)))
    table = sources.read(table_of(tmp_path / "p" / "l.csv", ["split", "file", "label"], parted))  # type: ignore[arg-type]
    assert {(row.id.split("/")[0], row.split) for row in table.rows} == {("train", "train"), ("test", "test")}
    assert len(table.rows) == 8


def test_equal_names_that_nothing_tells_apart_are_refused(tmp_path: Path) -> None:
    put(tmp_path, *(f"{folder}/{name}" for folder in ("first", "second") for name in NAMES))
    with pytest.raises(DataError, match=r"8 of 8 names stand for several files each.*first/p0.jpg, second/p0.jpg.*Write the folder"):
        sources.read(labelled(tmp_path / "l.csv", NAMES))
    for name in NAMES:
        (tmp_path / "second" / name).rename(tmp_path / "second" / f"mask_{name}")
    assert ids(sources.read(labelled(tmp_path / "l.csv", NAMES))) == [f"first/{name}" for name in NAMES]


def test_each_list_finds_the_files_of_its_own_part(tmp_path: Path) -> None:
    put(tmp_path, *(f"train/{i}.jpg" for i in range(12)), *(f"test/{i}.jpg" for i in range(4)))
    labelled(tmp_path / "train.csv", [f"{i}.jpg" for i in range(12)])
    labelled(tmp_path / "test.csv", [f"{i}.jpg" for i in range(4)])
    table = sources.read(tmp_path)
    assert {(row.id.split("/")[0], row.split) for row in table.rows} == {("train", "train"), ("test", "test")}
    assert (table.counts()["train"], table.counts()["test"]) == (12, 4)


# --- beside and above ----------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["meta", "csv_files", "meta/lists"])
def test_files_beside_a_folder_of_tables_are_found(tmp_path: Path, folder: str) -> None:
    put(tmp_path / "d", *(f"audio/{name}" for name in NAMES))
    table = sources.read(labelled(tmp_path / "d" / folder / "l.csv", NAMES))
    assert ids(table) == [f"audio/{name}" for name in NAMES]
    assert f"found below {tmp_path / 'd'}." in messages_of(table)


def test_files_beside_any_other_folder_are_a_hint_and_the_cure_works(tmp_path: Path) -> None:
    put(tmp_path / "d", *(f"audio/{name}" for name in NAMES))
    path = labelled(tmp_path / "d" / "mine" / "l.csv", NAMES)
    with pytest.raises(DataError, match=f"files of these names below {tmp_path / 'd'}: give that folder"):
        sources.read(path)
    assert ids(sources.read(tmp_path / "d")) == [f"audio/{name}" for name in NAMES]


def test_paths_with_dots_are_those_of_the_manifests_folder(tmp_path: Path) -> None:
    put(tmp_path / "d", *(f"images/{name}" for name in NAMES))
    path = labelled(tmp_path / "d" / "lists" / "l.csv", [f"../images/{name}" for name in NAMES])
    assert ids(sources.read(path)) == NAMES
    assert ids(sources.read(tmp_path / "d")) == [f"images/{name}" for name in NAMES]


# --- leaving the data folder ---------------------------------------------------------------------


def test_a_single_path_that_leaves_the_data_folder_is_dropped(tmp_path: Path) -> None:
    put(tmp_path, "secret.jpg", "other/secret.jpg", *(f"d/{name}" for name in NAMES))
    lead = os.path.relpath("/etc/hostname", tmp_path / "d")
    strays: list[list[object]] = [[str(tmp_path / "secret.jpg"), "a"], ["../other/secret.jpg", "b"], ["/etc/hostname", "a"], [lead, "b"]]
    table = sources.read(labelled(tmp_path / "d" / "l.csv", NAMES, *strays))
    assert ids(table) == NAMES
    assert reasons(table) == {"outside_root": 4}
    put(tmp_path, "x/q1.jpg", "x/q2.jpg")
    together: list[list[object]] = [[str(tmp_path / "x" / "q1.jpg"), "a"], ["../x/q2.jpg", "b"]]
    table = sources.read(labelled(tmp_path / "d" / "l.csv", NAMES, *together))
    assert (ids(table), reasons(table)) == (NAMES, {"outside_root": 2})


def test_where_most_paths_leave_they_are_followed_to_one_folder_and_no_further(tmp_path: Path) -> None:
    put(tmp_path, "secret.jpg", *(f"photos/{name}" for name in NAMES))
    strays: list[list[object]] = [[str(tmp_path / "secret.jpg"), "a"]]
    names = [str(tmp_path / "photos" / name) for name in NAMES] * 2
    table = sources.read(labelled(tmp_path / "d" / "l.csv", names, *strays))
    assert ids(table) == NAMES
    assert f"below {tmp_path / 'photos'}." in messages_of(table)
    assert reasons(table)["outside_root"] == 1


@pytest.mark.parametrize("folder", ["/etc", "/proc/self", os.path.expanduser("~")])
def test_folders_of_the_system_are_never_followed(tmp_path: Path, folder: str) -> None:
    from pretune.sources.outside import above, common_folder

    assert common_folder([f"{folder}/{name}" for name in NAMES]) is None
    assert above(Path(folder) / "x") is None
    assert common_folder(["/a/1.jpg", "/b/2.jpg"]) is None, "nor the top of the file system"
    assert common_folder([*(f"/data/x/{name}" for name in NAMES * 3), "/etc/hostname"]) == Path("/data/x")
