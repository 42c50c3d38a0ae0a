"""Classical features of texts for the baseline: TF-IDF over words and pairs of words, and over runs of characters.

Scripts that put spaces between words get words with bigrams (Wang & Manning 2012, "Baselines and Bigrams") beside
runs of two to five characters within words; Chinese, Japanese and Thai get single characters and pairs.
Terms are 64-bit hashes in arrays, not strings in dictionaries: that is some five times faster, and they are what is saved.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pretune.modalities._base import BaselineFeatures

Keys = NDArray[np.uint64]

_WORD = re.compile(r"\w+|[!?…]")
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_LONGEST = 20_000
"""Characters of one text that are looked at."""
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SPACE = 32
_NAMED_AT_ONCE = 500
"""Texts that are searched at once for how a term is written."""


class Terms(NamedTuple):
    """Every term that occurs, in any order."""

    document: NDArray[np.int64]
    """(T,) number of its text."""
    key: Keys
    """(T,) hash of the term."""
    place: NDArray[np.int64]
    """(T,) where it begins: number of a word, or of a character, counted over all texts."""
    length: NDArray[np.int64]
    """(T,) in words or characters."""


@dataclass(frozen=True, kw_only=True)
class TermVocabulary:
    """One kind of terms with their weights: a vocabulary."""

    keys: Keys
    """(D,) hashes of the terms that are counted, rising."""
    idf: NDArray[np.float32]
    """(D,) inverse document frequencies."""

    @classmethod
    def fitted(cls, terms: Terms, total: int, *, fewest: int) -> tuple[TermVocabulary, Any]:
        """Return the terms that at least `fewest` of the texts hold, weighted by log((1 + N) / (1 + n)) + 1, and the texts' features."""
        keys, column = np.unique(terms.key, return_inverse=True)
        document, column, count = _counted(terms.document, column, len(keys))
        frequency = np.bincount(column, minlength=len(keys))
        kept = frequency >= fewest
        block = cls(keys=keys[kept], idf=(np.log((1 + total) / (1 + frequency[kept])) + 1).astype(np.float32))
        there, place = kept[column], np.cumsum(kept) - 1
        return block, block._rows(document[there], place[column[there]], count[there], total)

    def features(self, terms: Terms, total: int) -> Any:
        """Return (1 + log tf) · idf of the known terms, (N, D) in CSR, rows scaled to length 1."""
        keys, which = np.unique(terms.key, return_inverse=True)
        place = np.searchsorted(self.keys, keys)  # of sorted keys, which is quick
        known = np.zeros(len(keys), bool)
        inside = place < len(self.keys)
        known[inside] = self.keys[place[inside]] == keys[inside]
        there = known[which]
        document, column, count = _counted(terms.document[there], place[which[there]], len(self.keys))
        return self._rows(document, column, count, total)

    def _rows(self, document: NDArray[np.int64], column: NDArray[np.int64], count: NDArray[np.int64], total: int) -> Any:
        from scipy.sparse import csr_matrix

        value = (1 + np.log(count)) * self.idf[column].astype(np.float64)
        length = np.sqrt(np.bincount(document, weights=value**2, minlength=total))
        value = (value / np.maximum(length, 1e-12)[document]).astype(np.float32)
        return csr_matrix((value, (document, column)), shape=(total, max(1, len(self.keys))))


def _counted(document: NDArray[np.int64], column: NDArray[np.int64], width: int) -> tuple[NDArray[np.int64], ...]:
    """Return document, column and how often it occurs there, of every pair there is."""
    pairs, count = np.unique(document * max(1, width) + column, return_counts=True)
    return *np.divmod(pairs, max(1, width)), count


