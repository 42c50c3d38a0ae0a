"""Pipes, sockets, devices, the kernel's folders and archives are named and never opened; files are what their bytes say."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from pretune import config
from pretune.corpus import corpus
from pretune.errors import DataError, SettingError
from pretune.modalities.image import Image
from pretune.sources import sources
from pretune.sources.special import archive_of, unpacking
from pretune.sources.table import Columns
from pretune.sources.tree import walk
from pretune.storage.cache import Cache
from pretune.storage.ingest import ingest
from pretune.types import Row
from tests.data_files import put


def _photos(root: Path) -> Path:
    put(root, "cat/1.jpg", "cat/2.jpg", "dog/1.jpg", "dog/2.jpg")
    return root


READERS = {
    "labelled": lambda path: sources.read(path),
    "items": lambda path: sources.read_items(path, "image"),
    "unlabelled": lambda path: sources.read_unlabelled(path, "image"),
    "modality": lambda path: sources.modality_at(path),
    "corpus": lambda path: corpus.read_corpus(path, Columns(), validation_fraction=0.1, seed=0),
}


@pytest.mark.parametrize("name", ["pipe", "pipe.csv", "pipe.jpg", "pipe.txt"])
@pytest.mark.parametrize("reader", READERS)
def test_a_pipe_given_as_data_is_refused_and_not_opened(reader: str, name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)  # opening it would wait for ever
    with pytest.raises(DataError, match=r"named pipe.*into a file and name that"):
        READERS[reader](tmp_path / name)


def test_a_pipe_given_as_a_recipe_is_refused_and_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "recipe.toml")
    with pytest.raises(SettingError, match="is not a regular file"):
        config.read_toml(tmp_path / "recipe.toml")


@pytest.mark.parametrize("reader", READERS)
def test_devices_sockets_and_the_kernels_folders_are_refused(reader: str, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.jpg"))
        with pytest.raises(DataError, match="is a socket"):
            READERS[reader](tmp_path / "s.jpg")
    (tmp_path / "link.csv").symlink_to("/dev/zero")
    for path in (Path("/dev/zero"), tmp_path / "link.csv"):
        with pytest.raises(DataError, match=r"is a device.*not opened"):
            READERS[reader](path)
    if Path("/proc/self").exists():
        with pytest.raises(DataError, match="kernel's own file systems"):
            READERS[reader](Path("/proc"))


def test_special_files_among_the_data_are_named(tmp_path: Path) -> None:
    root = _photos(tmp_path / "data")
    os.mkfifo(root / "cat" / "3.jpg")
    os.mkfifo(root / "dog" / "fifo")
    (root / "dog" / "endless.jpg").symlink_to("/dev/zero")
    (root / "dog" / "system").symlink_to("/proc/self")
    table = sources.read(root)
    assert len(table.rows) == 4
    told = {entry.item: entry.detail for entry in table.ledger if entry.reason == "special_file"}
    assert told == {
        "cat/3.jpg": "is a named pipe (FIFO), not a file; it was not opened",
        "dog/fifo": "is a named pipe (FIFO), not a file; it was not opened",
        "dog/endless.jpg": "is a device, not a file; it was not opened",
    }
    assert any("3 pipe(s), socket(s) or device(s) were not opened: cat/3.jpg" in line for line in table.messages)
    if Path("/proc/self").exists():
        assert any("1 folder(s) belong to the kernel's own file systems and were not read: dog/system." in line for line in table.messages)
    assert "dog/endless.jpg" in sources.read_unlabelled(root, "image").inputs, "predict answers for it"
    put(tmp_path, "listed.csv", content=b"path,label\ndata/cat/1.jpg,a\ndata/dog/1.jpg,b\ndata/cat/3.jpg,a\ndata/dog,b\n")
    told = {entry.detail.partition(" names ")[2] for entry in sources.read(tmp_path / "listed.csv").ledger}
    assert told == {"data/cat/3.jpg, which is a named pipe (FIFO), not a file", "data/dog, which is a folder, not a file"}


def test_links_in_circles_out_of_the_folder_and_to_nowhere_are_said(tmp_path: Path) -> None:
    root = _photos(tmp_path / "data")
    put(tmp_path / "elsewhere", "4.jpg")
    (root / "cat" / "up").symlink_to(root)
    (root / "cat" / "more").symlink_to(tmp_path / "elsewhere")
    (root / "a.jpg").symlink_to(root / "b.jpg")
    (root / "b.jpg").symlink_to(root / "a.jpg")
    (root / "bird").symlink_to(tmp_path / "unplugged" / "bird")
    table = sources.read(root)
    assert sorted(row.id for row in table.rows) == ["cat/1.jpg", "cat/2.jpg", "cat/more/4.jpg", "dog/1.jpg", "dog/2.jpg"]
    message = " ".join(table.messages)
    assert "1 folder link(s) lead out of the folder and were followed: cat/more." in message
    assert "were not followed: cat/up." in message
    assert "1 link(s) lead nowhere: bird." in message
    assert {entry.item for entry in table.ledger if entry.reason == "broken_link"} == {"a.jpg", "b.jpg"}


def test_what_may_not_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = _photos(tmp_path)
    scandir = os.scandir

    def closed(path: object) -> object:
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(str(path))

    monkeypatch.setattr(os, "scandir", closed)
    assert [(entry.item, entry.reason) for entry in walk(root).ledger("image")] == [("dog", "no_permission")]
    monkeypatch.setattr(os, "scandir", lambda path: closed("dog"))
    with pytest.raises(DataError, match=r"1 folder\(s\) cannot be read"):
        sources.read(root)
    with pytest.raises(DataError, match="cannot be reached: File name too long"):
        sources.read(tmp_path / ("x" * 5000))


# --- archives ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["d.zip", "d.tar", "d.tar.gz", "d.tgz", "download", "it's here.zip"])
@pytest.mark.parametrize("reader", READERS)
def test_archives_are_refused_with_the_command_that_unpacks_them(reader: str, name: str, tmp_path: Path) -> None:
    _photos(tmp_path / "photos")
    path = tmp_path / name
    if ".t" in name:
        with tarfile.open(path, "w:gz") if name.endswith("gz") else tarfile.open(path, "w") as tar:
            tar.add(tmp_path / "photos", "photos")
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(tmp_path / "photos" / "cat" / "1.jpg", "photos/cat/1.jpg")
    with pytest.raises(DataError, match="is an archive") as caught:
        READERS[reader](path)
    command = str(caught.value).rpartition("what was in it: ")[2]
    if shutil.which(command.split()[0]) and reader == "labelled":
        subprocess.run(command, shell=True, check=True, capture_output=True)  # the command works as it is written
        assert len(list(tmp_path.rglob("1.jpg"))) > 2


def test_an_archive_in_a_folder_without_data_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("a", "b")
    with pytest.raises(DataError, match=r"unpack it first: unzip .*photos\.zip"):
        sources.read(tmp_path)
    assert unpacking(Path("a.tar.xz"), ".xz") == "mkdir a && tar -xf a.tar.xz -C a"
    put(tmp_path, "a.csv")
    assert archive_of(tmp_path / "a.csv") is None


# --- files without a file extension --------------------------------------------------------------------


def test_without_a_file_extension_the_bytes_tell(tmp_path: Path) -> None:
    for name in ("cat/img_1", "cat/img_2", "dog/0001", "dog/frame.0002"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n and so on")
    (tmp_path / "dog" / "README").write_text("about the dogs")
    (tmp_path / "dog" / "data").write_bytes(bytes(range(256)))
    table = sources.read(tmp_path)
    assert (table.modality, len(table.rows)) == ("image", 4)
    assert sources.read_unlabelled(tmp_path / "cat" / "img_1", "image").inputs == ["img_1"]
    assert sources.modality_at(tmp_path / "cat" / "img_1") == "image"


def test_texts_without_a_file_extension(tmp_path: Path) -> None:
    for name in ("sci.space/51121", "sci.space/51122", "rec.autos/101551", "rec.autos/101552"):  # as 20 Newsgroups come
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(f"From: somebody\nSubject: {name}\n\ncaf\xe9\n".encode("latin-1"))
    (tmp_path / "README").write_text("about it")
    table = sources.read(tmp_path)
    assert (table.modality, len(table.rows)) == ("text", 4)
    assert sorted({row.target for row in table.rows}) == ["rec.autos", "sci.space"]


def test_a_file_of_an_impossible_size_is_in_the_ledger_unread(tmp_path: Path) -> None:
    with (tmp_path / "a.jpg").open("wb") as file:
        file.truncate(3 << 40)  # a sparse file: three terabytes that take no room
    done = ingest([Row(id="a.jpg", path=tmp_path / "a.jpg")], Image(), Cache.bounded(tmp_path / "cache", None), threads=1)
    assert [(entry.reason, entry.detail[:14]) for entry in done.ledger] == [("too_large", "has 3,298.5 GB")]
