"""Found boxes as other tools read them: a COCO file, YOLO's label files, or the images with boxes drawn."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pretune import registry
from pretune.deploy import _saved_model
from pretune.errors import SettingError
from pretune.training.run_dir import write_atomic

Predictions = Sequence[Mapping[str, Any]]
"""Rows as `predict` gives them: id, width, height, boxes; or id and error."""


def write(run: Path, rows: Predictions, inputs: Path, out: Path, format: str) -> str:
    """Write what `predict` gave in a format of the run's task, and return a sentence on it.

    Args:
        run: the run's folder.
        rows: of all inputs, those that could not be read among them.
        inputs: what was predicted, a folder or a file; ids are relative to it.
        out: a file for coco, else a folder.
        format: coco, yolo or images; label files and images have the boxes from the task's score on, a COCO file has all with theirs.

    Raises:
        SettingError: the run's task has no such format, or `out` cannot be what it needs.
    """
    saved_model = _saved_model.read_saved_model(run)
    task, classes = saved_model.task, saved_model.space.classes
    if format not in task.formats:
        known = ", ".join(task.formats) if task.formats else "rows only: leave format out"
        raise SettingError(f"format={format} is for boxes; {run} is a run of task={registry.name_of(task)}, which writes {known}.")
    score = task.least_score
    if format == "coco":
        if out.suffix.lower() != ".json":
            raise SettingError(f"out={out}: format=coco writes one JSON file. Name it, for example out=boxes.json")
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(out, json.dumps(coco(rows, classes), ensure_ascii=False).encode())
        return f"the boxes of {len(rows)} images are written to {out} (COCO; each annotation has its score)"
    if out.exists() and not out.is_dir():
        raise SettingError(f"out={out} is a file, and format={format} writes a folder. Name another.")
    out.mkdir(parents=True, exist_ok=True)
    written = [_write_yolo(row, classes, out, score) if format == "yolo" else _write_image(row, inputs, out, score) for row in rows]
    if format == "yolo":
        (out / "classes.txt").write_text("\n".join(classes) + "\n", encoding="utf-8")
    what = "label files (class, x, y, width, height, score)" if format == "yolo" else "images with boxes"
    return f"{sum(written)} {what} are written to {out}"


def coco(rows: Predictions, classes: Sequence[str]) -> dict[str, Any]:
    """Return images, categories and annotations; the annotations alone are what COCO's tools call results."""
    number = {name: at + 1 for at, name in enumerate(classes)}
    read = [row for row in rows if "boxes" in row]
    annotations: list[dict[str, Any]] = []
    for at, row in enumerate(read):
        for one in row["boxes"]:
            left, top, right, bottom = one["box"]
            sides = [left, top, round(right - left, 1), round(bottom - top, 1)]
            entry = {"id": len(annotations) + 1, "image_id": at + 1, "category_id": number[one["class"]], "bbox": sides}
            annotations.append({**entry, "area": sides[2] * sides[3], "iscrowd": 0, "score": one["score"]})
    images = [{"id": at + 1, "file_name": row["id"], "width": row["width"], "height": row["height"]} for at, row in enumerate(read)]
    return {"images": images, "annotations": annotations, "categories": [{"id": at, "name": name} for name, at in number.items()]}


def _write_yolo(row: Mapping[str, Any], classes: Sequence[str], out: Path, score: float) -> bool:
    """Write one label file, empty where nothing was found; none where the image could not be read."""
    if "boxes" not in row:
        return False
    lines = []
    for one in row["boxes"]:
        left, top, right, bottom = one["box"]
        width, height = row["width"], row["height"]
        sides = ((left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width, (bottom - top) / height)
        if one["score"] >= score:
            lines.append(" ".join([str(classes.index(one["class"])), *(f"{value:.6f}" for value in sides), f"{one['score']:.4f}"]))
    path = _below(out, row["id"], ".txt")
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return True


def _write_image(row: Mapping[str, Any], inputs: Path, out: Path, score: float) -> bool:
    from PIL import Image, ImageOps

    from pretune.deploy._rectangles import draw
    from pretune.tasks import Rectangle

    if "boxes" not in row:
        return False
    path = inputs / row["id"] if inputs.is_dir() else inputs.parent / row["id"]
    width, height = row["width"], row["height"]
    rectangles = [
        Rectangle(
            left=one["box"][0] / width,
            top=one["box"][1] / height,
            right=one["box"][2] / width,
            bottom=one["box"][3] / height,
            label=f"{one['class']} {one['score']:.2f}",
            mark="right",
        )
        for one in row["boxes"]
        if one["score"] >= score
    ]
    with Image.open(path) as image:
        draw(ImageOps.exif_transpose(image).convert("RGB"), rectangles).save(_below(out, row["id"], ".jpg"), quality=90)
    return True


def _below(out: Path, item: str, ending: str) -> Path:
    """Return the file of an image below a folder, in the folders that the image lies in."""
    path = out.joinpath(*[part for part in Path(item).with_suffix(ending).parts if part not in ("..", "/")])
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
