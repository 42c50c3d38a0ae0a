"""A store gives back exactly what was written, or says that it is broken."""

from __future__ import annotations

import errno
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pretune.storage.store import BrokenStore, NoRoom, Store, StoreWriter


def write(path: Path, arrays: list[np.ndarray], **options: str) -> Store:
    writer = StoreWriter(path, **options)  # type: ignore[arg-type]
    for number, array in enumerate(arrays):
        writer.append(array, {"number": number})
    return writer.close({"made_by": "a test"})


def ragged(dtype: str = "uint8") -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 200, (int(rng.integers(1, 9)), 5)).astype(dtype) for _ in range(20)]


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32", "uint16", "int64"])
def test_ragged_arrays_come_back(tmp_path: Path, dtype: str) -> None:
    arrays = ragged(dtype)
    store = write(tmp_path / "s", arrays)
    assert len(store) == 20
    assert all(np.array_equal(a, b) for a, b in zip(store, arrays, strict=True))
    assert store[3].dtype == np.dtype(dtype)
    assert not store[3].flags.writeable
    assert store.lengths.tolist() == [len(a) for a in arrays]
    assert store.shapes.tolist() == [list(a.shape) for a in arrays]
    assert store.uniform is None
    assert store.nbytes == sum(a.nbytes for a in arrays)
    assert store.infos[7] == {"number": 7}
    assert store.meta == {"made_by": "a test"}


def test_arrays_of_one_shape_are_one_view(tmp_path: Path) -> None:
    arrays = [np.full((4, 3), i, np.float32) for i in range(5)]
    store = write(tmp_path / "s", arrays)
    assert store.uniform is not None
    assert np.array_equal(store.uniform, np.stack(arrays))
    assert torch.equal(store.tensor(), torch.tensor(np.stack(arrays)))


def test_bfloat16_travels_as_bits(tmp_path: Path) -> None:
    values = torch.randn(6, 4).to(torch.bfloat16)
    store = write(tmp_path / "s", list(values.view(torch.uint16).numpy()), dtype="bfloat16")
    assert store.dtype == "bfloat16"
    assert torch.equal(store.tensor(), values)
    assert torch.equal(store.tensor(2), values[2])


def test_facts_may_differ_from_item_to_item(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path / "s")
    writer.append(np.zeros(3, np.uint8), {"a": 1})
    writer.append(np.zeros(0, np.uint8), {"b": "é"})
    store = writer.close()
    assert store.infos == [{"a": 1}, {"b": "é"}]
    assert store[1].shape == (0,)
    with pytest.raises(IndexError):
        store[2]


def test_an_empty_store_is_whole(tmp_path: Path) -> None:
    assert len(write(tmp_path / "s", [])) == 0


def test_arrays_of_another_kind_are_refused(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path / "s")
    writer.append(np.zeros((2, 2), np.uint8), {})
    for other in (np.zeros((2, 2), np.float32), np.zeros(4, np.uint8)):
        with pytest.raises(ValueError, match="holds uint8"):
            writer.append(other, {})
    writer.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_store_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path / "s")
    writer.append(np.zeros(3, np.uint8), {})
    assert not (tmp_path / "s").exists()
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_a_store_replaces_the_one_before(tmp_path: Path) -> None:
    write(tmp_path / "s", [np.zeros(3, np.uint8)])
    assert write(tmp_path / "s", [np.ones(4, np.uint8)])[0].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("name", ["data.bin", "index.npz"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99, None])
def test_a_store_cut_off_is_recognised(tmp_path: Path, name: str, share: float | None) -> None:
    write(tmp_path / "s", ragged())
    file = tmp_path / "s" / name
    if share is None:
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    with pytest.raises(BrokenStore):
        Store.open(tmp_path / "s")


