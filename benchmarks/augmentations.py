"""What each image augmentation changes: a small network trained from scratch on few digits, with one augmentation at a time.

`python -m benchmarks.augmentations [FOLDER]` prints the table of docs/learn.md. Data: the digits of scikit-learn (8 x 8 pixels, scaled
to 32), 20 of each class to train on and 60 others to test on; every row is trained and measured with the same seeds.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import pretune as pt

EACH, TESTED, SEEDS, EPOCHS = 20, 60, (0, 1, 2), 20
ALONE = ("", "random_resized_crop", "flip", "rotation", "colour", "randaugment", "erasing", "mixup", "cutmix", "blur")
"""One augmentation a row; '' is none."""


def write_digits(folder: Path) -> None:
    """Write train/DIGIT and test/DIGIT."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for digit in range(10):
        chosen = np.flatnonzero(digits.target == digit)[: EACH + TESTED]
        for place, index in enumerate(chosen):
            target = folder / ("train" if place < EACH else "test") / str(digit)
            target.mkdir(parents=True, exist_ok=True)
            Image.fromarray((digits.images[index] * 15.9375).astype(np.uint8)).resize((32, 32)).save(target / f"{place}.png")


def accuracies(data: Path, out: Path, augmentation: str) -> list[float]:
    """Return the test accuracy for each seed."""
    how = {"augmentations": augmentation} if augmentation else {"augment": "none"}
    fixed = {"backbone": "scratch:cnn", "strategy": "scratch", "image_size": 32, "epochs": EPOCHS, "precision": "float32"}
    runs = [pt.finetune(data, **fixed, **how, seed=seed, predictor="network", out=out / f"{augmentation}-{seed}") for seed in SEEDS]
    return [run.metrics["test"]["accuracy"] for run in runs]


def main(place: Path) -> None:
    """Measure, and print a row as soon as it is known."""
    write_digits(place / "digits")
    print("| augmentation | test accuracy, mean of three seeds (smallest to largest) | against none |\n|---|---|---|", flush=True)
    none = 0.0
    for name in ALONE:
        found = accuracies(place / "digits", place / "runs", name)
        mean = statistics.fmean(found)
        none = none or mean
        against = f"{100 * (mean - none):+.1f} points" if name else "–"
        shown = f"{100 * mean:.1f} % ({100 * min(found):.1f}–{100 * max(found):.1f})"
        print(f"| {f'`{name}`' if name else 'none'} | {shown} | {against} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder))
