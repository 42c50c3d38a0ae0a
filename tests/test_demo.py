"""The demo's crops: real photos, halves that do not meet."""

import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pretune import demo
from pretune.errors import RequestError


def test_photos_are_found_without_importing_their_packages():
    paths = demo.photo_paths()
    assert len(paths) == 17
    assert all(path.is_file() for path in paths)


def test_the_extra_of_the_demo_has_the_packages_of_its_photos():
    extra = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["optional-dependencies"]["demo"]
    needed = {packages_distributions()[folder.partition("/")[0]][0] for folder in demo.PHOTOS}
    assert needed == {requirement.partition(">=")[0] for requirement in extra}


def test_a_missing_package_gives_the_pip_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(demo, "find_spec", lambda _: None)
    with pytest.raises(RequestError, match="pip install scikit-image scikit-learn"):
        demo.photo_paths()


def test_train_and_test_crops_come_from_disjoint_halves():
    columns = np.broadcast_to(np.arange(demo.WIDTH) // 2, (demo.HEIGHT, demo.WIDTH)).astype(np.uint8)  # a pixel tells its column
    photo = Image.fromarray(columns)
    rng = np.random.default_rng(0)
    left = demo.crops(photo, 50, left=0, right=demo.WIDTH // 2, rng=rng)
    right = demo.crops(photo, 50, left=demo.WIDTH // 2, right=demo.WIDTH, rng=rng)
    assert max(np.asarray(crop).max() for crop in left) < min(np.asarray(crop).min() for crop in right)


def test_only_an_earlier_demo_is_removed(tmp_path: Path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(RequestError, match="was not written by pretune demo"):
        demo.clear(tmp_path / "mine")
    (tmp_path / "demo" / "crops").mkdir(parents=True)
    demo.clear(tmp_path / "demo")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_crops_are_written_as_class_folders(tmp_path: Path):
    photos = demo.photo_paths()[-2:]
    assert len(photos) == 2
    demo.write_crops(tmp_path, photos)
    for part, count in (("train", demo.TRAIN), ("test", demo.TEST)):
        for photo in photos:
            files = sorted((tmp_path / part / photo.stem).iterdir())
            assert len(files) == count
            assert Image.open(files[0]).size == (demo.CROP, demo.CROP)
