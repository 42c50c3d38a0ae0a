"""Run folders made up on the spot, for the report: every task, with hostile names, with parts missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pretune.evaluation import intervals, metrics
from pretune.evaluation.diagnosis import diagnose
from pretune.training.run_dir import RunDir
from tests import baselines

HOSTILE = '<script>alert("x")</script>\n\u202eevil \U0001f41d & "q".jpg'


def classification(folder: Path, *, names: list[str], items: int = 153, skill: float = 3.0, seed: int = 0, pictures: bool = True) -> Path:
    """Write a finished classification run; the first item has a hostile name."""
    rng = np.random.default_rng(seed)
    count = len(names)
    targets = rng.integers(count, size=items)
    scores = rng.normal(size=(items, count)) * 1.2 + skill * np.eye(count)[targets]
    probabilities = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    val = metrics.classification(probabilities, targets, names)
    val["interval"] = {k: list(v) for k, v in intervals.intervals(probabilities, targets).items()}
    features = rng.normal(size=(items, 8)) + 0.6 * np.eye(count)[targets][:, :1]
    given = _floors("classification", features, features, targets, names)
    counts = {
        "train": 12 * count,
        "val": items,
        "per_class": {n: {"train": 12, "val": int((targets == c).sum())} for c, n in enumerate(names)},
    }
    rows = [_row(i, names[targets[i]], names[int(p.argmax())], p, names) for i, p in enumerate(probabilities)]
    train = {**val, "accuracy": 0.998}
    _write(folder, "classification", "accuracy", {"train": train, "val": val}, given, counts, rows, names)
    if pictures:
        _pictures(folder, [row["id"] for row in rows])
    return folder


def regression(folder: Path, items: int = 140) -> Path:
    """Write a finished regression run without images."""
    rng = np.random.default_rng(0)
    targets = rng.integers(10, size=items).astype(float)
    told = targets + rng.normal(0, 1.1, items)
    val = metrics.regression(told, targets)
    val["interval"] = {k: list(v) for k, v in intervals.intervals(told, targets).items()}
    features = rng.normal(size=(items, 5)) + targets[:, None]
    given = _floors("regression", features, features, targets, [])
    rows = [{"id": f"{i}.jpg", "split": "val", "target": t, "prediction": p} for i, (t, p) in enumerate(zip(targets, told, strict=True))]
    _write(folder, "regression", "mae", {"train": {"mae": 0.4}, "val": val}, given, {"train": 500, "val": items}, rows, [])
    return folder


def multilabel(folder: Path, items: int = 200) -> Path:
    """Write a finished multilabel run on texts."""
    rng = np.random.default_rng(0)
    names = ["beach", "forest", "mountain", "night sky"]
    targets = (rng.random((items, 4)) < (0.5, 0.3, 0.3, 0.1)).astype(float)
    probabilities = np.clip(0.5 * targets + 0.6 * rng.random((items, 4)), 0.001, 0.999)
    val = metrics.multilabel(probabilities, targets, names)
    val["interval"] = {k: list(v) for k, v in intervals.intervals(probabilities, targets).items()}
    given = _floors("multilabel", rng.normal(size=(items, 4)) + targets, rng.normal(size=(items, 4)), targets, names)

    def named(row: Any) -> str:
        return "|".join(n for n, yes in zip(names, row, strict=True) if yes > 0.5)

    rows = [_row(i, named(t), named(p), p, names) for i, (t, p) in enumerate(zip(targets, probabilities, strict=True))]
    counts = {"train": 800, "val": items, "per_class": {n: {"train": 200, "val": 50} for n in names}}
    _write(folder, "multilabel", "macro_f1", {"train": {"macro_f1": 0.97}, "val": val}, given, counts, rows, names)
    texts = [{"id": row["id"], "text": f"a walk <b>{i}</b> in the hills 山 and by the sea"} for i, row in enumerate(rows)]
    (folder / "pictures").mkdir()
    (folder / "pictures" / "mistakes.json").write_text(json.dumps(texts), encoding="utf-8")
    return folder


def _floors(task: str, train: Any, held: Any, targets: Any, names: list[str]) -> dict[str, Any]:
    return baselines.floors(task, train, targets, held, targets, names, words="colour histogram and HOG")


def events(steps: int = 240, *, every: int = 8, phases: tuple[str, ...] = ("head", "all")) -> list[dict[str, Any]]:
    """Return the events of a run in two phases, with a part that selects."""
    rng = np.random.default_rng(0)
    out: list[dict[str, Any]] = []
    for number, phase in enumerate(phases):
        out.append({"event": "started", "phase": phase, "step": 0, "steps": steps, "trainable": 10})
        for step in range(1, steps + 1):
            gone = (step + number * steps) / (2 * steps)
            loss = 1.6 * np.exp(-4 * gone) + 0.12 + 0.08 * rng.random()
            lr = 3e-3 * np.sin(np.pi * step / steps) ** 2 / (1 + 9 * number)
            out.append(
                {
                    "event": "stepped",
                    "phase": phase,
                    "step": step,
                    "epoch": (step - 1) // every,
                    "loss": loss,
                    "lr": lr,
                    "seconds": step * 0.02,
                    "waited": step * 0.001,
                }
            )
            if step % every == 0:
                for part, gap in (("select", 0.02), ("val", 0.0)):
                    value = 0.95 - 0.4 * np.exp(-5 * gone) - gap + 0.01 * rng.random()
                    figures = {"accuracy": value, "macro_f1": value, "log_loss": 1.2 * np.exp(-3 * gone) + 0.2, "mae": 3 - 2 * value}
                    out.append(
                        {
                            "event": "evaluated",
                            "phase": phase,
                            "step": step,
                            "epoch": step // every,
                            "split": part,
                            "metrics": figures,
                            "best": part == "select" and step == 200,
                        }
                    )
    return out


def _row(i: int, target: str, told: str, probabilities: Any, names: list[str]) -> dict[str, Any]:
    shares = {f"p_{n}": round(float(p), 6) for n, p in zip(names, probabilities, strict=True)}
    return {
        "id": f"{target}/{i:04d}.jpg" if i else HOSTILE,
        "split": "val",
        "target": target,
        "prediction": told,
        "confidence": float(max(probabilities)),
        **shares,
    }


def _write(
    folder: Path,
    task: str,
    primary: str,
    figures: dict[str, Any],
    given: dict[str, Any],
    counts: dict[str, Any],
    rows: list[dict[str, Any]],
    names: list[str],
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    run, history = RunDir(folder), events()
    dropped = [
        {"item": "bees/notes.jpg", "action": "dropped", "reason": "unreadable", "detail": "is not an image (starts with 'Dear all')"}
    ]
    dropped += [
        {"item": f"ants/{i}.tif", "action": "repaired", "reason": "sixteen_bit", "detail": "16-bit grey was scaled to 8 bits"}
        for i in range(14)
    ]
    counts = {"used": counts["train"] + counts["val"], "dropped": 1, **counts}
    told = {
        "task": task,
        "primary": {"name": primary, "value": figures["val"][primary], "split": "val"},
        **figures,
        "floors": given,
        "counts": counts,
        "classes": names,
        "timing": {"data_s": 1.9, "features_s": 3.4, "train_s": 0.6, "saved_s": 7.3, "evaluation_s": 0.02, "floors_s": 0.5, "total_s": 8.4},
        "peak_rss_mb": 911.4,
        "backbone": "package:efficientnet_lite0",
        "strategy": "linear_probe",
        "params": {"total": 3_374_154, "trainable": 2_562},
        "features_precision": {"bfloat16": True, "reason": "120 images/s on one core; float32: 57"},
        "notes": [
            "task classification: 2 folders of pictures",
            "strategy linear_probe (the default here: one pass over the data, and hard to beat with few labels)",
            "features: precision=bfloat16 (120 images/s on one core; float32: 57)",
        ],
        "diagnosis": diagnose(history, {"primary": {"name": primary, "split": "val"}, **figures}, given, counts),
    }
    run.write_json("metrics.json", told)
    findings = [
        {
            "kind": "leak",
            "severity": "warning",
            "message": "2 items of val are near-duplicates of train items: the score flatters. Remove them.",
            "items": ["val/a.jpg", HOSTILE],
        },
        {"kind": "size", "severity": "note", "message": "Pictures are 180 to 500 pixels high.", "items": []},
    ]
    run.write_json(
        "audit.json",
        {
            "layout": "class folders with train and val splits",
            "root": "/data/photos",
            "messages": ["task classification: 2 folders of pictures"],
            "findings": findings,
        },
    )
    run.write_json(
        "recipe.json",
        {"data": "photos/", "backbone": None, "strategy": {"name": "linear_probe"}, "training": {"lr": None, "epochs": 30, "seed": 0}},
    )
    run.write_json("environment.json", {"python": "3.11", "cpu": "a processor", "threads": 2, "packages": {"torch": "2.14.1"}})
    run.write_csv("ledger.csv", ["item", "action", "reason", "detail"], dropped)
    run.write_csv("predictions.csv", list(rows[0]), rows)
    run.append_events(history)


def _pictures(folder: Path, ids: list[str]) -> None:
    from pretune.deploy import _gallery
    from pretune.deploy._gallery import Strip, Tile

    rng = np.random.default_rng(0)
    inside = folder / "pictures"
    inside.mkdir()
    tiles = [rng.integers(0, 255, (12, 16, 3), dtype=np.uint8) for _ in range(12)]
    named = [Tile(pixels=pixels, caption="bee" if k else HOSTILE) for k, pixels in enumerate(tiles)]
    _gallery.write(inside, "batch", [Strip(tiles=named)], "no augmentation")
    attends_padding = [Tile(pixels=pixels, axes=(1.2, 8.0), audio=(np.zeros(1600), 16_000)) for pixels in tiles[:6]]
    _gallery.write(inside, "augmentations", [Strip(heading="flip (in use)", tiles=attends_padding)], "6 samples each")
    for k in range(len(ids)):
        Image.fromarray(tiles[k % 12]).resize((240, 180)).save(inside / f"m{k}.jpg") if k < 40 else None
    (inside / "mistakes.json").write_text(json.dumps([{"id": name, "picture": f"m{k % 40}.jpg"} for k, name in enumerate(ids)]))
    (inside / "right.json").write_text(json.dumps([{"id": name, "picture": "m0.jpg"} for name in ids]))
