"""What is located in an example (boxes, points, times) follows its crop, its flip and every other augmentation."""

from __future__ import annotations

import io
from typing import Any, ClassVar, cast

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor

from pretune import registry
from pretune.augmentations import BatchAugmentation
from pretune.augmentations.flip import Flip
from pretune.augmentations.mixup import Mixup
from pretune.augmentations.mosaic import Mosaic
from pretune.augmentations.random_resized_crop import RandomResizedCrop
from pretune.augmentations.time_shift import TimeShift
from pretune.data.augmented import AugmentedView
from pretune.data.dataset import FeatureView, StoreView
from pretune.data.views import Following
from pretune.errors import SettingError
from pretune.geometry import Geometry, scaling
from pretune.labels import Labels, Ragged, moved
from pretune.modalities.audio import Audio
from pretune.modalities.image import Image
from pretune.modalities.text import Text
from pretune.types import Batch, Decoded, Features

HEIGHT, WIDTH = 60, 84
POINTS = [(42.0, 30.0), (30.0, 24.0), (54.0, 38.0), (36.0, 36.0)]
RATE = 1000


class Stored(list[Any]):
    """Decoded examples as a store gives them."""

    def __init__(self, decoded: list[Decoded]) -> None:
        super().__init__(one.array for one in decoded)
        self.infos = [one.info for one in decoded]

    @property
    def lengths(self) -> Any:
        return np.array([len(one) for one in self])


