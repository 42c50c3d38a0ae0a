"""What a corpus shares with held-out texts: the same words, whatever their case, spacing and punctuation, or most of them.

Letters and digits alone are compared, folded. A held-out text is known by a sketch of its shingles (runs of letters); text
that holds half of them close together resembles it. A. Broder, "On the resemblance and containment of documents", 1997.
Only the held-out side is in memory: a corpus goes by in batches.

Shapes: C characters, N symbols (letters and digits), S segments, H held-out texts.
"""

from __future__ import annotations

import functools
import itertools
import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SPELLED, _WIDE = 8, 4
"""Symbols of a shingle: where letters spell words, and where a character is a word."""
_SKETCH = 64
"""Shingles by which a text is known, those that fewest other held-out texts have."""
_OWNERS = 8
"""Held-out texts that are looked up for one shingle; more of them are near copies of each other, and one is enough to be found."""
_CONTAINED = 0.5
"""Share of the sketch from which a text is said to resemble."""
_REACH = 1.5
"""Lengths of the held-out text within which its shingles must be."""
_FEWEST = 8
"""Shingles that a text must have to be resembled; shorter ones are found where a line or document is equal to them."""
_STRAY, _SPARSE = 0.15, 0.5
"""Share of a stretch's shingles, and of their usual density, below which a line at its end is none of it."""
_BASE = np.uint64(0x9E3779B97F4A7C15)

Symbols = NDArray[np.uint64]

KEPT, EQUAL, NEAR = 0, 1, 2
"""What a segment is to the held-out texts."""


@dataclass(frozen=True, kw_only=True)
class Excluded:
    """What must not be learned from: the held-out examples of a later task."""

    hashes: frozenset[str] = frozenset()
    """Of the bytes of files, and of texts."""
    documents: HeldOutTexts | None = None


NOTHING = Excluded()


