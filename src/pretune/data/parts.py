"""Words for the parts of a data set: train, val, test."""

from __future__ import annotations

import re

from pretune.types import Split

_WORDS: dict[str, Split] = {
    **dict.fromkeys(("train", "training", "trainset"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "devel", "eval"), "val"),
    **dict.fromkeys(("test", "testing", "testset"), "test"),
}
_FILLERS = frozenset(
    (
        "set",
        "sets",
        "images",
        "image",
        "imgs",
        "img",
        "audio",
        "sounds",
        "wav",
        "clips",
        "text",
        "texts",
        "data",
        "files",
        "part",
        "split",
        "seg",
    )
)


def part_of(word: object) -> Split | None:
    """Return the part that one word names: 'Validation' -> 'val'; None for any other word."""
    return _WORDS.get(str(word).strip().casefold())


def part_of_folder(name: str) -> Split | None:
    """Return the part a folder name stands for: 'test', 'seg_train', 'images-val', 'test_set'."""
    tokens = _tokens(name)
    parts = {_WORDS[token] for token in tokens if token in _WORDS}
    if len(parts) != 1 or any(token not in _WORDS and token not in _FILLERS for token in tokens):
        return None
    return parts.pop()


def is_filler(name: str) -> bool:
    """Tell whether a folder name says nothing: 'images', 'data files'."""
    return all(token in _FILLERS for token in _tokens(name))


def part_of_file(stem: str) -> Split | None:
    """Return the part a manifest's name stands for: 'train', 'sst2_dev', 'test-00000-of-00002'."""
    parts = {_WORDS[token] for token in _tokens(stem) if token in _WORDS}
    return parts.pop() if len(parts) == 1 else None


def _tokens(name: str) -> list[str]:
    return [token for token in re.split(r"[\W_]+", name.casefold()) if token]
