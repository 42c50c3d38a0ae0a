"""Pictures for people: a training batch as the model sees it, one item under each augmentation, the worst mistakes.

Written into the run's `pictures/` folder, each with a JSON file that says what it shows. Sounds are shown by their
spectrograms, and mistakes can be heard; texts get no sheet, and mistakes carry their text.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pretune import registry
from pretune.augmentations import Augmentation, preset
from pretune.deploy import _predictions
from pretune.deploy._sheets import Pixels, sheet, thumbnail
from pretune.modalities import Modality
from pretune.modalities.audio import Audio
from pretune.modalities.transforms.spectrogram import spectrogram
from pretune.printable import printable
from pretune.runner.phases import Work, view_of
from pretune.runner.prepare import Prepared
from pretune.types import Batch, Row

BATCH = 12
DRAWS = 6
MISTAKES = 24
_TEXT = 600
"""Characters of a text that are kept."""
_SECONDS = 5.0
"""Seconds of a sound that are kept."""


def write(run: Path, work: Work, data: Prepared) -> None:
    """Write all pictures that this run's data allow.

    Args:
        run: the run's folder, predictions.csv in it.
        work: the trained model's recipe, augmentations and views.
        data: the items.
    """
    folder = run / "pictures"
    folder.mkdir(exist_ok=True)
    _write_mistakes(folder, _predictions.read(run / "predictions.csv", data.task, data.score), data)
    first = data.modality.view(data.ingested.store[int(data.parts["train"][0])], None, None)
    if _shown(first, data.modality) is not None:
        _write_batch(folder, work, data)
        _write_augmentations(folder, work, data)


def _write_batch(folder: Path, work: Work, data: Prepared) -> None:
    raw = replace(work, frozen=None)  # cached features are what the head sees; people want the pictures below them
    train = view_of(raw, data.parts["train"], training=True)
    index = np.random.default_rng(work.recipe.training.seed).permutation(len(train))[:BATCH]
    batch = train.batch(np.sort(index), 1)
    captions = _captions(batch, data)
    tiles = list(zip(_pixels(batch.inputs.tensor, data.modality), captions, strict=True))
    picture = sheet([("", tiles[k : k + DRAWS]) for k in range(0, len(tiles), DRAWS)])
    names = ", ".join(registry.name_of(part) for part in work.parts)
    note = f"after {names}" if names else "no augmentation"
    _save(folder, "batch", picture, note, captions)


def _write_augmentations(folder: Path, work: Work, data: Prepared) -> None:
    """Draw each of the run's augmentations, or of the lightest preset: others may import libraries that this run did not need."""
    parts = work.parts or preset("light", registry.name_of(data.modality))
    photo = data.ingested.store[int(data.parts["train"][0])]
    rows = [("as it is scored", [(pixels, "") for pixels in _collated([data.modality.view(photo, None, None)], data.modality)])]
    rows += [(registry.name_of(part), [(pixels, "") for pixels in _drawn(part, photo, data)]) for part in parts]
    names = [registry.name_of(part) for part in parts]
    note = f"{DRAWS} draws each" if work.parts else f"this run used none; augment=light would do this, {DRAWS} draws each"
    _save(folder, "augmentations", sheet(rows, 120), note, names)


def _drawn(part: Augmentation, photo: NDArray[Any], data: Prepared) -> list[Pixels]:
    """Return draws of one augmentation; those that act on batches find other items beside the photo, to mix with."""
    modality = data.modality
    if part.acts == "view":
        return _collated([modality.view(photo, part, np.random.default_rng(seed)) for seed in range(DRAWS)], modality)
    others = np.resize(data.parts["train"][1:], DRAWS) if len(data.parts["train"]) > 1 else np.zeros(DRAWS, dtype=np.int64)
    positions = np.stack([np.full(DRAWS, data.parts["train"][0]), others], axis=1).ravel()
    inputs = modality.collate([modality.view(data.ingested.store[int(i)], None, None) for i in positions])
    batch = Batch(inputs=inputs, labels=data.encoded.take(torch.from_numpy(positions)), index=torch.arange(len(positions)))
    changed = part.apply(batch, torch.Generator().manual_seed(1), len(data.space.classes) or None)  # ty: ignore[missing-attribute]
    return _pixels(changed.inputs.tensor[::2], modality)


def _write_mistakes(folder: Path, predictions: list[_predictions.Prediction], data: Prepared) -> None:
    place = {printable(data.rows[i].id): int(i) for i in data.parts[data.score]}
    listed = []
    for k, prediction in enumerate(_predictions.worst(predictions, MISTAKES)):
        position = place[prediction.id]
        array = data.ingested.store[position]
        entry: dict[str, Any] = {"id": prediction.id}
        pixels = _shown(array, data.modality)
        if pixels is not None:
            entry["picture"] = f"mistake-{k:02d}.jpg"
            thumbnail(pixels, 240).save(folder / entry["picture"], quality=82)
            if isinstance(data.modality, Audio):
                entry["audio"] = f"mistake-{k:02d}.flac"
                _write_sound(folder / entry["audio"], array, data.modality)
        else:
            entry["text"] = _text(data.rows[position])
        listed.append(entry)
    if listed:
        _write_json(folder / "mistakes.json", listed)


def _write_sound(path: Path, array: NDArray[Any], modality: Audio) -> None:
    """Write what the model heard of a clip, its first seconds, no louder than full scale."""
    import soundfile

    samples = modality.view(array, None, None)[: round(_SECONDS * modality.sample_rate)].astype(np.float32)
    soundfile.write(path, samples / max(1.0, float(np.abs(samples).max())), modality.sample_rate, format="FLAC", subtype="PCM_16")


def _text(row: Row) -> str:
    """Return the beginning of an inline text on one line; empty where the row has none."""
    words = " ⁄ ".join(row.text or ()).split()
    text = " ".join(words)
    return text if len(text) <= _TEXT else text[:_TEXT] + " …"


def _shown(array: NDArray[Any], modality: Modality) -> Pixels | None:
    """Return what a person sees of an item: a picture itself, a sound's spectrogram, nothing of a text."""
    if _has_pixels(array):
        return array
    return spectrogram(array, modality.sample_rate) if isinstance(modality, Audio) else None


def _has_pixels(array: NDArray[Any]) -> bool:
    return array.ndim == 3 and array.shape[2] == 3 and array.dtype == np.uint8


def _collated(views: list[NDArray[Any]], modality: Modality) -> list[Pixels]:
    return _pixels(modality.collate(views).tensor, modality)


def _pixels(raw: torch.Tensor, modality: Modality) -> list[Pixels]:
    """Return raw pictures 0..255 of any number type as (H, W, 3) bytes, raw sounds as spectrograms."""
    if isinstance(modality, Audio):
        return [spectrogram(samples, modality.sample_rate) for samples in raw.numpy()]
    return list(raw.float().round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy())


def _captions(batch: Batch, data: Prepared) -> list[str]:
    """Return each item's target by name; of a mixture, the shares."""
    return [""] * batch.size if batch.labels is None else data.task.captions(batch.labels, data.space)


def _save(folder: Path, name: str, picture: Image.Image, note: str, captions: list[str]) -> None:
    picture.save(folder / f"{name}.jpg", quality=84)
    _write_json(folder / f"{name}.json", [{"picture": f"{name}.jpg", "note": note, "captions": captions}])


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=True, indent=1), encoding="utf-8")