@pytest.mark.parametrize("byte", [0, 99, 100, 250, -1])
def test_a_flipped_byte_is_never_returned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, byte: int) -> None:
    monkeypatch.setattr("pretune.storage.store.BLOCK", 100)
    arrays = [np.arange(30, dtype=np.int32) + n for n in range(20)]
    write(tmp_path / "s", arrays)
    file = tmp_path / "s" / "data.bin"
    raw = bytearray(file.read_bytes())
    raw[byte] ^= 0x10
    file.write_bytes(raw)
    with pytest.raises(BrokenStore, match="wrong checksum"):
        Store.open(tmp_path / "s").verify()
    with pytest.raises(BrokenStore, match="wrong checksum"):
        Store.open(tmp_path / "s").uniform  # noqa: B018
    hit = (byte % len(raw)) // 120
    store = Store.open(tmp_path / "s")
    with pytest.raises(BrokenStore, match="wrong checksum"):
        store[hit]
    for position in range(20):  # items without a byte in the block that holds the damage
        if abs(position - hit) > 1:
            assert np.array_equal(store[position], arrays[position])


def test_each_block_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "s", [np.zeros(3 << 20, np.uint8)] * 2)
    hashed: list[int] = []

    def counted(raw: bytes, *start: int) -> int:
        hashed.append(len(raw))
        return zlib.crc32(raw, *start)

    monkeypatch.setattr("pretune.storage.store.zlib", SimpleNamespace(crc32=counted))
    store = Store.open(tmp_path / "s")
    hashed.clear()
    store[1]
    assert sum(hashed) == 3 << 20
    assert (len(store[1]), store.uniform is None, len(store.flat)) == (3 << 20, False, 6 << 20)
    store.verify()
    assert sum(hashed) == store.nbytes == 6 << 20


def test_a_store_under_another_name_is_not_that_store(tmp_path: Path) -> None:
    write(tmp_path / "kind" / "a", ragged())
    (tmp_path / "kind" / "a").rename(tmp_path / "kind" / "b")
    with pytest.raises(BrokenStore, match="another entry"):
        Store.open(tmp_path / "kind" / "b")


def test_a_disk_that_fills_while_the_index_is_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = StoreWriter(tmp_path / "s")
    writer.append(np.zeros(3, np.uint8), {})
    opened = Path.open

    def on_a_full_disk(path: Path, *how: Any, **more: Any) -> Any:
        return open("/dev/full", "wb") if path.name == "index.npz" else opened(path, *how, **more)

    monkeypatch.setattr(Path, "open", on_a_full_disk)
    with pytest.raises(NoRoom, match="full"):
        writer.close()
    writer.discard()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", [0, 3, 4, 40, 0.5, -1])
def test_damage_in_the_index_is_recognised(tmp_path: Path, place: float) -> None:
    write(tmp_path / "s", ragged())
    file = tmp_path / "s" / "index.npz"
    raw = bytearray(file.read_bytes())
    raw[int(place * len(raw)) if isinstance(place, float) else place] ^= 0xFF
    file.write_bytes(raw)
    with pytest.raises(BrokenStore):
        Store.open(tmp_path / "s")


def test_a_full_disk_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = StoreWriter(tmp_path / "s")

    class Full:
        def write(self, data: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writer, "_file", Full())
    with pytest.raises(NoRoom, match="full"):
        writer.append(np.zeros(3, np.uint8), {})
    writer.discard()
    assert list(tmp_path.iterdir()) == []


def test_the_writer_asks_for_room_as_it_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pretune.storage.store._ASK_EVERY", 100)
    asked: list[int] = []

    def admit(nbytes: int) -> None:
        asked.append(nbytes)
        if nbytes > 250:
            raise NoRoom("enough")

    writer = StoreWriter(tmp_path / "s", admit=admit)
    for _ in range(5):
        writer.append(np.zeros(60, np.uint8), {})
    with pytest.raises(NoRoom, match="enough"):
        writer.append(np.zeros(60, np.uint8), {})
    assert asked == [120, 240, 360]
