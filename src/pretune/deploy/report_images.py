"""Images for people: a training batch as the model takes it, one example under each augmentation, examples of predictions.

Written into the run's `pictures/` folder, with JSON files that list them. Audio is shown by its spectrogram, and examples of
predictions can be played; text has no images, and examples of predictions carry their text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pretune import registry
from pretune.augmentations import Augmentation, BatchAugmentation, ViewAugmentation, preset
from pretune.deploy import _gallery, _predictions, _rectangles
from pretune.deploy._gallery import Pixels, Strip, Tile, thumbnail, write_audio, write_json
from pretune.modalities import Modality
from pretune.modalities.audio import Audio
from pretune.modalities.transforms.spectrogram import spectrogram
from pretune.printable import printable
from pretune.runner.prepare import Prepared
from pretune.runner.state import FineTuningState
from pretune.tasks import Rectangle
from pretune.types import Batch, Row

BATCH = 12
DRAWS = 6
RIGHT = 12
"""Examples of right predictions."""
_TEXT = 600
"""Characters of a text that are kept."""


def write(run: Path, state: FineTuningState, data: Prepared) -> None:
    """Write all images that this run's data allow.

    Args:
        run: the run's folder, predictions.csv in it.
        state: the trained model's recipe, augmentations and views.
        data: the examples.
    """
    folder = run / "pictures"
    folder.mkdir(exist_ok=True)
    scored = _predictions.read_predictions(run / "predictions.csv", data.task, data.score)
    _write_examples(folder, "mistakes", _predictions.worst(scored, _predictions.MISTAKES), data)
    _write_examples(folder, "right", _predictions.right(scored, RIGHT, state.recipe.training.seed), data)
    first = data.modality.view(data.ingested.store[int(data.splits["train"][0])], None, None)
    if _shown(first, data.modality) is not None:
        _write_batch(folder, state, data)
        _write_augmentations(folder, state, data)


def _write_batch(folder: Path, state: FineTuningState, data: Prepared) -> None:
    raw = replace(state, frozen=None)  # cached features are what the head sees; people want the images below them
    train = raw.view(data.splits["train"], training=True)
    index = np.random.default_rng(state.recipe.training.seed).permutation(len(train))[:BATCH]
    batch = train.batch(np.sort(index), 1)
    names = ", ".join(registry.name_of(part) for part in state.augmentations)
    note = f"after {names}" if names else "no augmentation"
    tiles = _tiles(batch.inputs.tensor, data.modality, _captions(batch, data))
    if batch.labels is not None and batch.inputs.tensor.ndim == 4:
        outlined = data.task.outlined(batch.labels, data.space, (batch.inputs.tensor.shape[2], batch.inputs.tensor.shape[3]))
        tiles = [replace(tile, pixels=_with_boxes(tile.pixels, boxes)) for tile, boxes in zip(tiles, outlined, strict=True)]
    _gallery.write(folder, "batch", [Strip(tiles=tiles)], note)


def _with_boxes(pixels: Pixels, boxes: Sequence[Rectangle]) -> Pixels:
    return np.asarray(_rectangles.draw(Image.fromarray(np.ascontiguousarray(pixels)), boxes)) if boxes else pixels


def _write_augmentations(folder: Path, state: FineTuningState, data: Prepared) -> None:
    """Draw each of the run's augmentations, or of the lightest preset: others may import libraries that this run did not need."""
    parts = state.augmentations or preset("light", registry.name_of(data.modality))
    photo = data.ingested.store[int(data.splits["train"][0])]
    strips = [Strip(heading="at evaluation", tiles=_collated([data.modality.view(photo, None, None)], data.modality))]
    strips += [Strip(heading=registry.name_of(part), tiles=_sampled(part, photo, data)) for part in parts]
    note = (
        f"{DRAWS} samples each"
        if state.augmentations
        else f"this run used no augmentation; this is what augment=light would do, {DRAWS} samples each"
    )
    _gallery.write(folder, "augmentations", strips, note)


