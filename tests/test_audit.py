"""What the audit finds in decoded items, and what it keeps quiet about."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageDraw, ImageEnhance

import pretune as pt
from pretune.auditing import audit, duplicates
from pretune.auditing.confounds import confounds, correlates
from pretune.auditing.lookalikes import lookalikes
from pretune.errors import DataError
from pretune.modalities.image import Image
from pretune.sources import sources
from pretune.sources.table import Table
from pretune.sources.target_type import ONE_CLASS, TargetType
from pretune.storage.cache import Cache
from pretune.storage.ingest import Ingested, ingest
from pretune.types import Finding, Row
from tests.data_files import put

IMAGE = Image()
TEXT: Any = SimpleNamespace(unit="text")


class Arrays(list[Any]):
    """What reads like a store."""

    def __init__(self, arrays: list[Any], infos: list[dict[str, Any]]) -> None:
        super().__init__(arrays)
        self.infos = infos
        self.reads = 0

    def __getitem__(self, place: Any) -> Any:
        self.reads += 1
        return super().__getitem__(place)

    def __iter__(self) -> Iterator[Any]:
        self.reads += 1
        return super().__iter__()


def photo(seed: int, size: int = 96) -> Pillow.Image:
    """Return a smooth random image: what two photos share is little."""
    small = np.random.default_rng(seed).integers(0, 255, (7, 7, 3), dtype=np.uint8)
    return Pillow.fromarray(small).resize((size, size), Pillow.Resampling.BICUBIC)


def save(picture: Pillow.Image, path: Path, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **options)


def audited(folder: Path, tmp_path: Path) -> tuple[Table, Ingested, list[Finding]]:
    table = sources.read(folder)
    done = ingest(table.rows, IMAGE, Cache(tmp_path / "cache"), threads=1)
    return table, done, audit.audit(table, done, IMAGE)


def texts(pairs: list[tuple[str, str]], parts: list[str] | None = None) -> tuple[Table, Any]:
    rows = [Row(id=f"d.csv:{i}", text=(text,), target=label, split=parts[i] if parts else None) for i, (text, label) in enumerate(pairs)]  # type: ignore[arg-type]
    hashes = [hashlib.sha256(text.encode()).hexdigest() for text, _ in pairs]
    store = SimpleNamespace(infos=[{"chars": len(text), "tokens": 5} for text, _ in pairs])
    classes = tuple(sorted({label for _, label in pairs}))
    table = Table(rows=rows, modality="text", target_type=ONE_CLASS, root=Path(), layout="manifest", classes=classes)
    return table, SimpleNamespace(rows=rows, store=store, hashes=hashes)


def kinds(findings: list[Finding]) -> set[str]:
    return {finding.kind for finding in findings}


def message(findings: list[Finding], kind: str) -> str:
    return " ".join(finding.message for finding in findings if finding.kind == kind)


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    for i in range(24):
        save(photo(i), tmp_path / "data" / ("bird" if i % 2 else "fish") / f"{i}.png")
    return tmp_path / "data"


def test_clean_pictures_are_passed_over(clean: Path, tmp_path: Path) -> None:
    assert audited(clean, tmp_path)[2] == []


def test_leaks_are_counted(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for i in range(20):
        save(photo(i), data / "train" / "ab"[i % 2] / f"{i}.png")
    for i in range(8):
        save(photo(i if i < 4 else 100 + i), data / "test" / "ab"[i % 2] / f"t{i}.png")
    save(photo(7), data / "test" / "b" / "saved_again.jpg", quality=85)
    findings = audited(data, tmp_path)[2]
    assert "4 of 9 test images are also in train (5 with near-duplicates)" in message(findings, "leak")


def test_a_class_without_a_decoded_example_in_val_is_named(tmp_path: Path) -> None:
    for i in range(8):
        save(photo(i), tmp_path / "data" / ("val" if i > 5 else "train") / "ab"[i % 2] / f"{i}.png")
    assert "class_missing" not in kinds(audited(tmp_path / "data", tmp_path)[2])
    (tmp_path / "data" / "val" / "b" / "7.png").write_bytes(b"no picture")
    assert "val has no example of 'b'" in message(audited(tmp_path / "data", tmp_path)[2], "class_missing")


def test_contradictions_name_both_paths_and_are_left_out(clean: Path, tmp_path: Path) -> None:
    for i in (0, 2):
        (clean / "bird" / f"copy{i}.png").write_bytes((clean / "fish" / f"{i}.png").read_bytes())
    (clean / "fish" / "same.png").write_bytes((clean / "fish" / "4.png").read_bytes())
    table, done, findings = audited(clean, tmp_path)
    words = message(findings, "contradiction")
    assert "2 images occur with different labels (the same bytes, 4 images)" in words
    assert "bird/copy0.png (bird) = fish/0.png (fish)" in words
    assert [entry.item for entry in audit.contradictions(table, done)] == ["bird/copy0.png", "fish/0.png", "bird/copy2.png", "fish/2.png"]
    assert "1 image repeats others byte for byte (fish/4.png = fish/same.png)" in message(findings, "exact_duplicate")
    assert sorted(map(len, audit.twins(done))) == [2, 2, 2]


@pytest.mark.parametrize("change", ["jpeg", "half", "brighter"])
def test_near_duplicates(clean: Path, tmp_path: Path, change: str) -> None:
    picture = photo(3)
    changed = {
        "jpeg": picture,
        "half": picture.resize((48, 48)),
        "brighter": ImageEnhance.Brightness(picture).enhance(0.85),
    }[change]
    save(changed, clean / "bird" / "again.jpg", quality=70)
    findings = audited(clean, tmp_path)[2]
    assert [set(f.items) for f in findings if f.kind == "near_duplicate"] == [{"bird/3.png", "bird/again.jpg"}]


def test_simple_pictures_are_no_near_duplicates(tmp_path: Path) -> None:
    """One shape in two colours, one colour each, and discs of different size have equal difference hashes."""
    data = tmp_path / "data"
    for i, colour in enumerate([(220, 30, 30), (30, 220, 30), (30, 30, 220), (220, 220, 30), (30, 220, 220), (220, 30, 220)]):
        disc = Pillow.new("RGB", (64, 64), (0, 0, 0))
        ImageDraw.Draw(disc).ellipse([16, 16, 48, 48], fill=colour)
        save(disc, data / "disc" / f"{i}.png")
        save(Pillow.new("RGB", (64, 64), colour), data / "plain" / f"{i}.png")
        grey = Pillow.new("RGB", (64, 64), (0, 0, 0))
        ImageDraw.Draw(grey).ellipse([32 - 3 * i - 6, 32 - 3 * i - 6, 38 + 3 * i, 38 + 3 * i], fill=(255, 255, 255))
        save(grey, data / "grey" / f"{i}.png")
    _, done, findings = audited(data, tmp_path)
    assert audit.twins(done) == []
    assert "6 image(s) show one colour only" in message(findings, "constant_image")


def test_tiny_and_long_pictures_are_named(clean: Path, tmp_path: Path) -> None:
    save(photo(70).resize((7, 7)), clean / "bird" / "dot.png")
    save(photo(71).resize((600, 20)), clean / "fish" / "line.png")
    assert "bird/dot.png (7x7), fish/line.png (600x20)" in message(audited(clean, tmp_path)[2], "odd_size")


def test_hamming_pairs_are_all_found() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2**63, 3000, dtype=np.uint64)
    for i in range(0, 600, 2):
        flips = rng.choice(64, size=int(rng.integers(0, 4)), replace=False)
        codes[i + 1] = codes[i] ^ np.uint64(sum(1 << int(bit) for bit in flips))
    left, right = duplicates.hamming_pairs(codes)
    distances = np.bitwise_count(codes[:, None] ^ codes[None])
    a, b = np.nonzero(np.triu(distances <= 3, 1))
    assert set(zip(left.tolist(), right.tolist(), strict=True)) == set(zip(a.tolist(), b.tolist(), strict=True))


def test_hamming_pairs_stay_cheap_where_all_codes_are_equal() -> None:
    left, _ = duplicates.hamming_pairs(np.full(20_000, 7, dtype=np.uint64))
    assert 20_000 <= len(left) <= 24 * 20_000


def test_a_long_chain_is_not_joined() -> None:
    rows = [Row(id=str(i), text=("the same text " + " " * i,), target="a") for i in range(40)]
    store = SimpleNamespace(infos=[{"chars": 1}] * 40)
    found = duplicates.find(SimpleNamespace(rows=rows, store=store, hashes=[str(i // 2) for i in range(40)]))  # type: ignore[arg-type]
    assert found.chained == 40
    assert found.near == [[i, i + 1] for i in range(0, 40, 2)]


def test_clips_that_differ_in_gain_only() -> None:
    rng = np.random.default_rng(0)
    clips = [rng.standard_normal(8000).astype(np.float32) * 0.1 for _ in range(6)]
    clips.append((clips[2] * 0.5).astype(np.float32))

    infos = [{"seconds": 1.0, "rms": float(np.sqrt((clip**2).mean())), "peak": float(np.abs(clip).max())} for clip in clips]
    rows = [Row(id=str(i), target="a") for i in range(7)]
    found = duplicates.find(SimpleNamespace(rows=rows, store=Arrays(clips, infos), hashes=[str(i) for i in range(7)]))  # type: ignore[arg-type]
    assert found.near == [[2, 6]]


def test_texts_equal_but_for_case_and_spaces() -> None:
    train = [(f"the text number {i} is like no other", "ab"[i % 2]) for i in range(20)]
    test = [
        *train[:3],
        *((text.upper().replace(" ", "  "), label) for text, label in train[3:5]),
        *((f"new {i} words", "a") for i in range(5)),
    ]
    table, done = texts([*train, *test], ["train"] * 20 + ["test"] * 10)
    assert "3 of 10 test texts are also in train (5 with near-duplicates)" in message(audit.audit(table, done, TEXT), "leak")


def test_contradictory_texts_are_said_and_stay() -> None:
    pairs = [(f"the text number {i} is like no other", "ab"[i % 2]) for i in range(20)]
    table, done = texts([*pairs, *((text, "c") for text, _ in pairs[:4])])
    assert "4 texts occur with different labels (the same words, 8 texts)" in message(audit.audit(table, done, TEXT), "contradiction")
    assert audit.contradictions(table, done) == []


def test_groups_torn_by_given_parts() -> None:
    table, done = texts([(f"text {i} of many", "ab"[i % 2]) for i in range(40)], ["train", "test"] * 20)
    done.rows = [Row(id=r.id, text=r.text, target=r.target, split=r.split, group=f"g{i // 4}") for i, r in enumerate(done.rows)]
    assert "10 of 10 groups have examples in train and in another split" in message(audit.audit(table, done, TEXT), "group_leak")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            {"a/1.jpg": b"x", "a/2.jpg": b"", "b/3.jpg": b"y"},
            "no usable image is left .* dropped: 2 examples .*; 1 .* First: a/1.jpg",
        ),
        ({"pairs.csv": b"en,de\n,eins\ntwo,\nthree,\n"}, "none of the 3 examples can be used. dropped: .* First: pairs.csv:2"),
    ],
)
def test_data_of_which_nothing_is_usable_are_refused_with_the_reasons(content: dict[str, bytes], words: str, tmp_path: Path) -> None:
    for name, raw in content.items():
        put(tmp_path, name, content=raw)
    with pytest.raises(DataError, match=words):
        pt.audit(tmp_path, cache=tmp_path / "cache")


def test_balance_and_size() -> None:
    table, done = texts([(f"{label} text {i}", label) for label, n in (("circle", 100), ("square", 12), ("cross", 3)) for i in range(n)])
    findings = audit.audit(table, done, TEXT)
    assert "circle 100, square 12, cross 3" in message(findings, "imbalance")
    assert "class_weights=true" in message(findings, "imbalance")
    assert "very small classes: 'cross' (3)" in message(findings, "tiny_class")
    boxes = audit.audit(replace(table, target_type=TargetType(task="detection")), done, TEXT)
    assert "circle 100" in message(boxes, "imbalance")
    assert not any(word in message(boxes, "imbalance") for word in ("class_weights", "balanced accuracy"))
    table, done = texts([("a text", "a"), ("b text", "b"), ("c text", "a"), ("d text", "b")])
    assert "4 texts cannot give a meaningful score" in message(audit.audit(table, done, TEXT), "too_few")


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("Circle", "circle", "circle ", "square"), [("Circle", "circle", "circle ")]),
        (("caf\u00e9", "cafe\u0301", "tea"), [("caf\u00e9", "cafe\u0301")]),
        (("hot_dog", "hot dog", "cat"), [("hot_dog", "hot dog")]),
        (("positive", "postive", "negative"), [("positive", "postive")]),
        (("class1", "class2", "class10"), []),
        (("cat", "bat", "rat", "cats"), []),
        (("+", "-", "*"), []),
        (("kitchen", "kitchens"), []),
        (("cats", "dogs", "dosg"), [("dogs", "dosg")]),
        (("act", "cat", "ab12", "ab21"), []),
    ],
)
def test_lookalike_names(names: tuple[str, ...], found: list[tuple[str, ...]]) -> None:
    assert [finding.items for finding in lookalikes(names)] == found


def test_a_class_that_goes_with_the_sample_rate() -> None:
    infos = [{"sample_rate": 8000 if i % 2 else 44100, "seconds": 1.0} for i in range(24)]
    findings = confounds(infos, ["low" if i % 2 else "high" for i in range(24)])
    assert len(findings) == 1
    assert "is confounded with the sample rate" in findings[0].message
    assert "8000 (12 of 12)" in findings[0].message
    assert "44100 (12 of 12)" in findings[0].message


def test_one_class_of_many_with_its_own_format_or_loudness() -> None:
    rng = np.random.default_rng(0)
    targets = [f"c{i % 10}" for i in range(200)]
    infos: list[dict[str, Any]] = [
        {"format": "PNG" if t == "c3" else "JPEG", "rms": float(rng.normal(0.5 if t == "c7" else 0.1, 0.02)), "width": 64} for t in targets
    ]
    assert {finding.items for finding in confounds(infos, targets)} == {("c3",), ("c7",)}


@pytest.mark.parametrize("seed", range(10))
def test_chance_is_no_confound(seed: int) -> None:
    rng = np.random.default_rng(seed)
    infos = [
        {"width": int(rng.integers(50, 5000)), "format": str(rng.choice(["PNG", "JPEG"])), "rms": float(rng.random())} for _ in range(60)
    ]
    assert confounds(infos, [f"c{rng.integers(3)}" for _ in range(60)]) == []


def test_a_number_that_goes_with_the_size() -> None:
    infos = [{"width": 100 + i, "height": 100} for i in range(30)]
    assert "image width" in correlates(infos, np.arange(30.0))[0].message
    assert correlates(infos, np.random.default_rng(0).random(30)) == []


def test_the_audit_reads_no_image_again(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [Row(id=f"{i}.jpg", path=tmp_path, target=f"c{i % 4}") for i in range(400)]

    infos = [{"width": 256, "height": 256, "format": "JPEG", "mode": "RGB", "dhash": f"{rng.integers(1, 2**63):016x}"} for _ in rows]
    store = Arrays([rng.integers(0, 255, (256, 256, 3), dtype=np.uint8) for _ in range(20)] * 20, infos)
    table = Table(rows=rows, modality="image", target_type=ONE_CLASS, root=tmp_path, layout="", classes=("c0", "c1", "c2", "c3"))
    done: Any = SimpleNamespace(rows=rows, store=store, hashes=[str(i) for i in range(400)])
    audit.audit(table, done, IMAGE)
    assert store.reads == 0, "what decoding noted is enough"
