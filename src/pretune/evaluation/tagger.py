"""A linear tagger: multinomial logistic regression on what a word looks like and what stands beside it, hashed.

The features are those of Ratnaparkhi 1996 and of the CoNLL shared tasks: the word, its prefixes, suffixes and shape, its neighbours.
They are hashed (Weinberger et al. 2009) into one table of weights, which Adagrad (Duchi et al. 2011) fits in a few passes.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

FEATURES = "word, shape, prefixes, suffixes, and the words beside it"
_BUCKETS = 1 << 19
_COUNT = 22
"""Features of a word."""
_PASSES, _STEPS = 4, 400
"""Passes over the words, and steps, at least."""
_BATCH = 256
"""Words of a step at most; of few words a hundredth."""
_LR = 0.05
_MOST_WORDS = 200_000
"""Words of training that it is fitted on at most."""

Ids = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Tagger:
    """A fitted linear tagger."""

    weight: torch.Tensor
    """(buckets, C)."""
    bias: torch.Tensor
    """(C,)."""
    words: int
    """Words that it was fitted on."""

    def probabilities(self, texts: Sequence[Sequence[str]]) -> list[NDArray[np.float64]]:
        """Return the probabilities (W_i, C) of the tags of each text's words."""
        return [_softmax(self.weight, self.bias, torch.from_numpy(_features(words))).double().numpy() for words in texts]


def fit(texts: Sequence[Sequence[str]], tags: Sequence[NDArray[Any]], classes: int, *, seed: int = 0) -> Tagger:
    """Return the tagger of some texts; of very many words it is fitted on the first.

    Args:
        texts: the words of each text.
        tags: their classes (W_i,).
        classes: C.
        seed: of the order of words.
    """
    count = int(np.searchsorted(np.cumsum([len(words) for words in texts]), _MOST_WORDS)) + 1
    ids = torch.from_numpy(np.concatenate([_features(words) for words in texts[:count]]))
    goal = torch.from_numpy(np.concatenate(tags[:count]).astype(np.int64))
    weight, bias = torch.zeros(_BUCKETS, classes), torch.zeros(classes)
    squares, bias_squares = torch.full_like(weight, 1e-8), torch.full_like(bias, 1e-8)
    order = np.random.default_rng(seed)
    steps = max(1, len(goal) // int(np.clip(len(goal) // 100, 8, _BATCH)))
    for _ in range(max(_PASSES, -(-_STEPS // steps))):
        for chosen in np.array_split(order.permutation(len(goal)), steps):
            mine, wanted = ids[chosen], goal[chosen]
            off = _softmax(weight, bias, mine)
            off[torch.arange(len(wanted)), wanted] -= 1
            rows, place = torch.unique(mine, return_inverse=True)
            gradient = torch.zeros(len(rows), classes).index_add_(0, place.flatten(), off.repeat_interleave(mine.shape[1], 0))
            squares[rows] += gradient**2
            weight[rows] -= _LR * gradient / squares[rows].sqrt()
            bias_squares += off.sum(0) ** 2
            bias -= _LR * off.sum(0) / bias_squares.sqrt()
    return Tagger(weight=weight, bias=bias, words=len(goal))


def _softmax(weight: torch.Tensor, bias: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Return probabilities (W, C) of words that have features (W, F)."""
    return (weight[ids].sum(1) + bias).softmax(1)


def _features(words: Sequence[str]) -> Ids:
    """Return the hashed features of each word of a text, (W, F)."""
    padded = ["<s>", "<s>", *words, "</s>", "</s>"]
    shapes = [shape(word) for word in padded]
    low = [word.casefold() for word in padded]
    out = np.empty((len(words), _COUNT), np.int64)
    for at in range(2, len(padded) - 2):
        word = low[at]
        named = [
            f"w={padded[at]}",
            f"l={word}",
            f"s={shapes[at]}",
            *(f"p{n}={word[:n]}" for n in (1, 2, 3)),
            *(f"e{n}={word[-n:]}" for n in (1, 2, 3, 4)),
            *(f"l{d}={low[at + d]}" for d in (-2, -1, 1, 2)),
            *(f"s{d}={shapes[at + d]}" for d in (-2, -1, 1, 2)),
            f"b={low[at - 1]}|{word}",
            f"a={word}|{low[at + 1]}",
            f"sb={shapes[at - 1]}|{shapes[at]}",
            f"sa={shapes[at]}|{shapes[at + 1]}",
        ]
        out[at - 2] = [zlib.crc32(name.encode("utf-8", "surrogatepass")) % _BUCKETS for name in named]
    return out


def shape(word: str) -> str:
    """Return what a word looks like: 'Xx', 'X', 'x', 'd', each sign as it is, runs of one kind once."""
    out = ""
    for character in word[:20]:
        kind = "X" if character.isupper() else "x" if character.isalpha() else "d" if character.isdigit() else character
        out += kind if out[-1:] != kind else ""
    return out
