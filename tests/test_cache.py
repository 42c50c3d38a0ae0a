"""The cache is shared, bounded, and never wrong; ingest decodes once and its ledger is always complete."""

from __future__ import annotations

import errno
import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pretune.data.cache import Cache
from pretune.data.ingest import Ingested, ingest
from pretune.data.store import NoRoom, Store, StoreWriter
from pretune.data.streaming import StreamingStore
from pretune.errors import BadItem, DataError
from pretune.types import Decoded, Row

FORK = multiprocessing.get_context("fork")


def in_another_process(work: Callable[[], object]) -> None:
    """Run something in a process of its own; what it uses is free again afterwards."""
    process = FORK.Process(target=work)
    process.start()
    process.join(30)
    assert process.exitcode == 0


def file_of(nbytes: int) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(b"x" * nbytes)


def test_an_entry_is_made_once(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    made: list[Path] = []

    def make(path: Path) -> None:
        made.append(path)
        path.write_text("content")

    first = cache.build("kind", "key", make)
    assert cache.build("kind", "key", make) == first
    assert first.read_text() == "content"
    assert len(made) == 1
    assert made[0] != first


def test_a_maker_that_fails_leaves_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def fail(path: Path) -> None:
        StoreWriter(path).append(np.zeros(3, np.uint8), {})
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        cache.build("kind", "key", fail)
    assert list((tmp_path / "kind").iterdir()) == []


def test_a_damaged_store_is_made_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def make(path: Path) -> None:
        writer = StoreWriter(path)
        writer.append(np.arange(100, dtype=np.int32), {})
        writer.close()

    path = cache.build("kind", "key", make)
    (path / "data.bin").write_bytes((path / "data.bin").read_bytes()[:200])
    assert Store.open(cache.build("kind", "key", make))[0].tolist() == list(range(100))


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    left = tmp_path / "kind" / ".key.building"
    left.mkdir(parents=True)
    (left / "data.bin").write_bytes(b"half")
    cache.build("kind", "key", file_of(10))
    assert [path.name for path in (tmp_path / "kind").iterdir()] == ["key"]


def test_two_processes_make_an_entry_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("")

    def work() -> None:
        def make(path: Path) -> None:
            with log.open("a") as file:
                file.write("made\n")
            time.sleep(0.3)
            path.write_bytes(b"x" * 1000)

        assert Cache(tmp_path / "cache").build("kind", "key", make).stat().st_size == 1000

    processes = [FORK.Process(target=work) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert log.read_text() == "made\n"


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    def work() -> None:
        cache = Cache(tmp_path)
        for number, key in enumerate(("a", "b", "c")):
            cache.build("kind", key, file_of(1000))
            os.utime(tmp_path / "kind" / key, (1000 + number, 1000 + number))
        cache.build("kind", "a", file_of(1000))  # used again just now

    in_another_process(work)
    cache = Cache(tmp_path, limit=3500)
    cache.build("kind", "d", file_of(1000))
    assert [entry.key for entry in cache.entries()] == ["c", "a", "d"]
    assert [entry.bytes for entry in cache.entries()] == [1000, 1000, 1000]


def test_what_is_in_use_stays_here_and_elsewhere(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit=1500)
    cache.build("kind", "mine", file_of(1000))

    def elsewhere() -> None:
        other = Cache(tmp_path, limit=1500)
        other.build("kind", "theirs", file_of(1000))
        assert {entry.key for entry in other.entries()} == {"mine", "theirs"}

    in_another_process(elsewhere)
    assert [entry.key for entry in cache.clear()] == ["theirs"]
    assert [entry.key for entry in cache.entries()] == ["mine"]


def test_admit_makes_room_or_says_that_there_is_none(tmp_path: Path) -> None:
    in_another_process(lambda: [Cache(tmp_path).build("kind", key, file_of(1000)) for key in "ab"])
    cache = Cache(tmp_path, limit=2500)
    cache.admit(400)
    assert len(cache.entries()) == 2
    with pytest.raises(NoRoom, match="cache_size"):
        cache.admit(2600)
    assert len(cache.entries()) == 2
    cache.admit(1600)
    assert len(cache.entries()) == 0


def test_no_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path)

    def full(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(NoRoom, match="full"):
        cache.build("kind", "key", full)
    assert cache.entries() == []
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"total": 10**12, "free": 10**8})())
    with pytest.raises(NoRoom, match=r"0\.1 GB left"):
        cache.admit(10)


