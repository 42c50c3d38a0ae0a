"""Words for the splits of a data set: train, val, test; and names that say neither a split nor a class."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pretune.types import Split

_WORDS: dict[str, Split] = {
    **dict.fromkeys(("train", "training", "trainset", "trainval", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "valset", "dev", "devel", "devset", "eval", "evaluation", "publictest"), "val"),
    **dict.fromkeys(("test", "testing", "testset", "tst", "holdout", "heldout", "privatetest"), "test"),
}
_EVALUATION = frozenset(("eval", "evaluation"))
"""Words for validation that stand for the test split where another word stands for validation."""
_FILLERS = re.compile(
    "sets?|datasets?|images?|imgs?|pictures?|pics?|photos?|audio|sounds?|wavs?|clips?|texts?|txt|data|files?|lists?|parts?|splits?|seg|"
    "jpe?g|png|raw|originals?|processed|crops?|cropped|resized|copy|small|large|full|all|samples?|examples?"
)
_FOLD = re.compile(r"(?:(?:k[ _-]?)?folds?|cv|split|xval)[ _-]*\d+|\d+(?:st|nd|rd|th)?[ _-]?fold")


def split_of(word: object) -> Split | None:
    """Return the split that one word names: 'Validation' -> 'val'; None for any other word."""
    return _WORDS.get(str(word).strip().casefold())


def split_of_folder(name: str) -> Split | None:
    """Return the split a folder name stands for: 'test', 'seg_train', 'images-val', 'train2017', 'Test (1)'."""
    tokens = _tokens(name)
    splits = {_WORDS[token] for token in tokens if token in _WORDS}
    if len(splits) != 1 or any(token not in _WORDS and not _FILLERS.fullmatch(token) for token in tokens):
        return None
    return splits.pop()


def splits_of_folders(names: Iterable[str]) -> dict[str, Split]:
    """Return the splits that sibling folders stand for; 'eval' is the test split where another folder is for validation."""
    return _together({name: split for name in names if (split := split_of_folder(name))})


def splits_of_words(words: Iterable[str]) -> dict[str, Split]:
    """Return the splits that the words of one column stand for; 'evaluation' is the test split where another word is for validation."""
    return _together({word: split for word in words if (split := split_of(word))})


def _together(found: dict[str, Split]) -> dict[str, Split]:
    splits = {split for name, split in found.items() if not _EVALUATION & set(_tokens(name))}
    if "val" in splits and "test" not in splits:
        return {name: "test" if _EVALUATION & set(_tokens(name)) else split for name, split in found.items()}
    return found


def is_filler(name: str) -> bool:
    """Return whether a folder name says nothing: 'images', 'data files', 'images_256x256'."""
    tokens = _tokens(name)
    return bool(tokens) and all(_FILLERS.fullmatch(token) for token in tokens)


def is_fold(name: str) -> bool:
    """Return whether a folder name is that of one fold of several: 'fold1', 'cv_3', 'split-02'."""
    return _FOLD.fullmatch(name.strip().casefold()) is not None


def split_of_file(stem: str) -> Split | None:
    """Return the split a file's name stands for: 'train', 'sst2_dev', 'testing_list', 'TrainImages', 'test-00000-of-00002'."""
    splits = {_WORDS[token] for token in _tokens(stem) if token in _WORDS}
    return splits.pop() if len(splits) == 1 else None


def _tokens(name: str) -> list[str]:
    """Return the words of a name, lower-case, without numbers, versions and sizes."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", " ", name)
    tokens = [token for token in re.split(r"[\W_]+", apart.casefold()) if token and not re.fullmatch(r"v?\d+(?:x\d+)?(?:px)?", token)]
    return [token.rstrip("0123456789") if token.rstrip("0123456789") in _WORDS else token for token in tokens]