class HeldOutTexts:
    """Held-out texts, and what resembles them."""

    def __init__(self, documents: Iterable[str]) -> None:
        """Take the texts; their sketches are kept, not they."""
        whole: set[int] = set()
        bare: set[str] = set()
        self._longest = 0
        sketched: dict[int, list[Symbols]] = {_SPELLED: [], _WIDE: []}
        for text in dict.fromkeys(documents):
            codes = _codes(text)
            symbols = _symbols(codes)[0]
            if len(symbols):
                self._longest = max(self._longest, len(symbols))
                whole.add(int(_hashes(symbols, np.zeros(1, np.int64))[0]))
                sketched[_WIDE if _is_wide(codes).mean() > 0.3 else _SPELLED].append(symbols)
            else:
                bare.add(text.strip())
        self._whole, self._bare = np.array(sorted(whole), np.uint64), bare
        self._sketches = [_Sketches(symbols, run) for run, symbols in sketched.items() if symbols]

    def found(self, documents: Sequence[Sequence[str]]) -> list[NDArray[np.int8]]:
        """Return what the segments (lines, sentences) of each document are: KEPT, EQUAL (but for case and the like), or NEAR."""
        segments = [segment for document in documents for segment in document]
        codes = _codes("".join(segments))
        symbols, places = _symbols(codes)
        lengths = np.fromiter(map(len, segments), np.int64, len(segments))
        of_segment = np.repeat(np.arange(len(segments)), lengths)[places]
        sizes = np.bincount(of_segment, minlength=len(segments))
        counts = np.fromiter(map(len, documents), np.int64, len(documents))
        document_of = np.repeat(np.arange(len(documents)), counts)
        out = np.zeros(len(segments), np.int8)
        for sketches in self._sketches:
            for places in sketches.found(symbols):
                first, last = _extent(of_segment[places], of_segment[places + sketches.run - 1], sizes)
                out[first : last + 1] = NEAR
        out[self._equal(symbols, of_segment, len(segments))] = EQUAL
        out[self._equal(symbols, document_of[of_segment], len(documents))[document_of]] = EQUAL
        self._without_letters(segments, of_segment, out)
        return np.split(out, np.cumsum(counts)[:-1])

    def _equal(self, symbols: Symbols, owner: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
        """Return which of `count` stretches of symbols are a held-out text as a whole."""
        out = np.zeros(count, bool)
        starts = np.flatnonzero(np.diff(owner, prepend=-1))
        lengths = np.diff(starts, append=len(symbols))
        short = np.flatnonzero(lengths <= self._longest)
        if len(short) < len(starts):  # a document is seldom as short as a held-out text
            symbols = symbols[np.repeat(lengths <= self._longest, lengths)]
        if len(symbols):
            begins = np.cumsum(lengths[short]) - lengths[short]
            out[owner[starts[short]]] = np.isin(_hashes(symbols, begins), self._whole)
        return out

    def _without_letters(self, segments: Sequence[str], of_segment: NDArray[np.int64], out: NDArray[np.int8]) -> None:
        """Compare what has neither letters nor digits as it is."""
        if self._bare:
            empty = np.bincount(of_segment, minlength=len(segments)) == 0
            for number in np.flatnonzero(empty):
                if segments[number].strip() and segments[number].strip() in self._bare:
                    out[number] = EQUAL


class _Sketches:
    """Shingles of `run` symbols, and the held-out texts that have them."""

    def __init__(self, documents: Sequence[Symbols], run: int) -> None:
        self.run = run
        shingles = [np.unique(_shingles(symbols, run)) for symbols in documents]
        lengths = [len(symbols) for symbols, one in zip(documents, shingles, strict=True) if len(one) >= _FEWEST]
        sketches = _sketches([one for one in shingles if len(one) >= _FEWEST])
        keys = np.concatenate([np.zeros(0, np.uint64), *sketches])
        owners = np.repeat(np.arange(len(sketches)), [len(one) for one in sketches])
        order = np.argsort(keys, kind="stable")
        keys, owners = keys[order], owners[order]
        begins = np.searchsorted(keys, keys)
        few = np.arange(len(keys)) - begins < _OWNERS
        self.keys, self.offsets = np.unique(keys[few], return_index=True)
        self.offsets = np.append(self.offsets, few.sum())
        self.owners = owners[few]
        known = np.bincount(self.owners, minlength=len(sketches))
        self.needed = np.where(known >= _FEWEST // 2, np.ceil(_CONTAINED * known), 1 << 30).astype(np.int64)
        self.reach = np.array([math.ceil(_REACH * length) + run for length in lengths], np.int64)
        self.bits = np.uint64((1 << max(16, math.ceil(math.log2(16 * len(self.keys) + 1)))) - 1)
        self.filter = np.zeros(int(self.bits) + 1, bool)
        self.filter[(self.keys >> np.uint64(20)) & self.bits] = True

    def found(self, symbols: Symbols) -> list[NDArray[np.int64]]:
        """Return of every stretch that resembles a held-out text where its shingles are."""
        places, found = self._known(_shingles(symbols, self.run))
        counts = self.offsets[found + 1] - self.offsets[found]
        ends = np.cumsum(counts)
        within = np.arange(counts.sum()) - np.repeat(ends - counts, counts)
        owners = self.owners[np.repeat(self.offsets[found], counts) + within]
        enough = np.bincount(owners, minlength=len(self.needed)) >= self.needed
        chosen = np.flatnonzero(enough[owners])
        chosen = chosen[np.argsort(owners[chosen], kind="stable")]
        which = np.repeat(np.arange(len(found)), counts)[chosen]
        owners, places, found = owners[chosen], places[which], found[which]
        cuts = np.flatnonzero(np.diff(owners, prepend=-1, append=-1))
        return [close for a, b in itertools.pairwise(cuts) for close in self._close(owners[a], places[a:b], found[a:b])]

    def _known(self, shingles: Symbols) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return where shingles of held-out texts are, and which."""
        places = np.flatnonzero(self.filter[(shingles >> np.uint64(20)) & self.bits])
        if not len(self.keys):
            return places[:0], places[:0]
        found = np.searchsorted(self.keys, shingles[places])
        found[found == len(self.keys)] = 0
        same = self.keys[found] == shingles[places]
        return places[same], found[same]

    def _close(self, owner: int, places: NDArray[np.int64], keys: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Return the places in each stretch in which enough different shingles of one held-out text are close together."""
        ends = np.searchsorted(places, places + self.reach[owner])
        stretches: list[NDArray[np.int64]] = []
        begin = 0
        for start in np.flatnonzero(ends - np.arange(len(places)) >= self.needed[owner]).tolist():
            if start >= begin and len(np.unique(keys[start : ends[start]])) >= self.needed[owner]:
                begin = int(ends[start])
                stretches.append(places[start:begin])
        return stretches


def _extent(begins: NDArray[np.int64], ends: NDArray[np.int64], sizes: NDArray[np.int64]) -> tuple[int, int]:
    """Return the first and last segment of a stretch, less those at its ends that share a few shingles with the text by chance.

    Args:
        begins: segment in which each shingle begins.
        ends: segment in which it ends.
        sizes: symbols of every segment.
    """
    first, last = int(begins[0]), int(ends[-1])
    hits = np.bincount(begins - first, minlength=last - first + 1)
    dense = len(begins) / max(1, sizes[first : last + 1].sum())
    by_chance = (hits < _STRAY * len(begins)) & (hits < _SPARSE * dense * sizes[first : last + 1])
    kept = np.flatnonzero(~by_chance)
    return first + int(kept[0]), first + int(kept[-1])


def _sketches(shingles: Sequence[Symbols]) -> list[Symbols]:
    """Return of each text's shingles those that the fewest others have."""
    if not shingles:
        return []
    everything, often = np.unique(np.concatenate(shingles), return_counts=True)
    return [one[np.argsort(often[np.searchsorted(everything, one)], kind="stable")[:_SKETCH]] for one in shingles]


# --- symbols -------------------------------------------------------------------------------------


def _codes(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _symbols(codes: NDArray[np.uint32]) -> tuple[Symbols, NDArray[np.int64]]:
    """Return the symbols (N,) of characters (C,), each a random number, and the places of those characters."""
    symbols = _table()[np.minimum(codes, 0xFFFF)]
    beyond = np.flatnonzero(codes >= 0x20000)  # rare Chinese characters; symbols and emoji are below
    symbols[beyond] = codes[beyond] * _BASE
    places = np.flatnonzero(symbols)
    return symbols[places], places


@functools.cache
def _table() -> Symbols:
    """Return a random number for each character of the basic plane, the same for those that fold to one, 0 for no letter or digit."""
    random = np.random.default_rng(0).integers(1, 1 << 63, 1 << 16, dtype=np.uint64)
    return np.array([random[base] if (base := _folded(chr(code))) else 0 for code in range(1 << 16)], np.uint64)


def _folded(character: str) -> int:
    """Return the code of what a character is compared as, small and without its accents; 0 where it is neither letter nor digit."""
    if "\uac00" <= character <= "\ud7a3":  # a syllable, which would fall apart into its letters
        return ord(character)
    if "\ud800" <= character <= "\udfff" or unicodedata.combining(character):
        return 0
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())[:1]
    return ord(plain) & 0xFFFF if plain.isalnum() or unicodedata.category(plain or " ").startswith("M") else 0


def _is_wide(codes: NDArray[np.uint32]) -> NDArray[np.bool_]:
    return ((codes >= 0x2E80) & (codes <= 0x9FFF)) | ((codes >= 0xAC00) & (codes <= 0xD7AF)) | (codes >= 0x20000)


def _shingles(symbols: Symbols, run: int) -> Symbols:
    """Return a hash of each `run` symbols that follow each other, (N - run + 1,); `run` is a power of 2."""
    hashes, power, width = symbols, np.full(1, _BASE), 1
    while width < run and len(hashes) > width:
        hashes = hashes[:-width] * power + hashes[width:]
        power, width = power * power, 2 * width
    return hashes if width == run else symbols[:0]


def _hashes(symbols: Symbols, starts: NDArray[np.int64]) -> Symbols:
    """Return a hash of each stretch of symbols; `starts` are where they begin."""
    lengths = np.diff(starts, append=len(symbols))
    offsets = np.arange(len(symbols)) - np.repeat(starts, lengths)
    return np.add.reduceat(symbols * _powers(int(lengths.max()))[offsets], starts)


@functools.lru_cache(maxsize=1)
def _all_powers(count: int) -> Symbols:
    return np.cumprod(np.full(count, _BASE, np.uint64))


def _powers(count: int) -> Symbols:
    return _all_powers(1 << max(12, count.bit_length()))
