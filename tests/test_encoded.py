"""Images that text tables spell out, lists separated by spaces, and JSON as people write it."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pretune.errors import BadItem, DataError
from pretune.modalities.image import Image as ImageModality
from pretune.sources import sources
from pretune.sources.schema import Schema
from pretune.sources.table import Columns, RunColumns, Table
from tests.data_files import messages_of, put, table_of

COUNT = 12


def pixels(i: int) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 256, (12, 12), dtype=np.uint8)


def png(i: int) -> str:
    out = io.BytesIO()
    Image.fromarray(pixels(i)).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def decoded(table: Table) -> list[np.ndarray]:
    """The grey values of every row, through the modality's own decoder."""
    modality = ImageModality(size=12, resize=12)
    return [modality.decode(row.path.read_bytes()).array[..., 0] for row in table.rows if row.path is not None]


def check(table: Table) -> None:
    assert (table.modality, len(table.rows)) == ("image", COUNT)
    for i, array in enumerate(decoded(table)):
        assert np.array_equal(array, pixels(i))


# --- images in cells ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelled",
    [
        png,
        lambda i: "data:image/png;base64," + png(i),
        lambda i: png(i).replace("+", "-").replace("/", "_").rstrip("="),
        lambda i: " ".join(map(str, pixels(i).ravel())),
        lambda i: ",".join(map(str, pixels(i).ravel())),
        lambda i: str(pixels(i).ravel().tolist()),
    ],
)
def test_pictures_spelled_in_a_column(tmp_path: Path, spelled: Callable[[int], str]) -> None:
    path = table_of(tmp_path / "t.csv", ["data", "label"], [[spelled(i), "ab"[i % 2]] for i in range(COUNT)])
    table = sources.read(path)
    check(table)
    assert table.classes == ("a", "b")
    assert "path is 'data' (images inside the table)" in messages_of(table)
    schema = Schema.from_json(table.schema.to_json())
    check(sources.read_unlabelled(path, "image", RunColumns(schema=schema)))


@pytest.mark.parametrize("value", [png, lambda i: pixels(i).ravel().tolist(), lambda i: pixels(i).tolist()])
def test_pictures_in_json(tmp_path: Path, value: Callable[[int], Any]) -> None:
    lines = [json.dumps({"image": value(i), "label": "ab"[i % 2]}) for i in range(COUNT)]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    table = sources.read(tmp_path / "t.jsonl")
    check(table)
    assert table.columns == {"path": "image", "label": "label"}