def _sampled(part: Augmentation, photo: NDArray[Any], data: Prepared) -> list[Tile]:
    """Return samples of one augmentation; those that act on batches find other examples beside the photo, to mix with."""
    modality = data.modality
    if isinstance(part, ViewAugmentation):
        return _collated([modality.view(photo, part, np.random.default_rng(seed)) for seed in range(DRAWS)], modality)
    assert isinstance(part, BatchAugmentation)
    others = np.resize(data.splits["train"][1:], DRAWS) if len(data.splits["train"]) > 1 else np.zeros(DRAWS, dtype=np.int64)
    positions = np.stack([np.full(DRAWS, data.splits["train"][0]), others], axis=1).ravel()
    inputs = modality.collate([modality.view(data.ingested.store[int(i)], None, None) for i in positions])
    batch = Batch(inputs=inputs, labels=data.labels_at(positions), index=torch.arange(len(positions)))
    changed = part.apply(batch, torch.Generator().manual_seed(1), len(data.space.classes) or None)
    return _tiles(changed.inputs.tensor[::2], modality)


def _write_examples(folder: Path, name: str, predictions: list[_predictions.Prediction], data: Prepared) -> None:
    """Write what a person needs to judge predictions: the image, the audio with its spectrogram, or the text of each example."""
    place = {printable(data.rows[i].id): int(i) for i in data.splits[data.score]}
    listed = []
    for k, prediction in enumerate(predictions):
        position = place[prediction.id]
        array = data.ingested.store[position]
        entry: dict[str, Any] = {"id": prediction.id}
        pixels = _shown(array, data.modality)
        if pixels is not None:
            entry["picture"] = f"{name}-{k:02d}.jpg"
            rectangles = data.task.rectangles(prediction.row)
            image = _rectangles.draw(thumbnail(pixels, 400 if rectangles else 240), rectangles)
            image.save(folder / entry["picture"], quality=82)
            if isinstance(data.modality, Audio):
                entry["audio"], entry["axes"] = f"{name}-{k:02d}.flac", _axes(len(array), data.modality)
                view, rate = data.modality.view(array, None, None), data.modality.sample_rate
                entry["seconds"] = write_audio(folder / entry["audio"], view, rate, whole=data.task.whole)
        else:
            entry["text"] = _text(data.rows[position])
        listed.append(entry)
    if listed:
        write_json(folder / f"{name}.json", listed)


def _text(row: Row) -> str:
    """Return the beginning of an inline text on one line; empty where the row has none."""
    words = " ⁄ ".join(row.text or ()).split()
    text = " ".join(words)
    return text if len(text) <= _TEXT else text[:_TEXT] + " …"


def _shown(array: NDArray[Any], modality: Modality) -> Pixels | None:
    """Return what a person sees of an example: an image itself, the spectrogram of audio, nothing of a text."""
    if _has_pixels(array):
        return array
    return spectrogram(array, modality.sample_rate) if isinstance(modality, Audio) else None


def _has_pixels(array: NDArray[Any]) -> bool:
    return array.ndim == 3 and array.shape[2] == 3 and array.dtype == np.uint8


def _axes(samples: int, modality: Audio) -> tuple[float, float]:
    """Return the seconds and the kHz that a spectrogram shows."""
    return samples / modality.sample_rate, modality.sample_rate / 2000


def _collated(views: list[NDArray[Any]], modality: Modality) -> list[Tile]:
    return _tiles(modality.collate(views).tensor, modality)


def _tiles(raw: torch.Tensor, modality: Modality, captions: Sequence[str] = ()) -> list[Tile]:
    """Return raw images 0..255 of any number type (N, 3, H, W), or raw audio (N, T) as spectrograms, with their captions."""
    captions = captions or [""] * len(raw)
    if isinstance(modality, Audio):
        axes = _axes(raw.shape[-1], modality)
        return [
            Tile(pixels=spectrogram(samples, modality.sample_rate), caption=caption, axes=axes)
            for samples, caption in zip(raw.numpy(), captions, strict=True)
        ]
    images = raw.float().round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()
    return [Tile(pixels=pixels, caption=caption) for pixels, caption in zip(images, captions, strict=True)]


def _captions(batch: Batch, data: Prepared) -> list[str]:
    """Return each example's target by name; of a mixture, the shares."""
    return [""] * batch.size if batch.labels is None else data.task.captions(batch.labels, data.space)
