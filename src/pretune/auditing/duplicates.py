"""Examples that are the same: byte for byte, or as good as (re-saved, resized, re-exposed, re-capitalised).

Exact duplicates share a hash. Near duplicates are proposed cheaply and confirmed on what is stored:
images whose 64-bit difference hashes differ in at most 3 bits (found by bands, Manku et al. 2007, so
that a million examples stay cheap) and whose 16x16 colour thumbnails correlate; clips of equal length and
crest factor whose middle samples correlate; texts that are equal but for letter case and white space.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pretune.data.splits import merge
from pretune.types import LedgerEntry

if TYPE_CHECKING:
    from pretune.storage.ingest import Ingested

_BITS = 3
_WINDOW = 24
"""Neighbours in sorted order that an example is compared with."""
_SIDE = 16
_ALIKE = 0.98
_RESIDUAL = 40.0
"""Largest difference between thumbnails (0..255) once brightness and contrast are matched."""
_FLAT = 4.0
"""Standard deviation (0..255) below which an image shows too little to be compared."""
_SAMPLES = 2048
_CHAIN = 20
"""Examples that a chain of near duplicates may join; beyond (and beyond a fifth of all), only exact ones are."""

Pairs = list[tuple[int, int]]


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """Positions of equal examples, each list sorted and of two at least."""

    exact: list[list[int]]
    """Equal bytes (or equal inline text)."""
    near: list[list[int]]
    """Connected by equal bytes or near equality; holds every list of `exact`."""
    chained: int = 0
    """Examples whose near duplicates form one long chain, which was not joined."""


def find(ingested: Ingested) -> Duplicates:
    """Return the duplicates among ingested examples."""
    exact = _by_key(ingested.hashes)
    seconds = {position for group in exact for position in group[1:]}
    pool = np.array([position for position in range(len(ingested.rows)) if position not in seconds], dtype=int)
    pairs = _near_pairs(ingested, pool)
    near, chained = [], 0
    for group in merge([*exact, *map(list, pairs)]):
        if len(group) > max(_CHAIN, len(ingested.rows) // 5):
            inside = set(group)
            kept = [same for same in exact if inside & set(same)]
            chained += len(group)
            near += kept
        else:
            near.append(group)
    return Duplicates(exact=exact, near=sorted(near), chained=chained)


def without_copies(done: Ingested, targets: Sequence[int] | None = None) -> tuple[NDArray[np.int64], list[LedgerEntry]]:
    """Return the positions of examples without copies (equal bytes; with `targets`, equal ones too), and a ledger of the copies."""
    kinds = [0] * len(done.rows) if targets is None else targets
    first: dict[tuple[str, int], int] = {}
    places = [first.setdefault(key, place) for place, key in enumerate(zip(done.hashes, kinds, strict=True))]
    copies = [
        LedgerEntry(item=done.rows[i].id, action="dropped", reason="copy", detail=f"equals {done.rows[place].id} byte for byte")
        for i, place in enumerate(places)
        if i != place
    ]
    return np.array(sorted(first.values()), np.int64), copies


def _near_pairs(ingested: Ingested, pool: NDArray[np.int_]) -> Pairs:
    if not len(pool):
        return []
    info = ingested.store.infos[int(pool[0])]
    if "dhash" in info:
        return _images(ingested, pool)
    if "rms" in info:
        return _clips(ingested, pool)
    return _equal_texts(ingested, pool)


def _by_key(keys: Iterable[object]) -> list[list[int]]:
    groups: dict[object, list[int]] = defaultdict(list)
    for position, key in enumerate(keys):
        groups[key].append(position)
    return [group for group in groups.values() if len(group) > 1]


# --- images --------------------------------------------------------------------------------------


def _images(ingested: Ingested, pool: NDArray[np.int_]) -> Pairs:
    codes = np.array([int(str(ingested.store.infos[position]["dhash"]), 16) for position in pool.tolist()], dtype=np.uint64)
    shows = codes != 0  # an image of one colour has no gradient
    pool, codes = pool[shows], codes[shows]
    left, right = hamming_pairs(codes)
    if not len(left):
        return []
    used, places = np.unique(np.concatenate([left, right]), return_inverse=True)
    thumbnails = np.stack([thumbnail(ingested.store[int(pool[at])]) for at in used])
    first, second = places[: len(left)], places[len(left) :]
    alike = _alike(thumbnails, first, second)
    return list(zip(pool[left[alike]].tolist(), pool[right[alike]].tolist(), strict=True))


def hamming_pairs(codes: NDArray[np.uint64]) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """Return index pairs of 64-bit codes that differ in at most 3 bits.

    Codes that differ in 3 bits agree in one of four 16-bit bands. For each band the codes are sorted with
    that band in front, and each is compared with its next neighbours: all pairs are found as long as no
    more than `_WINDOW` codes share a band, near ones of the others first.
    """
    found: list[NDArray[np.int_]] = []
    for band in range(4):
        shift = np.uint64(16 * band)
        turned = codes if band == 0 else (codes << shift) | (codes >> (np.uint64(64) - shift))
        order = np.argsort(turned, kind="stable")
        ordered = turned[order]
        for step in range(1, min(_WINDOW + 1, len(codes))):
            differing = ordered[step:] ^ ordered[:-step]
            same_band = differing >> np.uint64(48) == 0
            if not same_band.any():
                break
            hits = np.flatnonzero(same_band & (np.bitwise_count(differing) <= _BITS))
            a, b = order[hits], order[hits + step]
            found.append(np.minimum(a, b) * len(codes) + np.maximum(a, b))
    keys = np.unique(np.concatenate(found)) if found else np.zeros(0, dtype=int)
    return keys // max(1, len(codes)), keys % max(1, len(codes))


def thumbnail(array: NDArray[Any]) -> NDArray[np.float32]:
    """Return an image (H, W, 3) as 16x16x3 numbers in 0..255, flattened; each is the mean of 3x3 samples."""
    rows = ((np.arange(3 * _SIDE) + 0.5) * array.shape[0] / (3 * _SIDE)).astype(int)
    columns = ((np.arange(3 * _SIDE) + 0.5) * array.shape[1] / (3 * _SIDE)).astype(int)
    sampled = array.take(rows, axis=0).take(columns, axis=1)
    bands = sampled.astype(np.float32).reshape(_SIDE, 3, -1).sum(1)  # rows first: long inner loops
    return bands.reshape(_SIDE, _SIDE, 3, -1).sum(2).ravel() / 9


def _alike(vectors: NDArray[np.float32], first: NDArray[np.int_], second: NDArray[np.int_]) -> NDArray[np.bool_]:
    """Return which pairs of thumbnails show the same once brightness and contrast are matched."""
    centred = vectors - vectors.mean(1, keepdims=True)
    spread = centred.std(1)
    out = np.zeros(len(first), dtype=bool)
    for start in range(0, len(first), 4096):
        a, b = first[start : start + 4096], second[start : start + 4096]
        covariance = (centred[a] * centred[b]).mean(1)
        strong = (spread[a] > _FLAT) & (spread[b] > _FLAT)
        correlation = covariance / np.maximum(spread[a] * spread[b], 1e-6)
        slope = covariance / np.maximum(spread[a] ** 2, 1e-6)
        residual = np.abs(centred[b] - slope[:, None] * centred[a]).max(1)
        out[start : start + 4096] = strong & (correlation >= _ALIKE) & (residual <= _RESIDUAL)
    return out


# --- clips and texts -----------------------------------------------------------------------------


def _clips(ingested: Ingested, pool: NDArray[np.int_]) -> Pairs:
    """Return pairs of equal length and crest factor whose middle samples correlate (another gain or container)."""
    infos = [ingested.store.infos[position] for position in pool.tolist()]
    seconds = np.array([float(info["seconds"]) for info in infos])
    crest = np.array([float(info["peak"]) / max(float(info["rms"]), 1e-9) for info in infos])
    order = np.lexsort((crest, np.round(seconds, 2)))
    middles: dict[int, NDArray[np.float32]] = {}
    pairs: Pairs = []
    for step in range(1, min(_WINDOW + 1, len(order))):
        a, b = order[:-step], order[step:]
        near = (np.abs(seconds[a] - seconds[b]) <= 0.01) & (np.abs(crest[a] - crest[b]) <= 0.01 * crest[a])
        if not near.any():
            break
        for i, j in zip(pool[a[near]].tolist(), pool[b[near]].tolist(), strict=True):
            for position in (i, j):
                if position not in middles:
                    middles[position] = _middle(ingested.store[position])
            if len(middles[i]) == len(middles[j]) and float(middles[i] @ middles[j]) >= _ALIKE:
                pairs.append((i, j))
    return pairs


def _middle(samples: NDArray[Any]) -> NDArray[np.float32]:
    start = max(0, (len(samples) - _SAMPLES) // 2)
    part = np.asarray(samples[start : start + _SAMPLES], dtype=np.float32)
    part = part - part.mean()
    return part / max(float(np.linalg.norm(part)), 1e-9)


def _equal_texts(ingested: Ingested, pool: NDArray[np.int_]) -> Pairs:
    """Return pairs of texts equal but for letter case, Unicode form and white space; of files, with equal tokens."""
    keys = [_plain(ingested.rows[position].text) or ingested.store[position].tobytes() for position in pool.tolist()]
    return [(int(pool[group[0]]), int(pool[other])) for group in _by_key(keys) for other in group[1:]]


def _plain(text: Sequence[str] | None) -> str:
    if text is None:
        return ""
    return "\x1f".join(" ".join(unicodedata.normalize("NFKC", part).casefold().split()) for part in text)
