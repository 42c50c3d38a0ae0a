"""Classical features of texts for the floor: TF-IDF over words and pairs of words, and over runs of characters.

Scripts that put spaces between words get words with bigrams (Wang & Manning 2012, "Baselines and Bigrams") beside
runs of two to five characters within words; Chinese, Japanese and Thai get single characters and pairs.
Terms are 64-bit keys in arrays, not strings in dictionaries: that is some five times faster.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
Terms = tuple[NDArray[np.int64], Keys]
"""Number of the document and key of every term that occurs, in any order."""

_WORD = re.compile(r"\w+|[!?…]")
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_LONGEST = 20_000
"""Characters of one text that are looked at."""
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SPACE = 32


def features(train: Sequence[str], held: Sequence[str]) -> tuple[Any, Any]:
    """Return sparse (N, D) and (M, D) rows of length 1; terms and their weights are those of `train`."""
    from scipy.sparse import hstack

    texts = [text[:_LONGEST].lower() for text in (*train, *held)]
    some = 2 if len(train) >= 100 else 1
    if _is_unspaced(train):
        return _weighted(_characters(["".join(text.split()) for text in texts], (1, 2)), len(train), len(held), fewest=some)
    words = [_WORD.findall(text) for text in texts]
    blocks = (
        _weighted(_words(words), len(train), len(held), fewest=1),
        _weighted(_characters([f" {' '.join(parts)} " for parts in words], (2, 3, 4, 5)), len(train), len(held), fewest=some),
    )
    both = [hstack([block[side] * 0.5**0.5 for block in blocks], format="csr") for side in (0, 1)]
    return both[0], both[1]


def description(train: Sequence[str]) -> str:
    """Return what the features are, for people."""
    return "TF-IDF of characters and their pairs" if _is_unspaced(train) else "TF-IDF of words, word pairs and 2 to 5 characters"


def _is_unspaced(texts: Sequence[str]) -> bool:
    """Tell whether most letters belong to scripts without spaces between words."""
    sample = "".join(text[:200] for text in texts[:500])
    letters = sum(c.isalpha() for c in sample)
    return len(_UNSPACED.findall(sample)) > 0.3 * max(1, letters)


def _words(texts: Sequence[list[str]]) -> Terms:
    """Return words and pairs of neighbouring words."""
    number: dict[str, int] = {}
    ids = np.array([number.setdefault(word, len(number) + 1) for words in texts for word in words], np.uint64)
    document = np.repeat(np.arange(len(texts)), [len(words) for words in texts])
    pair = document[1:] == document[:-1]
    keys = np.concatenate([ids, (ids[:-1] << np.uint64(32) | ids[1:])[pair]])
    return np.concatenate([document, document[1:][pair]]), keys


def _characters(texts: Sequence[str], lengths: tuple[int, ...]) -> Terms:
    """Return runs of characters that lie in one text and reach over no space."""
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    document = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    documents, keys = [], []
    for length in lengths:
        count = max(0, len(codes) - length + 1)
        key = np.full(count, length, np.uint64)
        whole = document[:count] == document[length - 1 : length - 1 + count]
        for offset in range(length):
            here = codes[offset : offset + count]
            key = key * _MULTIPLIER + here
            if 0 < offset < length - 1:
                whole = whole & (here != _SPACE)
        documents.append(document[:count][whole])
        keys.append(key[whole])
    return np.concatenate(documents), np.concatenate(keys)


def _weighted(terms: Terms, train: int, held: int, *, fewest: int) -> tuple[Any, Any]:
    """Return (1 + log tf) · idf of terms that at least `fewest` training documents hold, rows scaled to length 1, as CSR."""
    from scipy.sparse import csr_matrix

    document, key = terms
    known, column = np.unique(key, return_inverse=True)
    pairs, count = np.unique(document * max(1, len(known)) + column, return_counts=True)
    document, column = np.divmod(pairs, max(1, len(known)))
    frequency = np.bincount(column[document < train], minlength=len(known))
    kept = frequency >= fewest
    place = np.cumsum(kept) - 1
    idf = np.log((1 + train) / (1 + frequency)) + 1
    value = (1 + np.log(count)) * idf[column] * kept[column]
    length = np.sqrt(np.bincount(document, weights=value**2, minlength=train + held))
    value = (value / np.maximum(length, 1e-12)[document])[kept[column]]
    document, column = document[kept[column]], place[column[kept[column]]]
    whole = csr_matrix((value.astype(np.float32), (document, column)), shape=(train + held, max(1, int(kept.sum()))))
    return whole[:train], whole[train:]