def test_the_root_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRETUNE_CACHE", str(tmp_path / "here"))
    assert Cache().root == tmp_path / "here"


# --- ingest --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Letters:
    """A modality whose items are the codes of letters; counts what it decodes."""

    unit = "word"
    decoded: list[bytes | tuple[str, ...]]
    version: int = 1

    def working(self) -> dict[str, Any]:
        return {"modality": "letters", "version": self.version}

    def decode(self, raw: bytes | tuple[str, ...]) -> Decoded:
        self.decoded.append(raw)
        text = raw.decode() if isinstance(raw, bytes) else " ".join(raw)
        if "bad" in text:
            raise BadItem("bad", f"is a bad word of {len(text)} letters")
        if "bug" in text:
            raise ZeroDivisionError
        return Decoded(array=np.array([ord(c) for c in text], np.int32), info={"letters": len(text)})


def rows_of(folder: Path, words: list[str]) -> list[Row]:
    folder.mkdir(exist_ok=True)
    rows = []
    for number, word in enumerate(words):
        path = folder / f"{number}.txt"
        path.write_text(word)
        rows.append(Row(id=path.name, path=path, target="a"))
    return rows


def run(rows: list[Row], cache: Cache, **options: Any) -> tuple[Ingested, Letters]:
    modality = Letters(decoded=[], **options)
    return ingest(rows, modality, cache, threads=2), modality  # type: ignore[arg-type]


WORDS = ["one", "bad", "three", "", "bad too", "sixth", "one"]


def test_everything_is_decoded_once_and_in_order(tmp_path: Path) -> None:
    rows = [*rows_of(tmp_path / "data", WORDS), Row(id="gone", path=tmp_path / "gone.txt")]
    rows.insert(2, Row(id="folder", path=tmp_path))
    cache = Cache(tmp_path / "cache")
    first, modality = run(rows, cache)
    again, idle = run(rows, cache)
    assert (first.hit, again.hit) == (False, True)
    assert (len(modality.decoded), len(idle.decoded)) == (7, 0)
    for done in (first, again):
        assert ["".join(map(chr, done.store[i])) for i in range(len(done.store))] == ["one", "three", "", "sixth", "one"]
        assert [row.id for row in done.rows] == ["0.txt", "2.txt", "3.txt", "5.txt", "6.txt"]
        assert [(e.item, e.reason) for e in done.ledger] == [
            ("1.txt", "bad"),
            ("folder", "unreadable"),
            ("4.txt", "bad"),
            ("gone", "missing_file"),
        ]
        assert done.ledger[0].detail == "is a bad word of 3 letters"
        assert done.hashes[0] == done.hashes[4] != done.hashes[1]
        assert [info["letters"] for info in done.store.infos] == [3, 5, 0, 5, 3]
        assert done.notes == []


