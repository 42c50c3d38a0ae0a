"""The examples that the report shows: the worst mistakes, right predictions, galleries of images and audio."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pretune import saved
from pretune.deploy import _predictions
from pretune.deploy.run_files import Files
from pretune.evaluation.wording import show
from pretune.printable import printable

Section = dict[str, Any] | None

_MIME = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".wav": "audio/wav",
    ".flac": "audio/flac",
}


def mistakes(files: Files) -> Section:
    """Return the worst mistakes: images, audio or text where the run kept them, else names."""
    predicted = [p for p in files.predictions if p.row.get("written") != "no"]
    wrong = sum(not p.right for p in predicted)
    if not wrong:
        return None
    found = _examples(files, "mistakes", _predictions.worst(predicted, _predictions.MISTAKES))
    is_label = files.task.reads.form in ("class", "classes")
    return {**found, "examples": len(predicted), "wrong": wrong, "is_number": files.task.numbers, "is_label": is_label}


def correct(files: Files) -> Section:
    """Return a few examples that were predicted rightly, where the run kept any."""
    kept = {printable(entry["id"]) for entry in listed(files.run / "pictures" / "right.json")}
    chosen = [p for p in files.predictions if p.id in kept]
    return _examples(files, "right", chosen) if chosen else None


def _examples(files: Files, name: str, predictions: Sequence[_predictions.Prediction]) -> dict[str, Any]:
    """Return cards of predictions, with what the run kept of each example."""
    folder = files.run / "pictures"
    kept = {printable(entry["id"]): entry for entry in listed(folder / f"{name}.json")}
    cards = [_card(files, p, kept.get(p.id, {}), folder) for p in predictions]
    return {
        "split": files.metrics["primary"]["split"],
        "examples": len(files.predictions),
        "cards": cards,
        "gallery": any(card["picture"] or card["audio"] for card in cards),
        "audio": any(card["audio"] for card in cards),
    }


def _card(files: Files, p: _predictions.Prediction, entry: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    is_number = files.task.numbers
    none = "nothing" if files.task.reads.form == "own" else "no label"
    return {
        "id": p.id,
        "right": p.right,
        "true": show("mae", float(p.target)) if is_number else p.target.replace("|", ", ") or none,
        "predicted": show("mae", float(p.prediction)) if is_number else p.prediction.replace("|", ", ") or none,
        "sure": "" if p.confidence is None else f"{100 * p.confidence:.0f} %",
        "text": entry.get("text") or "",
        "lines": files.task.compare(p.row, entry.get("text") or ""),
        **_media(folder, entry),
    }


def _media(folder: Path, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the image and the audio of an entry, embedded, with what a spectrogram's axes show."""
    axes, seconds = entry.get("axes"), entry.get("seconds")
    return {
        "picture": embed(folder, entry.get("picture")),
        "audio": embed(folder, entry.get("audio")),
        "axes": {"seconds": f"{axes[0]:.2g} s", "khz": f"{axes[1]:g} kHz"} if axes else None,
        "seconds": "" if seconds is None else f"{seconds:.2g} s",
    }


def galleries(folder: Path) -> Section:
    """Return the galleries that the run wrote, with their images embedded."""
    files = {name: listed(folder / f"{name}.json") for name in ("batch", "augmentations", "samples")}
    out = {
        name: {
            "note": found[0]["note"],
            "rows": [
                {"heading": row["heading"], "tiles": [{"caption": tile["caption"], **_media(folder, tile)} for tile in row["tiles"]]}
                for row in found[0]["rows"]
            ],
        }
        for name, found in files.items()
        if found and "rows" in found[0]
    }
    return out or None


def listed(path: Path) -> list[Any]:
    """Return what a JSON file lists; nothing where there is no such file."""
    return saved.json_of(path, list) if path.exists() else []


def embed(folder: Path, name: str | None) -> str:
    """Return a file of the run folder as a data address; empty where there is none."""
    path = saved.inside(folder, name, folder) if name else None
    if path is None or not path.is_file():
        return ""
    return f"data:{_MIME[path.suffix.lower()]};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