def spots(points: list[tuple[float, float]], height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    """Black images (N, 3, H, W) uint8 with one bright spot each, at (x, y)."""
    y_H1, x_1W = torch.arange(height)[:, None] + 0.5, torch.arange(width)[None] + 0.5
    images = [170 * torch.exp(-((x_1W - x) ** 2 + (y_H1 - y) ** 2) / 8) for x, y in points]
    return torch.stack(images).round().to(torch.uint8)[:, None].expand(-1, 3, -1, -1).contiguous()


def bright(images: Tensor) -> list[tuple[float, float]]:
    """Return (x, y), the middle of the brightest pixels of each image."""
    found = []
    for image in images:
        grey = image.float().mean(0)
        y, x = (grey == grey.max()).nonzero().float().mean(0).tolist()
        found.append((x + 0.5, y + 0.5))
    return found


def located(points: list[tuple[float, ...]]) -> Labels:
    return Labels({"points": Ragged.of([torch.tensor([point]) for point in points])}, {"points": "point"})


def where(batch: Batch) -> list[tuple[float, ...]]:
    assert batch.labels is not None
    points = batch.labels["points"]
    assert isinstance(points, Ragged)
    return [tuple(point) for point in points.values.tolist()]


def of_a_batch(modality: str) -> list[Any]:
    members = [cast("Any", registry.load("augmentations", name)) for name in registry.names("augmentations")]
    several = registry.load("augmentations", "mosaic")  # has a test of its own
    return [
        member for member in members if issubclass(member, BatchAugmentation) and modality in member.modalities and member is not several
    ]


def batch_of(tensor: Tensor, points: list[tuple[float, ...]]) -> Batch:
    geometry = Geometry.of([scaling([1.0] * len(points[0]), [0.0] * len(points[0]))] * len(points))
    return Batch(inputs=Features(tensor=tensor, layout="raw"), labels=located(points), index=torch.arange(len(points)), geometry=geometry)


@pytest.mark.parametrize("member", of_a_batch("image"))
@pytest.mark.parametrize("seed", range(3))
def test_boxes_go_where_an_augmentation_moves_the_pixels(member: Any, seed: int) -> None:
    points = POINTS * 4
    batch = batch_of(spots(points), cast("Any", points))
    generator = torch.Generator().manual_seed(seed)
    if member in (Mixup, registry.load("augmentations", "cutmix")):
        with pytest.raises(SettingError, match="several"):
            member().apply(batch, generator, 2)
        return
    part = member(operations=1, magnitude=3.0) if member.__name__ == "RandAugment" else member()
    out = part.apply(batch, generator, None)
    assert member.moves == (where(out) != points)
    if member.__name__ == "Erasing":  # covers the spot itself
        return
    seen = [at for at, image in enumerate(out.inputs.tensor) if (spread := image.float().mean(0)).max() - spread.median() > 20]
    assert len(seen) >= 12
    found = bright(out.inputs.tensor)
    for at in seen:
        (x, y), (wanted_x, wanted_y) = found[at], where(out)[at]
        assert abs(x - wanted_x) < 2.5
        assert abs(y - wanted_y) < 2.5
    assert out.geometry is not None
    assert where_of(moved(located(cast("Any", points))["points"], out.geometry, "point")) == pytest.approx(np.array(where(out)), abs=1e-3)


def where_of(points: Any) -> Any:
    return points.values.numpy()


@pytest.mark.parametrize("member", of_a_batch("audio"))
def test_times_go_where_an_augmentation_moves_the_samples(member: Any) -> None:
    places = [150.0, 300.0, 420.0, 260.0]
    samples = torch.arange(600.0)
    clicks = torch.stack([torch.exp(-((samples - place) ** 2) / 18) for place in places])
    batch = batch_of(clicks, [(place,) for place in places])
    if member is Mixup:
        with pytest.raises(SettingError, match="several"):
            member().apply(batch, torch.Generator(), 2)
        return
    out = member().apply(batch, torch.Generator().manual_seed(1), None)
    assert member.moves == (where(out) != [(place,) for place in places])
    for click, (place,) in zip(out.inputs.tensor, where(out), strict=True):
        if member.moves or member.__name__ == "Gain":
            assert abs(int(click.abs().argmax()) - place) < 3


def test_an_augmentation_that_does_not_say_whether_it_moves_things_is_refused() -> None:
    class Foreign(BatchAugmentation):
        modalities: ClassVar[frozenset[str]] = frozenset({"image"})

        def apply(self, batch: Batch, generator: torch.Generator, classes: int | None) -> Batch:
            return batch

    view = AugmentedView(view_of_images(), (Foreign(),), None, seed=0)
    with pytest.raises(SettingError, match="foreign does not say whether it moves"):
        view.batch(np.arange(2), 0)


def encoded(width: int, height: int, x: float, y: float, orientation: int = 1) -> bytes:
    """Return a PNG with a bright spot, stored as its EXIF orientation says."""
    turns = {1: None, 3: PIL.Image.Transpose.ROTATE_180, 6: PIL.Image.Transpose.ROTATE_90}
    image = PIL.Image.fromarray(spots([(x, y)], height, width)[0].permute(1, 2, 0).numpy())
    turn = turns[orientation]
    image, exif = image if turn is None else image.transpose(turn), PIL.Image.Exif()
    exif[274] = orientation
    out = io.BytesIO()
    image.save(out, "PNG", exif=exif)
    return out.getvalue()


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
@pytest.mark.parametrize("shape", [(40, 40), (64, 40), (44, 90), (24, 31), (31, 150), (170, 40)])
@pytest.mark.parametrize("crop", [None, RandomResizedCrop(scale=(0.5, 1.0))])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_place_in_the_file_is_found_in_the_view(fit: Any, shape: tuple[int, int], crop: Any, orientation: int) -> None:
    height, width = shape
    image = Image(size=32, resize=32 if fit != "crop" else 38, fit=fit, interpolation="bilinear", mean=(0, 0, 0))
    place = width / 2 - 4, height / 2 + 3
    decoded = image.decode(encoded(width, height, *place, orientation))
    matrix = image.geometry(decoded.array, decoded.info, crop, np.random.default_rng(3))
    view = image.view(decoded.array, crop, np.random.default_rng(3))
    x, y = matrix[:, :2] @ place + matrix[:, 2]
    if min(x, y) > 1 and max(x, y) < 31:
        pixels = torch.tensor(view).permute(2, 0, 1)[None]
        assert bright(pixels)[0] == pytest.approx((x, y), abs=1.2 + 0.5 * matrix[0, 0])
    else:
        assert crop is not None  # the middle is in every centre crop


def view_of_images(crop: Any = None) -> StoreView:
    image = Image(size=32, resize=32, interpolation="bilinear")
    stored = Stored([image.decode(encoded(64, 48, *point)) for point in POINTS])
    return StoreView(cast("Any", stored), np.arange(4), image, located(cast("Any", POINTS)), crop, seed=3)


@pytest.mark.parametrize("crop", [None, RandomResizedCrop(scale=(0.6, 1.0))])
def test_labels_follow_the_view_of_every_epoch_and_what_comes_after_it(crop: Any) -> None:
    view = AugmentedView(view_of_images(crop), (Flip(horizontal=0.5, vertical=0.5),), None, seed=1)
    seen = set()
    for epoch in range(6):
        batch = view.batch(np.array([2, 0, 3]), epoch)
        for found, (x, y) in zip(bright(batch.inputs.tensor), where(batch), strict=True):
            if 1 < min(x, y) < max(x, y) < 31:
                assert found == pytest.approx((x, y), abs=1.5)
        assert batch.geometry is not None
        assert batch.labels is not None
        back = moved(batch.labels["points"], batch.geometry.inverse(), "point")
        assert where_of(back) == pytest.approx(np.array([POINTS[at] for at in (2, 0, 3)]), abs=1e-3)
        seen.add(tuple(where(batch)))
        part = batch.take(slice(1, 2))
        assert part.geometry is not None
        assert torch.equal(part.geometry.matrices, batch.geometry.matrices[1:2])
    assert len(seen) > 3


def test_labels_follow_the_view_that_cached_features_were_computed_of() -> None:
    shown = [view_of_images(), view_of_images(RandomResizedCrop(scale=(0.5, 0.8)))]
    features = torch.zeros(8, 2, 2, 5)  # two views of four images
    labels = located(cast("Any", POINTS))
    positions = np.array([3, 1])
    view = FeatureView(features, positions, "map", labels.take(torch.from_numpy(positions)), views=2)
    of_them = [StoreView(one.store, positions, one.modality, None, one.crop, one.seed) for one in shown]
    cached = Following(view, of_them)
    for epoch in (0, 1, 2):
        batch, wanted = cached.batch(np.array([1, 0]), epoch), shown[epoch % 2].batch(np.array([1, 3]), 0)
        assert where(batch) == where(wanted)
        assert batch.geometry is not None


def test_times_follow_the_window_of_a_clip() -> None:
    rng = np.random.default_rng(0)
    sounds = Audio(sample_rate=RATE, seconds=0.5)
    clips = [rng.normal(size=size).astype(np.float16) for size in (900, 300, 900)]
    stored = Stored([Decoded(array=clip, info={} if size else {"begin": 2.0}) for size, clip in enumerate(clips)])
    view = StoreView(cast("Any", stored), np.arange(3), sounds, located([(2.25,), (0.25,), (0.25,)]), TimeShift(share=0.3), seed=4)
    compared = 0
    for epoch in (0, 1):
        batch = view.batch(np.arange(3), epoch)
        for clip, samples, (place,) in zip(clips, batch.inputs.tensor, where(batch), strict=True):
            at = round(place)
            if 0 <= at < 500:
                assert samples[at] == float(clip[250])
                compared += 1
    assert compared >= 4


def test_a_long_clip_says_where_its_kept_samples_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    import soundfile

    from pretune.modalities import _audio_decode

    monkeypatch.setattr(_audio_decode, "KEPT", 4000)
    monkeypatch.setattr(_audio_decode, "_TYPICAL", 1.0)
    samples = np.random.default_rng(0).normal(size=12_000) * 0.01
    samples[8000:9000] *= 20
    out = io.BytesIO()
    soundfile.write(out, samples, RATE, format="WAV")
    decoded = Audio(sample_rate=RATE).decode(out.getvalue())
    begin = round(float(decoded.info["begin"]) * RATE)
    assert len(decoded.array) == 4000
    assert 5000 < begin <= 8000
    assert decoded.array.astype(float) == pytest.approx(samples[begin : begin + 4000] - samples.mean(), abs=2e-3)


def test_a_turned_box_is_the_smallest_around_it() -> None:
    quarter = Geometry.about(torch.tensor([[[0.0, -1.0], [1.0, 0.0]]]), (10.0, 10.0))
    box = Ragged(values=torch.tensor([[10.0, 8.0, 14.0, 12.0]]), lengths=torch.tensor([1]))
    assert moved(box, quarter, "box").values.tolist() == [[8.0, 10.0, 12.0, 14.0]]  # type: ignore[union-attr]
    dense = torch.tensor([[10.0, 8.0, 14.0, 12.0]])
    assert quarter.move(dense, "box").tolist() == [[8.0, 10.0, 12.0, 14.0]]
    both = quarter.then(quarter.inverse())
    assert torch.allclose(both.matrices, torch.eye(2, 3, dtype=torch.float64))


def test_nothing_is_located_in_a_text() -> None:
    view = StoreView(cast("Any", Stored([Decoded(array=np.zeros(3, np.int32), info={})])), np.arange(1), Text(), None)
    with pytest.raises(TypeError, match="Text have no coordinates"):
        view.geometry(np.array([0]), 0)


def test_a_mosaic_has_the_boxes_of_all_its_images_where_their_pixels_are() -> None:
    count = 6
    pixels = torch.full((count, 3, 65, 64), 40, dtype=torch.uint8)
    corners = [(10.0 + 5 * at, 30.0, 26.0 + 5 * at, 42.0) for at in range(count)]
    for at, (left, top, right, bottom) in enumerate(corners):
        pixels[at, :, int(top) : int(bottom), int(left) : int(right)] = 200 + at
    boxes, names = Ragged.of([torch.tensor([one]) for one in corners]), Ragged.of([torch.tensor([at]) for at in range(count)])
    labels = Labels({"boxes": boxes, "classes": names, "of_image": torch.arange(count)}, {"boxes": "box"})
    batch = Batch(inputs=Features(tensor=pixels, layout="raw"), labels=labels, index=torch.arange(count))
    out = Mosaic().apply(batch, torch.Generator().manual_seed(1), None)
    assert out.labels is not None
    found, classes = out.labels["boxes"], out.labels["classes"]
    assert isinstance(found, Ragged)
    assert isinstance(classes, Ragged)
    assert set(found.lengths.tolist()) == {1, 4}, "some are left as they are"
    for image, many, which in zip(out.inputs.tensor, found.split(), classes.split(), strict=True):
        for (left, top, right, bottom), name in zip(many.round().int().tolist(), which.tolist(), strict=True):
            inside = image[0, top + 1 : bottom - 1, left + 1 : right - 1].float()
            assert float((inside - (200 + name)).abs().max()) < 3
    same = Mosaic(probability=0).apply(batch, torch.Generator(), None)
    assert torch.equal(same.inputs.tensor, pixels)
    with pytest.raises(SettingError, match="labels are of whole images"):
        Mosaic().apply(Batch(inputs=batch.inputs, labels=Labels.of(torch.arange(count)), index=batch.index), torch.Generator(), None)
