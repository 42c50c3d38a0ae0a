"""Which end of a text is cut: always the last one, of both texts of a pair."""

from __future__ import annotations

import numpy as np
import pytest

from pretune.modalities.text import Text
from pretune.modalities.transforms import tokenizing
from pretune.types import Row

ALPHABET = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="module")
def words() -> Text:
    rows = [Row(id="t", text=(" ".join(ALPHABET),), split="train")]
    return Text(vocabulary=300, max_tokens=8).fitted_to(rows)[0]


def read(words: Text, *texts: str) -> list[str]:
    """Return the tokens that a network is given."""
    tokenizer = tokenizing.load(words.tokenizer)
    return [str(tokenizer.id_to_token(int(id_))) for id_ in words.decode(texts).array]


def test_the_beginning_of_a_long_text_is_kept(words: Text) -> None:
    long = read(words, " ".join(ALPHABET))
    frame = len(tokenizing.frame(words.tokenizer, False))
    assert [token for token in long if token in ALPHABET] == list(ALPHABET[: 8 - frame])
    assert len(long) == 8


def test_the_beginnings_of_both_texts_of_a_pair_are_kept(words: Text) -> None:
    long = read(words, " ".join(ALPHABET[:10]), " ".join(ALPHABET[10:]))
    kept = [token for token in long if token in ALPHABET]
    first, second = [t for t in kept if t < "k"], [t for t in kept if t >= "k"]
    assert first == list(ALPHABET[: len(first)])
    assert second == list(ALPHABET[10 : 10 + len(second)])
    assert abs(len(first) - len(second)) <= 1
    assert len(long) == 8, "the token between them is one of those"


@pytest.mark.parametrize(("lengths", "room"), [((9,), 4), ((9, 2), 6), ((2, 9), 6), ((9, 9), 7), ((3, 3), 8)])
def test_what_is_left_of_each_text_is_its_beginning(lengths: tuple[int, ...], room: int) -> None:
    parts = [np.arange(length, dtype=np.int32) + 100 * number for number, length in enumerate(lengths)]
    cut = tokenizing.truncate(parts, room)
    assert sum(map(len, cut)) == min(room, sum(lengths))
    for part, kept in zip(parts, cut, strict=True):
        assert kept.tolist() == part[: len(kept)].tolist()
        assert len(kept) == len(part) or sum(map(len, parts)) > room


def test_the_special_tokens_stand_around_and_between(words: Text) -> None:
    single, pair = tokenizing.frame(words.tokenizer, False), tokenizing.frame(words.tokenizer, True)
    assert len(words.decode(("a b",)).array) == 2 + len(single)
    assert len(words.decode(("a", "b")).array) == 2 + len(pair)
    batch = words.collate([words.decode((text,)).array for text in ("a", "a b c")])
    assert batch.mask is not None
    assert batch.mask.sum(1).tolist() == [1 + len(single), 3 + len(single)]
    assert batch.mask[0].tolist() == [True] * (1 + len(single)) + [False] * 2
