"""Readers of boxes: each layout, and everything that can be wrong with one box, one line or one file."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pretune.errors import DataError
from pretune.modalities.image import Image as Image_
from pretune.modalities.image import stored_size
from pretune.sources import sources
from pretune.sources.boxes import Box, Boxes, checked
from pretune.sources.layouts._turned import StoredFrame
from pretune.sources.table import Columns, Table
from tests.box_data import NAMES, SIZE, scene, write_voc, xml


def boxes_of(table: Table) -> dict[str, list[tuple[str, tuple[float, ...]]]]:
    """Return name and corners of the boxes of each image, by the end of its path."""
    out = {}
    for row in table.rows:
        assert isinstance(row.target, Boxes)
        out[row.id.rpartition("/")[2]] = [(box.name, tuple(round(side, 3) for side in box.corners)) for box in row.target.boxes]
    return out


def reasons(table: Table) -> dict[str, str]:
    return {entry.item: entry.reason for entry in table.ledger}


def write_yolo(folder: Path, count: int, *, names: bool = True) -> None:
    for number in range(count):
        part = "val" if number % 4 == 0 else "train"
        for kind in ("images", "labels"):
            (folder / kind / part).mkdir(parents=True, exist_ok=True)
        picture, boxes = scene(number)
        picture.save(folder / "images" / part / f"{number:03d}.png")
        lines = [
            f"{NAMES.index(name)} {(x0 + x1) / 2 / SIZE[0]} {(y0 + y1) / 2 / SIZE[1]} {(x1 - x0) / SIZE[0]} {(y1 - y0) / SIZE[1]}"
            for name, x0, y0, x1, y1 in boxes
        ]
        (folder / "labels" / part / f"{number:03d}.txt").write_text("\r\n".join(lines) + "\r\n")
    if names:
        (folder / "data.yaml").write_text("train: images/train\nval: images/val\nnames:\n  0: disc\n  1: square\n")


def coco(count: int) -> dict[str, Any]:
    images, annotations = [], []
    for number in range(count):
        images.append({"id": 1000 + number, "file_name": f"{number:03d}.png", "width": SIZE[0], "height": SIZE[1]})
        for name, x0, y0, x1, y1 in scene(number)[1]:
            entry = {"id": len(annotations) + 1, "image_id": 1000 + number, "category_id": 3 if name == "disc" else 90}
            annotations.append({**entry, "bbox": [x0, y0, x1 - x0, y1 - y0], "iscrowd": 0})
    categories = [{"id": 90, "name": "square"}, {"id": 3, "name": "disc"}, {"id": 17, "name": "never"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_images(folder: Path, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        scene(number)[0].save(folder / f"{number:03d}.png")


def wanted(count: int, ending: str) -> dict[str, list[tuple[str, tuple[float, ...]]]]:
    return {f"{number:03d}.{ending}": [(name, tuple(map(float, sides))) for name, *sides in scene(number)[1]] for number in range(count)}


def test_voc_yolo_coco_and_tables_give_the_same_boxes(tmp_path: Path) -> None:
    write_voc(tmp_path / "voc", 6)
    assert boxes_of(sources.read(tmp_path / "voc")) == wanted(6, "jpg")
    write_yolo(tmp_path / "yolo", 6)
    table = sources.read(tmp_path / "yolo")
    assert {
        name: [(label, pytest.approx(sides, abs=0.01)) for label, sides in boxes] for name, boxes in wanted(6, "png").items()
    } == boxes_of(table)
    assert table.counts() == {"train": 4, "val": 2}
    write_images(tmp_path / "coco" / "images", 6)
    (tmp_path / "coco" / "instances.json").write_text(json.dumps(coco(6)))
    table = sources.read(tmp_path / "coco")
    assert boxes_of(table) == wanted(6, "png")
    assert table.classes == ("disc", "square"), "by name, and without those that have no box"
    assert sources.read(tmp_path / "coco" / "instances.json").classes == ("disc", "square")
    for header, corners in (("xmin,ymin,xmax,ymax", lambda s: s), ("x,y,w,h", lambda s: [s[0], s[1], s[2] - s[0], s[3] - s[1]])):
        folder = tmp_path / header.replace(",", "")
        write_images(folder, 6)
        lines = [f"{n:03d}.png,{','.join(map(str, corners(sides)))},{name}" for n in range(6) for name, *sides in scene(n)[1]]
        (folder / "boxes.csv").write_text("\n".join([f"filename,{header},class", *lines]) + "\n")
        assert boxes_of(sources.read(folder)) == wanted(6, "png")
        if "max" in header:
            (folder / "boxes.csv").write_text("\n".join(lines) + "\n")
        assert boxes_of(sources.read(folder)) == wanted(6, "png"), "without a header too"


def test_a_header_of_x_and_y_lists_boxes_whatever_stands_beside_them(tmp_path: Path) -> None:
    write_images(tmp_path, 2)
    (tmp_path / "boxes.tsv").write_text(
        "filename\tx\ty\tw\th\tclass\tsplit\n000.png\t1\t1\t9\t9\tdisc\ttrain\n001.png\t2\t2\t9\t9\tdisc\tval\n"
    )
    table = sources.read(tmp_path)
    assert boxes_of(table) == {"000.png": [("disc", (1.0, 1.0, 10.0, 10.0))], "001.png": [("disc", (2.0, 2.0, 11.0, 11.0))]}


@pytest.mark.parametrize(
    ("header", "row", "sign"),
    [
        ("image,x_center,y_center,width,height,class", "{},50,30,20,10,disc", ","),
        ("image,cx,cy,w,h,class", "{},50,30,20,10,disc", ","),
        ("bild;x1;y1;x2;y2;klasse", "{};40;25;60;35;disc", ";"),
        ("image;xmin;ymin;xmax;ymax;class", "{};40,0;25,0;60,0;35,0;disc", ";"),
    ],
)
def test_boxes_by_their_centres_in_columns_of_any_name_and_with_decimal_commas(tmp_path: Path, header: str, row: str, sign: str) -> None:
    write_images(tmp_path, 2)
    (tmp_path / "boxes.csv").write_text("\n".join([header, *(row.format(f"{number:03d}.png") for number in range(2))]) + "\n")
    table = sources.read(tmp_path)
    assert table.task == "detection"
    assert boxes_of(table)["001.png"] == [("disc", (40.0, 25.0, 60.0, 35.0))]


def test_class_numbers_of_yolo_that_count_from_one_are_refused(tmp_path: Path) -> None:
    write_yolo(tmp_path, 4)
    for path in (tmp_path / "labels").rglob("*.txt"):
        path.write_text("".join(f"{number} 0.5 0.5 0.2 0.2\n" for number in (1, 2)))
    with pytest.raises(DataError, match="run from 1 to 2, and 2 classes have names"):
        sources.read(tmp_path)


def test_class_names_of_yolo_keep_their_letters_in_other_encodings(tmp_path: Path) -> None:
    write_yolo(tmp_path, 4, names=False)
    (tmp_path / "classes.txt").write_bytes("K\u00e4fer\nB\u00e4r\n".encode("latin-1"))
    table = sources.read(tmp_path)
    assert set(table.classes) <= {"K\u00e4fer", "B\u00e4r"}
    assert any("classes.txt was read as Windows-1252" in line for line in table.messages)


def test_splits_of_voc_are_its_lists(tmp_path: Path) -> None:
    write_voc(tmp_path, 8)
    main = tmp_path / "ImageSets" / "Main"
    main.mkdir(parents=True)
    (main / "trainval.txt").write_text("000\n001\n002\n003\n")
    (main / "train.txt").write_text("000\n001\n002\n")
    (main / "val.txt").write_text("003\n")
    (main / "disc_train.txt").write_text("000 1\n004 -1\n")
    table = sources.read(tmp_path)
    assert table.counts() == {"train": 3, "val": 1}
    assert "4 images are in no list of ImageSets/Main and are not used." in table.messages


def test_voc_pairs_by_name_and_names_what_has_no_partner(tmp_path: Path) -> None:
    write_voc(tmp_path, 4)
    (tmp_path / "Annotations" / "000.xml").write_text(xml("elsewhere.jpg", scene(0)[1]))
    (tmp_path / "Annotations" / "gone.xml").write_text(xml("gone.jpg", scene(0)[1]))
    (tmp_path / "Annotations" / "001.xml").unlink()
    (tmp_path / "Annotations" / "002.xml").write_text(xml("002.jpg", []))
    table = sources.read(tmp_path)
    assert boxes_of(table) == {**{k: v for k, v in wanted(4, "jpg").items() if k != "001.jpg"}, "002.jpg": []}
    assert reasons(table) == {"Annotations/gone.xml": "orphan_annotation", "JPEGImages/001.jpg": "no_annotation"}
    assert "1 image shows no objects and is kept as a negative." in table.messages


@pytest.mark.parametrize("kind", ["<!DOCTYPE a [<!ENTITY b 'c'>]>", "<!DOCTYPE a SYSTEM 'file:///etc/hostname'>"])
def test_document_types_of_xml_are_refused(tmp_path: Path, kind: str) -> None:
    write_voc(tmp_path, 3)
    path = tmp_path / "Annotations" / "000.xml"
    path.write_text(f"<?xml version='1.0'?>{kind}{path.read_text()}")
    table = sources.read(tmp_path)
    assert reasons(table) == {"Annotations/000.xml": "unsafe_xml"}
    assert len(table.rows) == 2


@pytest.mark.parametrize(
    ("corners", "kept", "reason"),
    [
        ((10, 10, 30, 30), (10, 10, 30, 30), None),
        ((-10, -10, 200, 50), (0, 0, 96, 50), "clipped_box"),
        ((-0.5, 0, 96.5, 64), (0, 0, 96, 64), None),
        ((60, 50, 20, 20), (20, 20, 60, 50), "swapped_corners"),
        ((30, 30, 30, 60), None, "empty_box"),
        ((float("nan"), 1, 2, 3), None, "bad_box"),
        ((100, 10, 120, 30), None, "outside_image"),
        ((0, 0, 96, 0.5), None, "absurd_box"),
    ],
)
def test_what_is_wrong_with_a_box(corners: tuple[float, ...], kept: tuple[float, ...] | None, reason: str | None) -> None:
    box, fault = checked(Box("a", *corners), 96, 64)
    assert (box and box.corners) == kept
    assert (fault and fault.reason) == reason
    assert fault is None or fault.dropped == (box is None)


def test_an_image_with_nothing_but_bad_boxes_is_no_negative(tmp_path: Path) -> None:
    write_voc(tmp_path, 3)
    (tmp_path / "Annotations" / "000.xml").write_text(xml("000.jpg", [("disc", 30, 30, 30, 60)]))
    (tmp_path / "Annotations" / "001.xml").write_text(
        xml("001.jpg", [("disc", 30, 30, 30, 60), ("disc", 1, 1, 20, 20), ("disc", 1, 1, 20, 20)])
    )
    table = sources.read(tmp_path)
    assert set(boxes_of(table)) == {"001.jpg", "002.jpg"}
    assert boxes_of(table)["001.jpg"] == [("disc", (1, 1, 20, 20))]
    assert [entry.reason for entry in table.ledger] == ["empty_box", "empty_box", "repeated_box"]


def test_difficult_objects_and_crowds_are_neither_learned_nor_counted(tmp_path: Path) -> None:
    write_voc(tmp_path, 3)
    path = tmp_path / "Annotations" / "000.xml"
    path.write_text(path.read_text().replace("<bndbox>", "<difficult>1</difficult><bndbox>", 1))
    table = sources.read(tmp_path)
    (target,) = [row.target for row in table.rows if row.id.endswith("000.jpg")]
    assert isinstance(target, Boxes)
    assert [box.ignored for box in target.boxes] == [True, *[False] * (len(target.boxes) - 1)]
    assert len(target.names) == len(target.boxes) - 1


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("7 0.5 0.5 0.2 0.2", "the class 7; there are 2 classes"),
        ("0 64 48 20 20", "in pixels"),
        ("0 1.4 0.5 0.2 0.2", "outside the image"),
        ("0 0.5 0.5 -0.2 0.2", "the width -0.2"),
        ("0.5 0.5 0.2 0.2", "4 columns"),
        ("0 a 0.5 0.2 0.2", "no number"),
        ("0 0.5 nan 0.2 0.2", "not finite"),
        ("0 0.1 0.1 0.5 0.5 0.9 0.1 2", "8 columns"),
    ],
)
def test_a_bad_line_of_yolo_is_named_and_the_others_are_used(tmp_path: Path, line: str, why: str) -> None:
    write_yolo(tmp_path, 4)
    path = tmp_path / "labels" / "train" / "001.txt"
    path.write_text(f"{line}\n{path.read_text()}")
    table = sources.read(tmp_path)
    assert [(entry.item, entry.action) for entry in table.ledger] == [("001.txt:1", "repaired")]
    assert why in table.ledger[0].detail
    assert len(table.rows) == 4


def test_lines_of_yolo_with_scores_or_outlines_are_read_and_reported(tmp_path: Path) -> None:
    write_yolo(tmp_path, 4)
    (tmp_path / "labels" / "train" / "001.txt").write_text("1 0.5 0.5 0.5 0.5 0.93\n0 0.25 0.25 0.75 0.25 0.75 0.5\n")
    (tmp_path / "labels" / "train" / "002.txt").write_text("")
    (tmp_path / "labels" / "train" / "003.txt").unlink()
    (tmp_path / "labels" / "train" / "alone.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    table = sources.read(tmp_path)
    found = boxes_of(table)
    assert found["001.png"] == [("square", (24, 16, 72, 48)), ("disc", (24, 16, 72, 32))]
    assert found["002.png"] == []
    assert reasons(table) == {"images/train/003.png": "no_annotation", "labels/train/alone.txt": "orphan_annotation"}
    assert "1 line has six columns: the last is taken as a score and is not read." in table.messages
    assert "1 line is an outline: the box around it is used." in table.messages


def test_yolo_without_names_or_with_one_split_twice_says_so(tmp_path: Path) -> None:
    write_yolo(tmp_path / "a", 4, names=False)
    table = sources.read(tmp_path / "a")
    assert set(table.classes) <= {"0", "1"}
    assert any("called by their numbers" in line for line in table.messages)
    write_yolo(tmp_path / "b", 6)
    shutil.rmtree(tmp_path / "b" / "images" / "val")
    (tmp_path / "b" / "data.yaml").write_text("train: images/train\nval: images/train\nnames: [disc, square]\n")
    table = sources.read(tmp_path / "b")
    assert any("the same images for train and val" in line for line in table.messages)
    assert "val" not in table.counts()


def test_annotations_of_coco_that_cannot_be_used_are_named_by_their_ids(tmp_path: Path) -> None:
    write_images(tmp_path, 4)
    content = coco(4)
    more = {"category_id": 3, "iscrowd": 0}
    content["images"].append({"id": 2000, "file_name": "missing.png", "width": 10, "height": 10})
    content["annotations"] += [
        {"id": 900, "image_id": 77777, "bbox": [1, 1, 5, 5], **more},
        {"id": 901, "image_id": 1000, "bbox": [9, 9, -5, 5], **more},
        {"id": 902, "image_id": 1001, "bbox": [0, 0, 80, 60], **more, "iscrowd": 1},
        {"id": 1, "image_id": 1002, "bbox": [5, 5, 20, 20], **more},
        {"id": 903, "image_id": 1003, "bbox": ["5", "5", "20", "20"], **more},
        {"id": 904, "image_id": 1003, "bbox": [5, 5, 20, 20], **more, "category_id": 4},
        {"id": 905, "image_id": 1003, "bbox": [5, 5, 20], **more},
    ]
    (tmp_path / "instances.json").write_text(json.dumps(content))
    table = sources.read(tmp_path)
    assert reasons(table) == {
        "instances.json annotation 900": "unknown_image",
        "instances.json annotation 901": "bad_box",
        "instances.json annotation 1": "repeated_id",
        "instances.json annotation 904": "unknown_category",
        "instances.json annotation 905": "bad_box",
        "missing.png": "missing_file",
    }
    assert boxes_of(table)["003.png"][-1] == ("disc", (5, 5, 25, 25))
    crowd = [box for row in table.rows if isinstance(row.target, Boxes) for box in row.target.boxes if box.ignored]
    assert [box.corners for box in crowd] == [(0, 0, 80, 60)]


def test_coco_files_of_splits_find_images_of_equal_names_in_their_folders(tmp_path: Path) -> None:
    for split in ("train2017", "val2017"):
        write_images(tmp_path / split, 3)
        path = tmp_path / "annotations" / f"instances_{split}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(coco(3)))
    table = sources.read(tmp_path)
    assert table.counts() == {"train": 3, "val": 3}
    assert {(row.id.split("/")[0], row.split) for row in table.rows} == {("train2017", "train"), ("val2017", "val")}


def test_a_table_of_fractions_and_images_without_objects(tmp_path: Path) -> None:
    write_images(tmp_path, 3)
    (tmp_path / "boxes.csv").write_text(
        "ImageID,LabelName,XMin,XMax,YMin,YMax,split\n000,disc,0.25,0.5,0.25,0.5,train\n001,,,,,,train\n002,disc,0.5,0.75,0.5,1,val\n"
        "009,square,0.5,0.75,0.5,1,val\n002,square,0.5,,0.5,1,val\n"
    )
    table = sources.read(tmp_path)
    assert boxes_of(table) == {"000.png": [("disc", (24, 16, 48, 32))], "001.png": [], "002.png": [("disc", (48, 32, 72, 64))]}
    assert table.counts() == {"train": 2, "val": 1}
    assert set(reasons(table).values()) == {"missing_file", "bad_box"}
    (tmp_path / "boxes.csv").write_text("image,xmin,ymin,xmax,ymax\n000.png,1,1,20,20\n")
    with pytest.raises(DataError, match="no column holds the classes"):
        sources.read(tmp_path)


def test_a_box_lies_in_the_upright_image(tmp_path: Path) -> None:
    write_voc(tmp_path, 2)
    picture = Image.new("RGB", (64, 96), (9, 9, 9))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "JPEGImages" / "000.jpg", exif=exif)
    (target,) = [row.target for row in sources.read(tmp_path).rows if row.id.endswith("000.jpg")]
    assert isinstance(target, Boxes)
    assert (target.width, target.height) == (96, 64)


def test_tables_of_labels_beside_images_are_still_tables_of_labels(tmp_path: Path) -> None:
    write_images(tmp_path, 8)
    lines = [f"{number:03d}.png,{'ab'[number % 2]},{number}" for number in range(8)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label,x", *lines]) + "\n")
    table = sources.read(tmp_path, Columns())
    assert table.task == "classification"


CORNER = Box("a", 2, 3, 12, 8)
"""Near the top left corner of a stored image of 40 x 20."""


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_of_a_stored_image_are_turned_as_its_pixels_are(orientation: int) -> None:
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[3:8, 2:12] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", exif=exif)
    decoded = Image_(size=40, resize=40, fit="pad").decode(buffer.getvalue())
    ys, xs = np.nonzero(decoded.array[..., 0] > 128)
    box = StoredFrame(*stored_size(buffer.getvalue())[0], orientation).turned(CORNER)
    assert box.corners == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)


def test_the_annotation_tells_in_which_frame_boxes_were_absolute() -> None:
    side = StoredFrame(40, 20, 6)
    assert side.in_stored_pixels([CORNER], (40, 20)) is True
    assert side.in_stored_pixels([CORNER], (20, 40)) is False
    assert side.in_stored_pixels([CORNER], (0, 0)) is None, "it fits both"
    assert side.in_stored_pixels([replace(CORNER, right=36)], (0, 0)) is True
    assert side.in_stored_pixels([replace(CORNER, bottom=36)], (0, 0)) is False
    assert StoredFrame(40, 20).in_stored_pixels([CORNER], (0, 0)) is False
    assert StoredFrame(40, 20, 65537).in_stored_pixels([CORNER], (0, 0)) is False, "such numbers are in real files"
    assert StoredFrame(40, 20, 3).in_stored_pixels([CORNER], (40, 20)) is None, "both have this size"


def test_a_coco_file_of_stored_pixels_is_read_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("a.png", "b.png"):
        Image.new("RGB", (40, 20)).save(tmp_path / name, exif=exif)
    images = [{"id": 1, "file_name": "a.png", "width": 40, "height": 20}, {"id": 2, "file_name": "b.png"}]
    boxes = [{"id": at, "image_id": at, "category_id": 1, "bbox": [2, 3, 10, 5]} for at in (1, 2)]
    record = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "instances.json").write_text(json.dumps(record))
    table = sources.read(tmp_path)
    first, second = (row.target for row in table.rows)
    assert isinstance(first, Boxes)
    assert isinstance(second, Boxes)
    assert (first.width, first.height) == (20, 40)
    assert first.boxes[0].corners == (12, 2, 17, 12)
    assert second.boxes[0].corners == (2, 3, 12, 8)
    assert any("drawn before that, and turned too (a.png" in one for one in table.messages)
    assert any("no annotation tells" in one and "b.png" in one for one in table.messages)
