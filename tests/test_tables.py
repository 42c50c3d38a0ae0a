"""Images and audio that lie as bytes inside Parquet and Arrow tables."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pretune import api
from pretune.errors import DataError, MissingExtra, SettingError
from pretune.formats import files
from pretune.modalities.image import Image as ImageModality
from pretune.sources import sources
from pretune.sources.readers.arrow_file import ArrowFile
from pretune.sources.table import Columns, Table
from pretune.storage.cache import Cache
from pretune.storage.cells import TableCell
from pretune.storage.ingest import Ingested, ingest
from pretune.storage.streaming import StreamingStore
from tests.data_files import messages_of, reasons, table_of

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

COLOURS = ["red", "green", "blue"]
STRUCT = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
QUICK: dict[str, Any] = {"backbone": "scratch:cnn,width=8,stages=2,depth=1", "image_size": 16, "epochs": 2, "threads": 1, "seed": 1}


def png(number: int, seed: int = 0) -> bytes:
    """A noisy image in the colour of its class."""
    pixels = np.random.default_rng([seed, number]).integers(0, 60, (24, 24, 3), dtype=np.uint8)
    pixels[..., number % 3] += 150
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def flat(number: int) -> bytes:
    """An image whose file is far smaller than its pixels."""
    out = io.BytesIO()
    Image.new("RGB", (96, 96), tuple(150 * (number % 3 == i) + number for i in range(3))).save(out, "PNG")
    return out.getvalue()


def cells(count: int, start: int = 0, names: str = "{:03d}.png") -> list[dict[str, Any] | None]:
    return [{"bytes": png(i), "path": names.format(i)} for i in range(start, start + count)]


def features(names: list[str]) -> dict[str, Any]:
    return {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}


def table(images: list[Any], labels: list[Any] | None = None, names: list[str] | None = None, **more: list[Any]) -> Any:
    columns = {"image": pyarrow.array(images, STRUCT), **({"label": labels} if labels is not None else {}), **more}
    made = pyarrow.table(columns)
    noted = {b"huggingface": json.dumps({"info": {"features": features(names)}}).encode()} if names else None
    return made.replace_schema_metadata(noted)


def write(path: Path, *args: Any, **more: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table(*args, **more), path, row_group_size=7)
    return path


def save_to_disk(folder: Path, made: Any, names: list[str]) -> None:
    folder.mkdir(parents=True)
    with pyarrow.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as sink, pyarrow.ipc.new_stream(sink, made.schema) as writer:
        writer.write_table(made, max_chunksize=5)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features(names)}))


def taken(data: Table, root: Path, limit: int | None = None) -> Ingested:
    return ingest(data.rows, ImageModality(size=64, resize=64), Cache(root, limit), threads=2)


def bytes_of(data: Table) -> dict[str, bytes]:
    return {row.id: row.path.read_bytes() for row in data.rows if isinstance(row.path, TableCell)}


# --- one table, several files --------------------------------------------------------------------


def test_pieces_of_a_table_with_parts_and_class_names(home: Path) -> None:
    for start, name in ((0, "train-00000-of-00002"), (9, "train-00001-of-00002"), (18, "test-00000-of-00001")):
        write(home / "data" / f"{name}.parquet", cells(9, start), [i % 3 for i in range(9)], COLOURS)
    data = sources.read(home)
    assert (data.modality, data.task, data.counts()) == ("image", "classification", {"train": 18, "test": 9})
    assert {row.id: row.target for row in data.rows} == {f"{i:03d}.png": COLOURS[i % 3] for i in range(27)}
    assert bytes_of(data) == {f"{i:03d}.png": png(i) for i in range(27)}
    assert "path is 'image' (images inside the table)" in messages_of(data)
    assert "the numbers in 'label' stand for the class names that the table gives: red, green, blue." in messages_of(data)
    assert not data.findings


def test_what_cannot_be_used_is_named_and_changes_nothing_else(home: Path) -> None:
    images = cells(12)
    images[1] = None
    images[2] = {"bytes": None, "path": "002.png"}
    images[3] = {"bytes": png(3)[:100], "path": "003.png"}
    images[4] = {"bytes": b"no picture at all", "path": "004.png"}
    labels: list[int | None] = [i % 3 for i in range(12)]
    labels[5], labels[6], labels[7] = -1, 9, None
    write(home / "a.parquet", images, labels, COLOURS)
    data = sources.read(home / "a.parquet")
    assert {entry.item: entry.reason for entry in data.ledger} == {
        "005.png": "blank_label",
        "006.png": "unknown_label",
        "007.png": "blank_label",
    }
    done = taken(data, home / "cache")
    assert [(entry.item, entry.reason) for entry in done.ledger] == [
        ("a.parquet:2", "empty_cell"),
        ("002.png", "empty_cell"),
        ("003.png", "truncated"),
        ("004.png", "not_an_image"),
    ]
    assert "only names 002.png" in done.ledger[1].detail
    kept = [row.id for row in done.rows]
    assert kept == ["000.png", "008.png", "009.png", "010.png", "011.png"]
    for row, pixels in zip(done.rows, done.store, strict=True):
        assert pixels.mean((0, 1)).argmax() == int(row.id[:3]) % 3


def test_ids_say_the_record_where_names_do_not_tell(home: Path) -> None:
    write(home / "same.parquet", cells(6, names="image.png"), ["a", "b"] * 3)
    parquet.write_table(pyarrow.table({"png": [png(i) for i in range(6)], "label": ["a", "b"] * 3}), home / "plain.parquet")
    for name in ("same", "plain"):
        data = sources.read(home / f"{name}.parquet")
        assert [row.id for row in data.rows] == [f"{name}.parquet:{i}" for i in range(1, 7)]
        assert list(bytes_of(data).values()) == [png(i) for i in range(6)]


def test_folders_of_parts_and_pieces_without(home: Path) -> None:
    for part in ("train", "test"):
        write(home / "parts" / part / "0000.parquet", cells(6, names=""), ["a", "b"] * 3)
    data = sources.read(home / "parts")
    assert data.counts() == {"train": 6, "test": 6}
    assert {row.id for row in data.rows if row.split == "test"} == {f"test/0000.parquet:{i}" for i in range(1, 7)}
    for piece in range(2):
        write(home / "pieces" / f"part-{piece}.parquet", cells(6, 6 * piece), ["a", "b"] * 3)
    assert [row.id for row in sources.read(home / "pieces").rows] == [f"{i:03d}.png" for i in range(12)]
    write(home / "pieces" / "other.parquet", cells(6), ["a", "b"] * 3)
    with pytest.raises(DataError, match="several manifests"):
        sources.read(home / "pieces")


def test_pieces_that_are_missing_are_told_of(home: Path) -> None:
    write(home / "data" / "train-00001-of-00003.parquet", cells(6), ["a", "b"] * 3)
    (finding,) = sources.read(home).findings
    assert sources.read_unlabelled(home, "image").findings == [finding]
    assert finding.kind == "missing_shards"
    assert finding.items == ("data/train-00000-of-00003.parquet", "data/train-00002-of-00003.parquet")


def test_pieces_without_rows_are_told_of(home: Path) -> None:
    write(home / "train-0.parquet", [], pyarrow.array([], pyarrow.string()))
    write(home / "train-1.parquet", cells(6), ["a", "b"] * 3)
    data = sources.read(home)
    assert len(data.rows) == 6
    assert "train-0.parquet has no rows." in messages_of(data)
    write(home / "train-1.parquet", [], pyarrow.array([], pyarrow.string()))
    with pytest.raises(DataError, match="none of the 2 tables"):
        sources.read(home)


def test_a_saved_data_set_is_matched_by_class_name(home: Path) -> None:
    save_to_disk(home / "saved" / "train", table(cells(6), [0, 1, 2] * 2), COLOURS)
    save_to_disk(home / "saved" / "validation", table(cells(6), [2, 1, 0] * 2), COLOURS[::-1])
    (home / "saved" / "dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    data = sources.read(home / "saved")
    assert [(row.split, row.target) for row in data.rows] == [(part, name) for part in ("train", "val") for name in COLOURS * 2]
    assert "validation numbers its classes otherwise; they were matched by name." in messages_of(data)
    assert list(bytes_of(data).values()) == [png(i) for i in range(6)] * 2
    assert sources.modality_at(home / "saved") == "image"
    assert len(sources.read_unlabelled(home / "saved", "image").inputs) == 12


def test_class_names_of_another_table_are_not_stretched(home: Path) -> None:
    write(home / "train.parquet", cells(6), [0, 1, 2] * 2, COLOURS)
    write(home / "test.parquet", cells(6, 6), [0, 1, 2] * 2, ["green", "red"])
    data = sources.read(home)
    assert [row.target for row in data.rows if row.split == "test"] == ["green", "red"] * 2
    assert reasons(data) == {"unknown_label": 2}


def test_several_labels_by_number(home: Path) -> None:
    made = table(cells(6), [[0, 2], [1], [], [0], [1, 2], [7]])
    noted = {"image": {"_type": "Image"}, "label": {"feature": {"names": COLOURS, "_type": "ClassLabel"}, "_type": "Sequence"}}
    parquet.write_table(
        made.replace_schema_metadata({b"huggingface": json.dumps({"info": {"features": noted}}).encode()}), home / "a.parquet"
    )
    data = sources.read(home / "a.parquet")
    assert data.task == "multilabel"
    assert [row.target for row in data.rows] == [("blue", "red"), ("green",), (), ("red",), ("blue", "green")]
    assert reasons(data) == {"unknown_label": 1}


def test_a_column_whose_classes_are_named_is_the_label(home: Path) -> None:
    noted = {"breed": {"names": ["pug", "boxer"], "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    made = table(cells(6), age=[1, 2, 1, 2, 1, 2], breed=[0, 1] * 3)
    parquet.write_table(
        made.replace_schema_metadata({b"huggingface": json.dumps({"info": {"features": noted}}).encode()}), home / "a.parquet"
    )
    data = sources.read(home / "a.parquet")
    assert data.columns["label"] == "breed"
    assert data.classes == ("boxer", "pug")


# --- what a column of bytes is -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (png(0), "image"),
        (b"\xff\xd8\xff\xe0rest", "image"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "image"),
        (b"BM\x10\0\0\0\0\0\0\0", "image"),
        (b"BMW is a make of cars", None),
        (b"RIFF\x10\0\0\0WAVEfmt ", "audio"),
        (b"fLaC\0\0", "audio"),
        (b"\xff\xfb\x90d", "audio"),
        (b"%PDF-1.7", None),
        (b"", None),
    ],
)
def test_first_bytes_show_the_modality(raw: bytes, kind: str | None) -> None:
    assert files.modality_of_bytes(raw) == kind


def test_sounds(home: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    out = io.BytesIO()
    soundfile.write(out, np.sin(np.arange(4000) / 9), 8000, format="WAV")
    made = pyarrow.table({"audio": pyarrow.array([{"bytes": out.getvalue(), "path": None}] * 6, STRUCT), "label": ["a", "b"] * 3})
    parquet.write_table(made, home / "a.parquet")
    assert sources.read(home / "a.parquet").modality == "audio"
    assert sources.modality_at(home / "a.parquet") == "audio"
    with pytest.raises(DataError, match="'audio' holds sounds"):
        sources.read_unlabelled(home / "a.parquet", "image")


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ([b"%PDF-1.7"] * 4, "neither images nor sounds (the first: b'%PDF-1.7')"),
        ([bytes([i]) * 20 for i in range(4)], "neither images nor sounds"),
        ([None, b""] * 2, "is empty in every row"),
        ([[png(0)], [png(1), png(2)]] * 2, "only one file per row can be read"),
    ],
)
def test_bytes_that_are_no_items_are_one_plain_message(home: Path, column: list[Any], words: str) -> None:
    inner = pyarrow.list_(pyarrow.binary()) if isinstance(column[0], list) else pyarrow.binary()
    parquet.write_table(pyarrow.table({"blob": pyarrow.array(column, inner), "label": ["a", "b"] * 2}), home / "a.parquet")
    for read in (lambda: sources.read(home / "a.parquet"), lambda: sources.read_unlabelled(home / "a.parquet", "image")):
        with pytest.raises(DataError) as error:
            read()
        assert words in str(error.value)
    with pytest.raises(DataError, match="column 'blob'"):
        sources.read(home / "a.parquet", Columns(path="blob"))


def test_some_files_that_show_what_they_are_are_enough(home: Path) -> None:
    pictures = [b"rubbish"] * 40 + [png(i) for i in range(6)]
    parquet.write_table(pyarrow.table({"png": pictures, "label": ["a", "b"] * 23}), home / "a.parquet")
    done = taken(sources.read(home / "a.parquet"), home / "cache")
    assert len(done.rows) == 6
    assert {entry.reason for entry in done.ledger} == {"not_an_image"}


def test_bytes_beside_texts_are_left_alone(home: Path) -> None:
    texts = [f"a sentence of some length, number {i}" for i in range(6)]
    made = pyarrow.table({"text": texts, "key": [os.urandom(16) for _ in texts], "label": ["a", "b"] * 3})
    parquet.write_table(made, home / "a.parquet")
    data = sources.read(home / "a.parquet")
    assert data.columns == {"text": "text", "label": "label"}
    assert "not used: key" in messages_of(data)
    write(home / "b.parquet", cells(6), ["a", "b"] * 3, caption=texts)
    assert sources.read(home / "b.parquet").modality == "image"
    assert sources.read(home / "b.parquet", Columns(text="caption")).rows[2].text == (texts[2],)
    assert sources.modality_at(home / "b.parquet", Columns(text="caption")) == "text"
    assert [row.text for row in sources.read_unlabelled(home / "b.parquet", "text").rows] == [(text,) for text in texts]


def test_one_of_several_columns_of_files(home: Path) -> None:
    write(home / "a.parquet", cells(6), ["a", "b"] * 3, other=[png(i, seed=1) for i in range(6)])
    data = sources.read(home / "a.parquet")
    assert "several columns of a.parquet hold files; 'image' was taken, path= takes another (other)." in messages_of(data)
    chosen = sources.read(home / "a.parquet", Columns(path="OTHER"))
    assert chosen.columns["path"] == "other"
    assert bytes_of(chosen)["a.parquet:1"] == png(0, seed=1)


def test_files_that_a_table_only_names_are_found(home: Path) -> None:
    for i in range(6):
        (home / f"{i}.png").write_bytes(png(i))
    write(home / "a.parquet", [{"bytes": None, "path": f"{i}.png"} for i in range(7)], ["a", "b"] * 3 + ["a"])
    data = sources.read(home / "a.parquet")
    assert [row.path for row in data.rows] == [home / f"{i}.png" for i in range(6)]
    assert reasons(data) == {"missing_file": 1}
    save_to_disk(home / "saved", table([{"bytes": None, "path": str(home / f"{i}.png")} for i in range(6)], [0, 1] * 3), COLOURS)
    assert sources.read(home / "saved").modality == "image"


def test_two_contents_are_refused(home: Path) -> None:
    path = table_of(home / "a.csv", ["file", "caption", "label"], [[f"{i}.png", f"a caption {i}", "ab"[i % 2]] for i in range(6)])
    with pytest.raises(SettingError, match="name two contents"):
        sources.read(path, Columns(text="caption", path="file"))
    assert sources.read(path, Columns(text="caption")).modality == "text"
    with pytest.raises(SettingError, match="would not be read: the examples are images"):
        sources.read(path, Columns(text="caption"), modality="image")


def test_pictures_beside_tables_of_pictures_are_not_guessed(home: Path) -> None:
    write(home / "a.parquet", cells(6), ["a", "b"] * 3)
    (home / "logo.png").write_bytes(png(0))
    with pytest.raises(DataError, match="Give the folder or the table that is meant"):
        sources.read_unlabelled(home, "image")
    assert len(sources.read(home).rows) == 6
    (home / "a.parquet").write_bytes(b"PAR1 broken PAR1")
    lone = sources.read_unlabelled(home, "image")
    assert [row.id for row in lone.rows] == ["logo.png"]
    assert "a.parquet was not used" in messages_of(lone)


def test_no_table_is_left_out_of_what_is_predicted(home: Path) -> None:
    for name in ("train", "test", "extra"):
        write(home / f"{name}.parquet", cells(6, names=""), ["a", "b"] * 3)
    assert "not used, as their names say no split: extra.parquet." in messages_of(sources.read(home))
    with pytest.raises(DataError, match=r"say no split \(extra.parquet\)"):
        sources.read_unlabelled(home, "image")
    (home / "extra.parquet").unlink()
    assert len(sources.read_unlabelled(home, "image").inputs) == 12


def test_without_pyarrow_the_way_out_is_said(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home / "a.parquet", cells(6), ["a", "b"] * 3)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for call in (sources.read, sources.modality_at):
        with pytest.raises(MissingExtra, match=r"pip install 'pretune\[parquet\]'"):
            call(home / "a.parquet")


def test_broken_tables(home: Path) -> None:
    path = write(home / "a.parquet", cells(20), ["a", "b"] * 10)
    raw = path.read_bytes()
    path.write_bytes(raw[:200] + bytes(2000) + raw[2200:])
    with pytest.raises(DataError, match="cannot be read"):
        taken(sources.read(path), home / "cache")
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 12\n")
    with pytest.raises(DataError, match="git lfs pull"):
        sources.read(path)
    path.write_bytes(raw[:-50])
    with pytest.raises(DataError, match="cannot be read"):
        sources.read(path)


# --- the cache -----------------------------------------------------------------------------------


def test_cells_are_unpacked_once_and_anew_after_a_change(home: Path) -> None:
    def keys() -> set[str]:
        return {entry.key for entry in Cache(home / "cache").entries() if entry.kind == "cells"}

    path = write(home / "a.parquet", cells(6), ["a", "b"] * 3)
    for _ in range(2):
        assert len(taken(sources.read(path), home / "cache").rows) == 6
        assert len(keys()) == 1
    old = sources.read(path)
    times = path.stat()
    write(path, cells(6, 6), ["a", "b"] * 3)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert list(bytes_of(sources.read(path)).values()) == [png(i) for i in range(6, 12)]
    assert len(keys()) == 2
    write(path, cells(3), ["a", "b", "a"])
    with pytest.raises(DataError, match="changed while it was being read"):
        taken(old, home / "cache")


def test_no_room_is_one_plain_message(home: Path) -> None:
    data = sources.read(write(home / "a.parquet", cells(12), ["a", "b"] * 6))
    with pytest.raises(DataError, match=r"unpacked into the cache .* do not fit into the cache's .* cache=FOLDER"):
        taken(data, home / "cache", limit=4000)
    assert not [file for file in (home / "cache").rglob("*") if file.is_file() and file.parent.name != "locks"]


def test_a_full_disk_is_one_plain_message(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = sources.read(write(home / "a.parquet", cells(12), ["a", "b"] * 6))
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(total=10**9, used=10**9, free=0))
    with pytest.raises(DataError, match=r"column 'image' are unpacked .* the disk that holds .* has 0.0 MB left. Make room there"):
        taken(data, home / "cache")


def test_room_for_the_files_but_not_for_what_they_decode_to(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pretune.storage.store._ASK_EVERY", 1000)
    pictures = [{"bytes": flat(i), "path": f"{i}.png"} for i in range(12)]
    data = sources.read(write(home / "a.parquet", pictures, ["a", "b"] * 6))
    done = taken(data, home / "cache", limit=60_000)
    assert isinstance(done.store, StreamingStore)
    assert "decoded again" in done.notes[0]
    assert done.hashes == taken(data, home / "other").hashes
    assert all(done.store[i].mean((0, 1)).argmax() == i % 3 for i in (7, 0, 11))


def test_a_table_is_gone_through_a_few_cells_at_a_time(home: Path) -> None:
    parquet.write_table(table(cells(100)), home / "a.parquet")
    assert [batch.num_rows for batch in ArrowFile(home / "a.parquet").batches(["image.bytes"])] == [32, 32, 32, 4]
    assert [bytes(cell) for cell in ArrowFile(home / "a.parquet").cells("image")] == [png(i) for i in range(100)]


# --- whole jobs ----------------------------------------------------------------------------------


def test_from_tables_to_predictions(home: Path) -> None:
    train = cells(24)
    train[5] = None
    write(home / "data" / "train-00000-of-00001.parquet", train, [i % 3 for i in range(24)], COLOURS)
    leaked = [*cells(8, 24), {"bytes": png(0), "path": "leaked.png"}]
    write(home / "data" / "test-00000-of-00001.parquet", leaked, [i % 3 for i in range(8)] + [0], COLOURS)
    audit = api.audit("data")
    assert [finding.items for finding in audit.findings if finding.kind == "leak"] == [("leaked.png",)]
    assert audit.counts["used"] == 32
    run = api.finetune("data", strategy="linear_probe", out="run", **QUICK)
    assert run.metrics["counts"]["dropped"] == 1
    answers = list(api.predict("run", "data/train-00000-of-00001.parquet"))
    assert [answer["id"] for answer in answers[4:7]] == ["004.png", "train-00000-of-00001.parquet:6", "006.png"]
    assert [("error" in answer) for answer in answers] == [i == 5 for i in range(24)]
    figures = api.evaluate("run", "data", part="test")
    assert figures["counts"] == {"used": 9, "dropped": 0}
    assert figures["metrics"]["accuracy"] == pytest.approx(run.metrics["test"]["accuracy"])


def test_pretraining_on_tables_without_labels(home: Path) -> None:
    images = cells(20, names="")
    images[3] = None
    write(home / "data" / "train-00000-of-00001.parquet", images)
    write(home / "data" / "test-00000-of-00001.parquet", cells(5, 20, names=""))
    done = api.pretrain("data", objective="contrastive", batch_size=8, out="run", **{k: v for k, v in QUICK.items() if k != "seed"})
    ledger = (done.path / "ledger.csv").read_text()
    assert "train-00000-of-00001.parquet:4" in ledger
    assert "empty_cell" in ledger
    assert sum(part["examples"] for part in done.metrics["counts"].values() if isinstance(part, dict)) == 19