@dataclass(frozen=True, kw_only=True)
class Tfidf(BaselineFeatures):
    """TF-IDF with the terms and weights of the training texts."""

    unspaced: bool
    """Whether the texts are in scripts without spaces between words: then characters and pairs of them are counted, and no words."""
    blocks: tuple[TermVocabulary, ...]
    """Words and their pairs, and runs of characters; or characters alone."""

    @classmethod
    def fitted(cls, documents: Sequence[str]) -> tuple[Tfidf, Any]:
        """Return the fitted terms and weights, and the features of these texts, (N, D).

        Of 100 texts or more, a run of characters that only one text holds is no term.
        """
        some = 2 if len(documents) >= 100 else 1
        unspaced = _is_unspaced(documents)
        fewest = (some,) if unspaced else (1, some)
        made = [
            TermVocabulary.fitted(part, len(documents), fewest=least)
            for part, least in zip(_terms(documents, unspaced), fewest, strict=True)
        ]
        return cls(unspaced=unspaced, blocks=tuple(block for block, _ in made)), _side_by_side([rows for _, rows in made])

    @property
    def words(self) -> str:
        """What the features are, for people."""
        return "TF-IDF of characters and their pairs" if self.unspaced else "TF-IDF of words, word pairs and 2 to 5 characters"

    @property
    def width(self) -> int:
        """D, the number of columns."""
        return sum(max(1, len(block.keys)) for block in self.blocks)

    @property
    def nameable(self) -> int:
        """How many of the first columns are words and their pairs, or characters where there are no words."""
        return len(self.blocks[0].keys)

    def features(self, items: Sequence[str]) -> Any:
        """Return sparse (N, D) rows of length 1; blocks have equal weight."""
        terms = _terms(items, self.unspaced)
        return _side_by_side([block.features(part, len(items)) for block, part in zip(self.blocks, terms, strict=True)])

    def named(self, columns: Sequence[int], items: Sequence[str]) -> dict[int, str]:
        """Return how the terms of some of the first `nameable` columns are written, as far as they are found in these texts."""
        block = self.blocks[0]
        wanted = {int(block.keys[column]): int(column) for column in columns if column < len(block.keys)}
        found: dict[int, str] = {}
        for start in range(0, len(items), _NAMED_AT_ONCE):
            missing = np.array([key for key, column in wanted.items() if column not in found], np.uint64)
            if not len(missing):
                break
            for key, written in _written(items[start : start + _NAMED_AT_ONCE], missing, self.unspaced).items():
                found[wanted[key]] = written
        return found

    # --- saving ------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """Return what `arrays` does not hold, JSON-ready."""
        return {"unspaced": self.unspaced, "blocks": len(self.blocks)}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the vocabularies, by name; hashes as signed numbers of 64 bits."""
        out: dict[str, NDArray[Any]] = {}
        for number, block in enumerate(self.blocks):
            out |= {f"{number}.keys": block.keys.view(np.int64), f"{number}.idf": block.idf}
        return out

    @classmethod
    def read(cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Tfidf:
        """Return the features that were saved.

        Raises:
            ValueError: they make no sense together.
        """
        unspaced = settings["unspaced"]
        blocks = []
        for number in range(1 if unspaced else 2):
            keys, idf = np.ascontiguousarray(arrays[f"{number}.keys"]).view(np.uint64), arrays[f"{number}.idf"]
            if keys.ndim != 1 or keys.shape != idf.shape or (keys[1:] <= keys[:-1]).any():
                raise ValueError(f"block {number} is no vocabulary")
            blocks.append(TermVocabulary(keys=keys, idf=idf.astype(np.float32)))
        return cls(unspaced=bool(unspaced), blocks=tuple(blocks))


def _side_by_side(blocks: Sequence[Any]) -> Any:
    """Return the blocks' rows side by side, each with an equal share of the length 1."""
    from scipy.sparse import hstack

    return hstack([block * len(blocks) ** -0.5 for block in blocks], format="csr").astype(np.float32)


