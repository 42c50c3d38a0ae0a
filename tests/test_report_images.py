"""Images of a run: a training batch, what each augmentation does, predictions that are wrong and right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from pretune import registry
from pretune.augmentations import Augmentation
from pretune.deploy import report_images
from pretune.labels import Labels
from pretune.modalities.audio import Audio
from pretune.modalities.image import Image
from pretune.recipe import Recipe
from pretune.runner.prepare import Prepared
from pretune.runner.state import FineTuningState
from pretune.storage.ingest import Ingested
from pretune.tasks import Space
from pretune.training.run_dir import RunDir
from pretune.types import Row
from tests.conftest import Numbers

NAMES = ("ants", "蜜蜂")


class Arrays(list[Any]):
    """A store in memory."""

    @property
    def lengths(self) -> Any:
        """Rows of each item."""
        return np.array([len(array) for array in self])


def prepared(arrays: list[Any], modality: Any, *, text: bool = False) -> Prepared:
    words = [(f"item {i} is\nlong " + "x" * 900,) if text else None for i in range(len(arrays))]
    rows = [Row(id=f"{i}", text=words[i], target=NAMES[i % 2], split="train" if i < 8 else "val") for i in range(len(arrays))]
    ingested = Ingested(store=cast("Any", Arrays(arrays)), rows=rows, ledger=[], hashes=[], hit=True, seconds=0.0)
    return Prepared(
        table=cast("Any", None),
        ingested=ingested,
        rows=rows,
        task=registry.load("tasks", "classification")(),
        space=Space(classes=NAMES),
        encoded=Labels.of(torch.arange(len(rows)) % 2),
        splits={"train": np.arange(8), "val": np.arange(8, len(rows))},
        findings=[],
        ledger=[],
        modality=modality,
        units=np.arange(len(rows)),
    )


def work_with(data: Prepared, parts: tuple[Augmentation, ...]) -> FineTuningState:
    unused = cast("Any", None)
    return FineTuningState(
        run=unused, optim=unused, learner=unused, recipe=Recipe(data="x"), strategy=unused, backbone=unused, model=unused,
        features=unused, data=data,
        augmentations=parts,
    )  # fmt: skip


def with_predictions(run: Path) -> Path:
    rows = [
        {"id": str(i), "split": "val", "target": NAMES[i % 2], "prediction": NAMES[i > 9], "confidence": 0.5 + i / 50} for i in range(8, 14)
    ]
    RunDir(run).write_csv("predictions.csv", list(rows[0]), rows)
    return run


@pytest.mark.parametrize("names", [(), ("random_resized_crop", "flip"), ("mixup",)])
def test_a_run_on_images_has_its_sheets_and_mistakes(tmp_path: Path, names: tuple[str, ...]) -> None:
    rng = np.random.default_rng(0)
    data = prepared([rng.integers(0, 255, (40, 50, 3), dtype=np.uint8) for _ in range(14)], Image(size=32, resize=36))
    work = work_with(data, tuple(registry.load("augmentations", name)() for name in names))
    report_images.write(with_predictions(tmp_path), work, data)
    batch, augmentations, mistakes = (
        json.loads((tmp_path / "pictures" / f"{name}.json").read_text()) for name in ("batch", "augmentations", "mistakes")
    )
    tiles = [tile for row in batch[0]["rows"] for tile in row["tiles"]]
    assert len(tiles) == 8
    assert {Pillow.open(tmp_path / "pictures" / tile["picture"]).size for tile in tiles} == {(160, 160)}
    assert ("mixup" in names) == any("+" in tile["caption"] for tile in tiles)
    assert [row["heading"] for row in augmentations[0]["rows"]] == ["at evaluation", *(names or ("random_resized_crop", "flip"))]
    assert [len(row["tiles"]) for row in augmentations[0]["rows"]] == [1] + [6] * len(names or (1, 2))
    assert ("this run used no augmentation" in augmentations[0]["note"]) == (not names)
    assert [m["id"] for m in mistakes] == ["12", "10", "9"]
    right = json.loads((tmp_path / "pictures" / "right.json").read_text())
    assert sorted(m["id"] for m in right) == ["11", "13", "8"]
    for entry in mistakes:
        assert Pillow.open(tmp_path / "pictures" / entry["picture"]).size == (240, 192)


def test_the_mistakes_of_a_run_on_sounds_can_be_heard(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    clips = [(2.0 * np.sin(np.arange(8000 * (1 + i)) * 0.3)).astype(np.float16) for i in range(14)]
    data = prepared(clips, Audio(sample_rate=8000, seconds=8.0))
    report_images.write(with_predictions(tmp_path), work_with(data, ()), data)
    entries = json.loads((tmp_path / "pictures" / "mistakes.json").read_text())
    assert entries
    for entry in entries:
        assert Pillow.open(tmp_path / "pictures" / entry["picture"]).width == 240
        samples, rate = soundfile.read(tmp_path / "pictures" / entry["audio"])
        assert (len(samples), rate) == (40_000, 8000), "the input of the model, five seconds at most"
        assert 0.99 < abs(samples).max() <= 1.0
        assert entry["seconds"] == 5.0
        assert entry["axes"][1] == 4.0


def test_a_run_without_pixels_keeps_the_texts_of_its_mistakes(tmp_path: Path) -> None:
    data = prepared([np.zeros(4, dtype=np.float32)] * 14, Numbers(), text=True)
    report_images.write(with_predictions(tmp_path), work_with(data, ()), data)
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["mistakes.json", "right.json"]
    mistakes = json.loads((tmp_path / "pictures" / "mistakes.json").read_text())
    assert mistakes[0]["text"].startswith("item 12 is long xxx")
    assert mistakes[0]["text"].endswith(" …")