@pytest.mark.parametrize("name", ["pixel{i}", "{y}x{x}", "{i}"])
def test_a_column_for_each_pixel(tmp_path: Path, name: str) -> None:
    names = [name.format(i=i, y=i // 12 + 1, x=i % 12 + 1) for i in range(144)]
    rows: list[list[Any]] = [[i % 3, *pixels(i).ravel()] for i in range(COUNT)]
    table = sources.read(table_of(tmp_path / "t.csv", ["label", *names], rows))
    check(table)
    assert table.classes == ("0", "1", "2")


def test_pixels_without_a_header_ask_for_the_label(tmp_path: Path) -> None:
    rows: list[list[Any]] = [[i % 3, *pixels(i).ravel()] for i in range(COUNT)]
    path = table_of(tmp_path / "t.csv", None, rows)
    with pytest.raises(DataError, match=r"images of 12 by 12, and a label.*label=column1 or label=column145"):
        sources.read(path)
    table = sources.read(path, Columns(label="column1"))
    check(table)
    schema = Schema.from_json(table.schema.to_json())
    check(sources.read_unlabelled(table_of(tmp_path / "new.csv", None, [row[1:] for row in rows]), "image", RunColumns(schema=schema)))


@pytest.mark.parametrize(
    "numbers", [lambda i: range(192), lambda i: [v / 255 for v in range(144)], lambda i: range(100 + i), lambda i: [300] * 144]
)
def test_numbers_of_no_known_shape_are_refused(tmp_path: Path, numbers: Callable[[int], list[Any]]) -> None:
    rows = [[" ".join(map(str, numbers(i))), "ab"[i % 2]] for i in range(COUNT)]
    with pytest.raises(DataError, match="no square grey image of whole numbers from 0 to 255; save each as an image file"):
        sources.read(table_of(tmp_path / "t.csv", ["pixels", "label"], rows))  # type: ignore[arg-type]


def test_a_bad_cell_costs_only_itself(tmp_path: Path) -> None:
    rows = [[png(i) if i else "no base64!", "ab"[i % 2]] for i in range(COUNT)]
    table = sources.read(table_of(tmp_path / "t.csv", ["image", "label"], rows))  # type: ignore[arg-type]
    assert table.rows[0].path is not None
    with pytest.raises(BadItem, match="is not base64"):
        table.rows[0].path.read_bytes()
    assert np.array_equal(decoded(Table(**{**vars(table), "rows": table.rows[1:]}))[0], pixels(1))


def test_texts_and_numbers_are_no_pictures(tmp_path: Path) -> None:
    rows = [[f"{'word' * 10} number {i} and so on", "ab"[i % 2], 100 + i] for i in range(COUNT)]
    table = sources.read(table_of(tmp_path / "t.csv", ["text", "label", "value"], rows))
    assert table.modality == "text"


def test_parts_of_fer2013(tmp_path: Path) -> None:
    usage = ["Training"] * 6 + ["PublicTest"] * 3 + ["PrivateTest"] * 3
    rows = [[" ".join(map(str, pixels(i).ravel())), i % 2, usage[i]] for i in range(COUNT)]
    assert sources.read(table_of(tmp_path / "t.csv", ["pixels", "emotion", "Usage"], rows)).counts() == {"train": 6, "val": 3, "test": 3}


# --- lists separated by spaces -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "target"),
    [
        (lambda i: f"imgs/{i}.jpg {i % 2}", "1"),
        (lambda i: f"imgs/{i}.jpg    {'pug' if i % 2 else 'golden retriever'}", "pug"),
        (lambda i: f"imgs/a {i}.jpg {'pug' if i % 2 else 'golden retriever'}", "pug"),
        (lambda i: f"{i % 2} imgs/{i}.jpg", "1"),
        (lambda i: f"imgs/{i}.jpg {int(i % 3 == 0)} {i % 2} 1", ("column3", "column4")),
        (lambda i: f"imgs/{i}.jpg 0,{i % 2},1", ("1", "2")),
    ],
)
@pytest.mark.parametrize("name", ["train.txt", "list.csv"])
def test_lists_separated_by_spaces(tmp_path: Path, line: Callable[[int], str], target: Any, name: str) -> None:
    put(tmp_path, *(f"imgs/{lead}{i}.jpg" for i in range(COUNT) for lead in ("", "a ")))
    (tmp_path / name).write_text("".join(f"{line(i)}\n" for i in range(COUNT)))
    table = sources.read(tmp_path / name)
    assert len(table.rows) == COUNT
    assert table.rows[1].target == target
    assert "separated by spaces" in messages_of(table)


def test_a_list_with_a_header(tmp_path: Path) -> None:
    put(tmp_path, *(f"imgs/{i}.jpg" for i in range(COUNT)))
    (tmp_path / "list.txt").write_text("image kind\n" + "".join(f"imgs/{i}.jpg {'ab'[i % 2]}\n" for i in range(COUNT)))
    assert sources.read(tmp_path / "list.txt").columns == {"path": "image", "label": "kind"}


def test_fasttext_labels(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("".join(f"__label__{'ab'[i % 2]} a text, number {i}\n" for i in range(COUNT)))
    table = sources.read(tmp_path / "t.txt")
    assert (table.rows[1].text, table.rows[1].target) == (("a text, number 1",), "b")


def test_two_columns_of_files_are_asked_for(tmp_path: Path) -> None:
    put(tmp_path, *(f"{lead}{i}.jpg" for i in range(COUNT) for lead in "ab"), *(f"imgs/a{i}.jpg" for i in range(COUNT)))
    path = table_of(tmp_path / "t.csv", ["img1", "img2", "same"], [[f"a{i}.jpg", f"b{i}.jpg", i % 2] for i in range(COUNT)])
    with pytest.raises(DataError, match=r"an example is one file.*path=img1 .* or path=img2 "):
        sources.read(path)
    assert sources.read(path, Columns(path="img2")).rows[0].id == "b0.jpg"
    path = table_of(tmp_path / "u.csv", ["filename", "path", "label"], [[f"a{i}.jpg", f"imgs/a{i}.jpg", i % 2] for i in range(COUNT)])
    assert sources.read(path).columns["path"] == "path"


# --- JSON ----------------------------------------------------------------------------------------

TEXTS = [(f"the {('cold', 'nice')[i % 2]} meal number {i} was served", ("bad", "good")[i % 2]) for i in range(COUNT)]
ITEMS = [{"text": text, "label": label} for text, label in TEXTS]


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({"columns": ["text", "label"], "index": list(range(COUNT)), "data": [list(pair) for pair in TEXTS]}),
        json.dumps([["text", "label"], *map(list, TEXTS)]),
        json.dumps(list(map(list, TEXTS))),
        json.dumps({"rows": [{"row": item} for item in ITEMS]}),
        "\n".join(json.dumps(item, indent=2) for item in ITEMS),
        "".join(map(json.dumps, ITEMS)),
        "".join(json.dumps(item) + ",\n" for item in ITEMS),
        "[\n" + ",\n".join(map(json.dumps, ITEMS)) + ",\n]\n",
        "".join(json.dumps({"text": text, "label": {"id": 7, "name": label}}) + "\n" for text, label in TEXTS),
    ],
)
def test_json_as_people_write_it(tmp_path: Path, content: str) -> None:
    (tmp_path / "t.json").write_text(content)
    table = sources.read(tmp_path / "t.json")
    assert [(row.text, row.target) for row in table.rows] == [((text,), label) for text, label in TEXTS]


def test_json_with_parts_and_keys_that_are_there_twice(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps({"train": ITEMS, "test": ITEMS[:4]}))
    assert sources.read(tmp_path / "t.json").counts() == {"train": COUNT, "test": 4}
    (tmp_path / "u.jsonl").write_text("".join(f'{{"text": "{text}", "label": "x", "label": "{label}"}}\n' for text, label in TEXTS))
    with pytest.raises(DataError, match=r"label=label .* or label=label\.1 "):
        sources.read(tmp_path / "u.jsonl")
    assert sources.read(tmp_path / "u.jsonl", Columns(label="label.1")).classes == ("bad", "good")


@pytest.mark.parametrize("cell", ["[{}, {}, 1]", "{},{},1", "{} {} 1"])
def test_a_place_for_each_class(tmp_path: Path, cell: str) -> None:
    rows: list[list[Any]] = [[text, cell.format(i % 2, int(i % 3 == 0))] for i, (text, _) in enumerate(TEXTS)]
    table = sources.read(table_of(tmp_path / "t.csv", ["text", "labels"], rows))
    assert [row.target for row in table.rows[:3]] == [("1", "2"), ("0", "2"), ("2",)]
    assert "one place for each class" in messages_of(table)