def _is_unspaced(documents: Sequence[str]) -> bool:
    """Return whether most letters belong to scripts without spaces between words."""
    sample = "".join(text[:200] for text in documents[:500])
    letters = sum(c.isalpha() for c in sample)
    return len(_UNSPACED.findall(sample)) > 0.3 * max(1, letters)


# --- terms ---------------------------------------------------------------------------------------


def _terms(documents: Sequence[str], unspaced: bool) -> list[Terms]:
    """Return the terms of each block."""
    if unspaced:
        return [_characters(_squeezed(documents), (1, 2))]
    words = _split(documents)
    return [_words(words), _characters([f" {' '.join(parts)} " for parts in words], (2, 3, 4, 5))]


def _squeezed(documents: Sequence[str]) -> list[str]:
    """Return texts in lower case without their spaces."""
    return ["".join(text[:_LONGEST].lower().split()) for text in documents]


def _split(documents: Sequence[str]) -> list[list[str]]:
    """Return the words of each text in lower case."""
    return [_WORD.findall(text[:_LONGEST].lower()) for text in documents]


def _codes(text: str) -> Keys:
    """Return the code points of a text, (T,)."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)


def _words(documents: Sequence[list[str]]) -> Terms:
    """Return words and pairs of neighbouring words."""
    words = [word for text in documents for word in text]
    key = _hashed(words)
    document = np.repeat(np.arange(len(documents)), [len(text) for text in documents])
    first = np.flatnonzero(document[1:] == document[:-1])
    both = _mixed(key[first] * _MULTIPLIER + key[first + 1])
    return Terms(
        document=np.concatenate([document, document[first]]),
        key=np.concatenate([key, both]),
        place=np.concatenate([np.arange(len(words)), first]),
        length=np.repeat([1, 2], [len(words), len(first)]),
    )


def _hashed(words: Sequence[str]) -> Keys:
    """Return a hash (W,) of each word, the same in every process."""
    if not words:
        return np.zeros(0, np.uint64)
    size = np.fromiter(map(len, words), np.int64, len(words))
    start = np.cumsum(size) - size
    codes = _codes("".join(words))
    left = np.repeat(start + size, size) - 1 - np.arange(len(codes))  # characters that follow in the word
    powers = np.ones(int(size.max()), np.uint64)
    np.multiply.accumulate(np.full(len(powers) - 1, _MULTIPLIER), out=powers[1:])
    return _mixed(np.add.reduceat(codes * powers[left], start) + size.astype(np.uint64))


def _mixed(key: Keys) -> Keys:
    """Return hashes whose every bit depends on all bits (the finaliser of SplitMix64, Steele et al. 2014)."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        key = (key ^ (key >> np.uint64(shift))) * np.uint64(factor)
    return key ^ (key >> np.uint64(31))


def _characters(strings: Sequence[str], lengths: tuple[int, ...]) -> Terms:
    """Return runs of characters that lie in one text and reach over no space."""
    codes = _codes("".join(strings))
    document = np.repeat(np.arange(len(strings)), [len(text) for text in strings])
    documents, keys, places = [], [], []
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
        places.append(np.flatnonzero(whole))
    return Terms(
        document=np.concatenate(documents),
        key=np.concatenate(keys),
        place=np.concatenate(places),
        length=np.repeat(lengths, [len(place) for place in places]),
    )


def _written(documents: Sequence[str], keys: Keys, unspaced: bool) -> dict[int, str]:
    """Return how terms of the first block are written, where these texts hold them."""
    units: Sequence[str]
    if unspaced:
        squeezed = _squeezed(documents)
        terms, units, joint = _characters(squeezed, (1, 2)), "".join(squeezed), ""
    else:
        words = _split(documents)
        terms, units, joint = _words(words), [word for text in words for word in text], " "
    found, first = np.unique(terms.key, return_index=True)
    there = np.isin(found, keys)
    return {
        int(key): joint.join(units[terms.place[k] : terms.place[k] + terms.length[k]])
        for key, k in zip(found[there], first[there], strict=True)
    }