def test_content_and_settings_make_the_key_names_do_not(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    run(rows_of(tmp_path / "a", WORDS), cache)
    assert run(rows_of(tmp_path / "b", WORDS), cache)[0].hit
    assert not run(rows_of(tmp_path / "b", WORDS), cache, version=2)[0].hit
    assert not run(rows_of(tmp_path / "b", ["One", *WORDS[1:]]), cache)[0].hit
    assert not run(rows_of(tmp_path / "a", WORDS)[::-1], cache)[0].hit


def test_inline_text_is_hashed_like_a_file_of_it(tmp_path: Path) -> None:
    file = rows_of(tmp_path / "data", ["naïve"])
    inline = [Row(id="csv:1", text=("naïve",)), Row(id="csv:2", text=("na", "ïve")), Row(id="csv:3", text=("naïve", ""))]
    from_file, _ = run(file, Cache(tmp_path / "cache"))
    from_text, _ = run(inline, Cache(tmp_path / "cache"))
    assert from_file.hashes[0] == from_text.hashes[0]
    assert len(set(from_text.hashes)) == 3


def test_progress_counts_to_the_end(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    ingest(
        rows_of(tmp_path / "d", ["word"] * 30),
        Letters(decoded=[]),
        Cache(tmp_path / "c"),
        threads=1,
        progress=lambda i, n: seen.append((i, n)),
    )  # type: ignore[arg-type]
    assert seen[-1] == (30, 30)
    assert [i for i, _ in seen] == sorted({i for i, _ in seen})


@pytest.mark.parametrize("count", [20, 600])
def test_data_beyond_the_budget_are_streamed_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr("pretune.data.store._ASK_EVERY", 100)
    rows = rows_of(tmp_path / "data", [f"word {n}" if n != 7 else "bad" for n in range(count)])
    done, modality = run(rows, Cache(tmp_path / "cache", limit=300 if count == 20 else 10_000))
    assert isinstance(done.store, StreamingStore)
    assert "do not fit" in done.notes[0]
    assert "decoded again" in done.notes[0]
    assert len(modality.decoded) == count  # once: finding out that there is no room repeats nothing
    assert "".join(map(chr, done.store[7])) == "word 8"
    assert done.store.lengths[7] == 6
    assert done.store.infos[7] == {"letters": 6}
    assert [entry.item for entry in done.ledger] == ["7.txt"]
    assert len(done.rows) == len(done.store) == count - 1
    assert list((tmp_path / "cache" / "decoded").iterdir()) == []


def test_a_disk_that_is_full_while_items_are_buffered_streams_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def on_a_full_disk(path: Path, *how: Any, **more: Any) -> Any:
        return open("/dev/full", "wb", buffering=100) if path.name == "data.bin" else opened(path, *how, **more)

    monkeypatch.setattr(Path, "open", on_a_full_disk)
    done, modality = run(rows_of(tmp_path / "data", [f"word {n}" for n in range(40)]), Cache(tmp_path / "cache"))
    assert isinstance(done.store, StreamingStore)
    assert len(done.store.infos) == len(done.rows) == len(modality.decoded) == 40


def unusable(folder: Path) -> Cache:
    """A cache whose folder is a file."""
    (folder / "file").write_text("")
    return Cache(folder / "file")


def test_a_root_that_cannot_be_written_streams_too(tmp_path: Path) -> None:
    done, _ = run(rows_of(tmp_path / "data", WORDS), unusable(tmp_path))
    assert isinstance(done.store, StreamingStore)
    assert len(done.rows) == 5
    assert "cannot be used" in done.notes[0]


def test_streamed_data_that_change_are_an_error(tmp_path: Path) -> None:
    rows = rows_of(tmp_path / "data", ["three", "four"])
    store, _ = run(rows, unusable(tmp_path))
    (tmp_path / "data" / "0.txt").write_text("another")
    with pytest.raises(DataError, match=r"0\.txt has changed"):
        store.store[0]
    (tmp_path / "data" / "1.txt").unlink()
    with pytest.raises(DataError, match=r"1\.txt could be read before"):
        store.store[1]


def test_a_file_that_changes_between_hash_and_decode_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pretune.data import ingest as module

    original = module._hash_all

    def hash_then_change(rows: list[Row], threads: int) -> Any:
        found = original(rows, threads)
        (tmp_path / "data" / "0.txt").write_text("a longer text")
        return found

    monkeypatch.setattr(module, "_hash_all", hash_then_change)
    with pytest.raises(DataError, match=r"0\.txt changed"):
        run(rows_of(tmp_path / "data", WORDS), Cache(tmp_path / "cache"))


def test_a_bug_in_a_decoder_is_not_a_bad_item(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        run(rows_of(tmp_path / "data", ["fine", "bug"]), Cache(tmp_path / "cache"))
    assert caught.value.__notes__ == ["while decoding 1.txt"]
    assert list((tmp_path / "cache" / "decoded").iterdir()) == []


def test_two_processes_ingest_the_same_data(tmp_path: Path) -> None:
    rows = rows_of(tmp_path / "data", [f"w{i}" for i in range(50)])

    def work() -> None:
        done, _ = run(rows, Cache(tmp_path / "cache"))
        assert ["".join(map(chr, done.store[i])) for i in range(50)] == [f"w{i}" for i in range(50)]

    processes = [FORK.Process(target=work) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0]
    assert run(rows, Cache(tmp_path / "cache"))[0].hit


def test_rows_without_content_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither"):
        run([replace(rows_of(tmp_path / "d", ["x"])[0], path=None)], Cache(tmp_path / "c"))
