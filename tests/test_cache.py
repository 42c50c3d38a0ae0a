"""The cache is shared, bounded, and never wrong; ingest decodes once and its ledger is always complete."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pretune.errors import BadItem, DataError
from pretune.storage.cache import Cache
from pretune.storage.ingest import Ingested, ingest
from pretune.storage.store import NoRoom, Store, StoreWriter
from pretune.storage.streaming import KeptStore, StreamingStore
from pretune.types import Decoded, Row

FORK = multiprocessing.get_context("fork")


def in_another_process(work: Callable[[], object]) -> None:
    """Run something in a process of its own; what it uses is free again afterwards."""
    process = FORK.Process(target=work)
    process.start()
    process.join(30)
    assert process.exitcode == 0


def store_of(nbytes: int, value: int = 1) -> Callable[[Path], Store]:
    """Return what makes an entry of so many bytes, and an index of about a thousand."""

    def make(path: Path) -> Store:
        writer = StoreWriter(path)
        writer.append(np.full(nbytes, value, np.uint8), {})
        return writer.close()

    return make


def hearing(cache: Cache) -> list[str]:
    """Return the list of what the cache will say."""
    messages: list[str] = []
    cache.warn = messages.append
    return messages


def test_an_entry_is_made_once(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    made: list[Path] = []

    def make(path: Path) -> None:
        made.append(path)
        store_of(10, 7)(path)

    first = cache.build("kind", "key", make)
    assert cache.build("kind", "key", make).path == first.path == tmp_path / "kind" / "key"
    assert first[0].tolist() == [7] * 10
    assert len(made) == 1
    assert made[0] != first.path


def test_a_maker_that_fails_leaves_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def fail(path: Path) -> None:
        StoreWriter(path).append(np.zeros(3, np.uint8), {})
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        cache.build("kind", "key", fail)
    assert list((tmp_path / "kind").iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "flipped", "index", "missing", "file", "swapped"])
def test_a_damaged_entry_is_made_again_with_a_word(tmp_path: Path, damage: str) -> None:
    cache = Cache(tmp_path)
    messages = hearing(cache)
    path = cache.build("kind", "key", store_of(3_000_000)).path
    other = cache.build("kind", "other", store_of(3_000_000, 2)).path
    data, index = path / "data.bin", path / "index.npz"
    if damage == "cut":
        data.write_bytes(data.read_bytes()[:200])
    elif damage in ("flipped", "index"):
        file = data if damage == "flipped" else index
        raw = bytearray(file.read_bytes())
        raw[-5] ^= 1
        file.write_bytes(raw)
    elif damage == "missing":
        data.unlink()
    elif damage == "file":
        shutil.rmtree(path)
        path.write_text("not a folder")
    else:  # another entry's features under this entry's name
        shutil.rmtree(path)
        shutil.copytree(other, path)
    assert messages == []
    assert set(cache.build("kind", "key", store_of(3_000_000))[0]) == {1}
    assert len(messages) == 1
    assert "kind/key" in messages[0]
    assert "built again" in messages[0]
    assert cache.build("kind", "key", store_of(3_000_000)).path == path
    assert len(messages) == 1, "what was built again is whole"


def test_a_large_entry_is_verified_as_it_is_read_where_that_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pretune.storage.cache.AT_ONCE", 1000)
    cache = Cache(tmp_path)
    messages = hearing(cache)
    data = cache.build("kind", "key", store_of(2000)).path / "data.bin"
    data.write_bytes(b"\0" + data.read_bytes()[1:])
    assert len(cache.build("kind", "key", store_of(2000), as_read=True)) == 1
    assert messages == []
    assert cache.build("kind", "key", store_of(2000))[0][0] == 1
    assert len(messages) == 1


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    left = tmp_path / "kind" / ".key.building"
    left.mkdir(parents=True)
    (left / "data.bin").write_bytes(b"half")
    cache.build("kind", "key", store_of(10))
    assert [path.name for path in (tmp_path / "kind").iterdir()] == ["key"]


def test_what_killed_processes_left_goes_when_a_cache_is_opened_and_what_is_in_use_stays(tmp_path: Path) -> None:
    dead, alive = tmp_path / "kind" / ".dead.building", tmp_path / "kind" / ".alive.building"
    for left in (dead, dead.with_name(".dead.building.0a1b2c3d"), alive):
        left.mkdir(parents=True)
        (left / "data.bin").write_bytes(b"half")
    hidden = tmp_path / "kind" / ".mine"
    hidden.write_text("a person's")
    with Cache(tmp_path)._alone(alive.with_name("alive")):
        in_another_process(lambda: Cache.bounded(tmp_path))
        assert sorted(path.name for path in (tmp_path / "kind").iterdir()) == [".alive.building", ".mine"]
    in_another_process(lambda: Cache.bounded(tmp_path))
    assert [path.name for path in (tmp_path / "kind").iterdir()] == [".mine"]
    assert list((tmp_path / "locks").iterdir()) == [], "locks of what is gone go too"


def test_whoever_finds_an_entry_being_built_says_that_it_waits(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    messages = hearing(cache)
    entry = tmp_path / "kind" / "key"
    held = cache._locked(entry, "build", fcntl.LOCK_EX)
    looks = iter([None, None])

    def pause() -> None:
        if next(looks, "over") == "over":
            held.close()

    cache.pause = pause
    assert len(cache.build("kind", "key", store_of(10))) == 1
    assert messages == ["cache: waiting for another process that is building kind/key"]

    def stop() -> None:
        raise KeyboardInterrupt

    held = cache._locked(entry, "build", fcntl.LOCK_EX)
    cache.pause = stop
    with pytest.raises(KeyboardInterrupt):
        cache.build("kind", "key", store_of(10))
    held.close()


def test_folders_that_the_cache_did_not_make_are_neither_shown_nor_cleared(tmp_path: Path) -> None:
    theirs = tmp_path / "photos" / "2024"
    theirs.mkdir(parents=True)
    (theirs / "cat.jpg").write_bytes(b"x" * 5000)
    in_another_process(lambda: Cache(tmp_path).build("kind", "key", store_of(1000)))
    cache = Cache(tmp_path, limit=10)
    assert [entry.key for entry in cache.entries()] == ["key"]
    assert [entry.key for entry in cache.clear()] == ["key"]
    assert (theirs / "cat.jpg").exists()


def test_two_processes_make_an_entry_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("")

    def work() -> None:
        def make(path: Path) -> None:
            with log.open("a") as file:
                file.write("made\n")
            time.sleep(0.3)
            store_of(1000)(path)

        assert Cache(tmp_path / "cache").build("kind", "key", make).nbytes == 1000

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
            cache.build("kind", key, store_of(100_000))
            os.utime(tmp_path / "kind" / key, (1000 + number, 1000 + number))
        cache.build("kind", "a", store_of(100_000))  # used again just now

    in_another_process(work)
    cache = Cache(tmp_path, limit=350_000)
    cache.build("kind", "d", store_of(100_000))
    assert [entry.key for entry in cache.entries()] == ["c", "a", "d"]
    size = sum(file.stat().st_size for file in (tmp_path / "kind" / "d").iterdir())
    assert [entry.bytes for entry in cache.entries()] == [size, size, size]


def test_what_is_in_use_stays_here_and_elsewhere(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit=150_000)
    cache.build("kind", "mine", store_of(100_000))

    def elsewhere() -> None:
        other = Cache(tmp_path, limit=150_000)
        other.build("kind", "theirs", store_of(100_000))
        assert {entry.key for entry in other.entries()} == {"mine", "theirs"}

    in_another_process(elsewhere)
    assert [entry.key for entry in cache.clear()] == ["theirs"]
    assert [entry.key for entry in cache.entries()] == ["mine"]


def test_admit_makes_room_or_says_that_there_is_none(tmp_path: Path) -> None:
    in_another_process(lambda: [Cache(tmp_path).build("kind", key, store_of(100_000)) for key in "ab"])
    cache = Cache(tmp_path, limit=250_000)
    cache.admit(40_000)
    assert len(cache.entries()) == 2
    with pytest.raises(NoRoom, match="cache_size"):
        cache.admit(260_000)
    assert len(cache.entries()) == 2
    cache.admit(160_000)
    assert len(cache.entries()) == 0


def test_no_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path)

    def full(path: Path) -> None:
        path.mkdir()
        (path / "data.bin").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(NoRoom, match="full"):
        cache.build("kind", "key", full)
    assert cache.entries() == []
    assert list((tmp_path / "kind").iterdir()) == []
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"total": 10**12, "free": 10**8})())
    with pytest.raises(NoRoom, match=r"0\.1 GB left"):
        cache.admit(10)


def test_the_root_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRETUNE_CACHE", str(tmp_path / "here"))
    assert Cache().root == tmp_path / "here"


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    from pretune.cli import main

    assert main(["cache", *words]) == 0
    return capsys.readouterr().out


def test_the_verb_shows_what_is_damaged_and_half_built_and_clears_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRETUNE_CACHE", str(tmp_path))
    in_another_process(lambda: [Cache(tmp_path).build("features", key, store_of(2_000_000)) for key in ("good", "bad", "cut")])
    data = tmp_path / "features" / "bad" / "data.bin"
    data.write_bytes(data.read_bytes()[:-1] + b"\0")
    (tmp_path / "features" / "cut" / "index.npz").write_bytes(b"")
    for used, key in enumerate(("good", "bad", "cut")):
        os.utime(tmp_path / "features" / key, (used, used))
    (tmp_path / "tokens" / ".dead.building").mkdir(parents=True)
    (tmp_path / "stray").write_text("a person's")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    told = shown(capsys)
    assert [line.split()[:2] + line.split()[4:] for line in told.splitlines()[:4]] == [
        ["features", "good"],
        ["features", "bad", "damaged"],
        ["features", "cut", "damaged"],
        ["tokens", "dead", "half-built"],
    ]
    assert "built again" in told
    told = shown(capsys, "clear", f"cache={tmp_path}")
    assert "removed" in told
    assert "in 4 entries" in told
    assert list(tmp_path.glob("*/*")) == []
    assert (tmp_path / "stray").exists()
    assert "in 0 entries" in shown(capsys)


def test_the_verb_survives_a_folder_that_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pretune.cli import main

    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PRETUNE_CACHE", str(tmp_path / "file"))
    for words in (["cache"], ["cache", "clear"]):
        assert main(words) == 2
        assert "is not a folder" in capsys.readouterr().err
    assert main(["cache", "chace=x"]) == 2
    assert "Did you mean 'cache'" in capsys.readouterr().err


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
    monkeypatch.setattr("pretune.storage.store._ASK_EVERY", 100)
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


def test_items_in_a_damaged_block_are_decoded_again_and_the_entry_the_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pretune.storage.cache.AT_ONCE", 0)
    monkeypatch.setattr("pretune.storage.store.BLOCK", 64)
    rows = rows_of(tmp_path / "data", [f"word {n}" for n in range(40)])
    first, _ = run(rows, Cache(tmp_path / "cache"))
    assert isinstance(first.store, KeptStore)
    data = first.store.kept.path / "data.bin"
    raw = bytearray(data.read_bytes())
    raw[100] ^= 1
    data.write_bytes(raw)
    cache = Cache(tmp_path / "cache")
    messages = hearing(cache)
    done, modality = run(rows, cache)
    assert (done.hit, messages) == (True, [])
    assert ["".join(map(chr, done.store[i])) for i in range(40)] == [f"word {n}" for n in range(40)]
    assert 0 < len(modality.decoded) < 10
    assert len(messages) == 1
    assert "decoded again" in messages[0]
    assert not run(rows, cache)[0].hit


def test_streamed_data_that_change_are_an_error(tmp_path: Path) -> None:
    rows = rows_of(tmp_path / "data", ["three", "four"])
    store, _ = run(rows, unusable(tmp_path))
    for now in ("another", "thref"):  # of another length, and of the same
        (tmp_path / "data" / "0.txt").write_text(now)
        with pytest.raises(DataError, match=r"0\.txt has changed"):
            store.store[0]
    (tmp_path / "data" / "1.txt").unlink()
    with pytest.raises(DataError, match=r"1\.txt could be read before"):
        store.store[1]


@pytest.mark.parametrize("now", ["a longer text", "two"])
def test_a_file_that_changes_between_hash_and_decode_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, now: str) -> None:
    from pretune.storage import ingest as module

    original = module._hash_all

    def hash_then_change(rows: list[Row], threads: int) -> Any:
        found = original(rows, threads)
        (tmp_path / "data" / "0.txt").write_text(now)
        return found

    monkeypatch.setattr(module, "_hash_all", hash_then_change)
    with pytest.raises(DataError, match=r"0\.txt changed"):
        run(rows_of(tmp_path / "data", WORDS), Cache(tmp_path / "cache"))
    assert list((tmp_path / "cache" / "decoded").iterdir()) == [], "the entry would be wrong for good"


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
