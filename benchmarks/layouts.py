"""Folders that the cases read: what the folder of each modality holds, and how a share of one is taken."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The folder of one modality."""

    needs: str
    """What a folder must hold, in words."""
    holds: Callable[[Path], bool]
    """Whether a folder holds it."""
    share: Callable[[Path, Path, int, int], None]
    """(folder, out, training examples, test examples) -> copies at most so many of each."""
    quick: int
    """Examples of each split that show that everything runs."""
    weights: str | None = None
    """The script of benchmarks/ours that writes the package weights of the modality as peers read them."""
    unit: str = "training and test examples"


def missing(modality: str, data: Path) -> str | None:
    """Return what a folder lacks to be data of a modality; None where it lacks nothing."""
    layout = LAYOUTS[modality]
    return None if layout.holds(data) else layout.needs


def share(modality: str, data: Path, most: int, out: Path, *, test: int | None = None) -> Path:
    """Copy at most `most` training and `test` test examples (as many where None; corpus: characters) to `out` and return it.

    Lines are taken from the start, files from every class in turn.
    """
    out.mkdir(parents=True)
    LAYOUTS[modality].share(data, out, most, most if test is None else test)
    return out


def _has(*names: str) -> Callable[[Path], bool]:
    return lambda data: all((data / name).is_file() for name in names)


def _lines(suffix: str, end: str = "\n") -> Callable[[Path, Path, int, int], None]:
    """Return what copies the first lines (or what `end` ends) of train, val and test."""

    def copy(data: Path, out: Path, train: int, test: int) -> None:
        for name, most in (("train", train), ("val", test), ("test", test)):
            if (data / f"{name}{suffix}").is_file():
                _first(data / f"{name}{suffix}", out / f"{name}{suffix}", most, end)

    return copy


def _first(path: Path, out: Path, most: int, end: str = "\n") -> None:
    pieces = path.read_text(encoding="utf-8").split(end)
    out.write_text(end.join(pieces[:most]).rstrip("\n") + "\n", encoding="utf-8")


def _corpus(data: Path, out: Path, train: int, _test: int) -> None:
    (out / "input.txt").write_text((data / "input.txt").read_text(encoding="utf-8")[:train], encoding="utf-8")


def languages(data: Path) -> list[str]:
    """Return the file extensions of train that test has too, English first."""
    there = {path.suffix[1:] for path in data.glob("train.*")} & {path.suffix[1:] for path in data.glob("test*.*")}
    return sorted(there, key=lambda name: (name != "en", name))


def _parallel(data: Path, out: Path, train: int, test: int) -> None:
    for language in languages(data):
        for name, most in (("train", train), ("val", test), ("test", test)):
            for path in sorted(data.glob(f"{name}*.{language}"))[:1]:
                _first(path, out / f"{name}.{language}", most)


def _table(data: Path) -> Path | None:
    """Return the CSV file of a folder that has columns of paths and splits."""
    for path in sorted(data.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as lines:
            names = next(csv.reader(lines), [])
        if {"path", "split"} <= set(names) and {"text", "transcript"} & set(names):
            return path
    return None


def _clips(data: Path, out: Path, train: int, test: int) -> None:
    """Copy clips that are spread over the table, which may be sorted by word or speaker."""
    table = _table(data)
    assert table is not None
    with table.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    kept = []
    for split, most in (("train", train), ("val", test), ("test", test)):
        found = [row for row in rows if row["split"] == split]
        kept += [found[at * len(found) // min(most, len(found))] for at in range(min(most, len(found)))]
    for row in kept:
        (out / row["path"]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(data / row["path"], out / row["path"])
    with (out / table.name).open("w", encoding="utf-8", newline="") as lines:
        writer = csv.DictWriter(lines, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)


def _boxes(data: Path, out: Path, train: int, test: int) -> None:
    shutil.copyfile(data / "data.yaml", out / "data.yaml")
    for split, most in (("train", train), ("val", test)):
        for image in sorted((data / "images" / split).iterdir())[:most]:
            for kind, name in (("images", image.name), ("labels", f"{image.stem}.txt")):
                (out / kind / split).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(data / kind / split / name, out / kind / split / name)


def _class_folders(data: Path, out: Path, train: int, test: int) -> None:
    for split, most in (("train", train), ("val", test), ("test", test)):
        for path in _in_turn(data / split)[:most]:
            (out / split / path.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, out / split / path.parent.name / path.name)


def _in_turn(folder: Path) -> list[Path]:
    """Return the files of class folders: the first of every class, then the second of every class, and so on."""
    ranked = [
        (rank, path) for kind in sorted(folder.glob("*/")) for rank, path in enumerate(sorted(p for p in kind.iterdir() if p.is_file()))
    ]
    return [path for _, path in sorted(ranked)]


def _has_class_folders(data: Path) -> bool:
    return (data / "train").is_dir() and any((data / name).is_dir() for name in ("val", "test"))


def _has_boxes(data: Path) -> bool:
    return all((data / kind / split).is_dir() for kind in ("images", "labels") for split in ("train", "val"))


_FOLDERS = "class folders in train/ and in val/ or test/"
LAYOUTS = {
    "image": Layout(needs=_FOLDERS, holds=_has_class_folders, share=_class_folders, quick=120, weights="lite0_folder.py"),
    "audio": Layout(needs=_FOLDERS, holds=_has_class_folders, share=_class_folders, quick=120, weights="whisper_folder.py"),
    "text": Layout(
        needs="train.tsv and test.tsv: text, tab, label",
        holds=_has("train.tsv", "test.tsv"),
        share=_lines(".tsv"),
        quick=200,
        weights="minilm_folder.py",
    ),
    "tags": Layout(
        needs="train.conll and test.conll: word, tab, IOB2 tag",
        holds=_has("train.conll", "test.conll"),
        share=_lines(".conll", "\n\n"),
        quick=100,
        weights="minilm_folder.py",
    ),
    "pairs": Layout(
        needs="train.jsonl and test.jsonl: anchor, positive",
        holds=_has("train.jsonl", "test.jsonl"),
        share=_lines(".jsonl"),
        quick=100,
        weights="minilm_folder.py",
    ),
    "boxes": Layout(
        needs="images/train, images/val and labels beside them: YOLO's layout",
        holds=_has_boxes,
        share=_boxes,
        quick=24,
        weights="lite0_folder.py",
    ),
    "speech": Layout(
        needs="a CSV file with the columns path, text (or transcript) and split",
        holds=lambda data: _table(data) is not None,
        share=_clips,
        quick=40,
        weights="whisper_folder.py",
    ),
    "translations": Layout(
        needs="train.en, test.en and those of another language beside them, line by line",
        holds=lambda data: len(languages(data)) == 2 and languages(data)[0] == "en",
        share=_parallel,
        quick=300,
    ),
    "corpus": Layout(
        needs="input.txt", holds=_has("input.txt"), share=_corpus, quick=100_000, weights="smollm2_folder.py", unit="characters"
    ),
}
