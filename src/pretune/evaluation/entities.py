"""Entities of tagged words: the likeliest sequence that IOB2 allows, and what of it is right.

An entity is right where its first word, its last word and its type are (CoNLL-2002 and 2003, Tjong Kim Sang 2002); F1 is that of all
entities together. Tests compare with seqeval.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.evaluation.sums import Floats, Statistic, Sums, ratio

_NEVER = -1e9
_TOGETHER = 256
"""Texts whose sequences are searched at once."""


def transitions(tags: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what is added to the score of a first tag (C,), and of a tag after another (C, C): 0, or what rules it out.

    I-PER follows B-PER and I-PER only.
    """
    inside = [tag[2:] if tag.startswith("I-") else None for tag in tags]
    types = [tag[2:] if tag[:2] in ("B-", "I-") else "" for tag in tags]
    first = np.array([0.0 if name is None else _NEVER for name in inside])
    after = np.array([[0.0 if name is None or name == before else _NEVER for name in inside] for before in types])
    return first, after


def likeliest(scores: Sequence[NDArray[Any]], tags: Sequence[str]) -> list[NDArray[np.int64]]:
    """Return the tags (W_i,) of each text that IOB2 allows and whose scores add up to most (Viterbi 1967).

    Args:
        scores: log-probabilities (W_i, C) of the words of each text.
        tags: C names.
    """
    if len(scores) > _TOGETHER:
        return [path for at in range(0, len(scores), _TOGETHER) for path in likeliest(scores[at : at + _TOGETHER], tags)]
    lengths = np.array([len(one) for one in scores])
    if not len(lengths) or not lengths.max():
        return [np.zeros(0, np.int64) for _ in scores]
    first, after = transitions(tags)
    padded = np.zeros((len(scores), lengths.max(), len(tags)))
    for row, one in zip(padded, scores, strict=True):
        row[: len(one)] = one
    best, back = padded[:, 0] + first, np.zeros((*padded.shape[:2], len(tags)), np.int64)
    ends = best.copy()
    for at in range(1, padded.shape[1]):
        through = best[:, :, None] + after
        back[:, at] = through.argmax(1)
        best = through.max(1) + padded[:, at]
        ends = np.where((at < lengths)[:, None], best, ends)
    return [_traced(path, int(end), length) for path, end, length in zip(back, ends.argmax(1), lengths, strict=True)]


def _traced(back: NDArray[np.int64], tag: int, length: int) -> NDArray[np.int64]:
    """Return one text's tags from the last word to the first."""
    path = np.zeros(length, np.int64)
    for at in range(length - 1, -1, -1):
        path[at], tag = tag, int(back[at, tag])
    return path


def counted(true: Sequence[NDArray[Any]], predicted: Sequence[NDArray[Any]], tags: Sequence[str], types: Sequence[str]) -> Floats:
    """Return the right, true and predicted entities of each type in each text, (N, 3K).

    Args:
        true: IOB2 tags (W_i,) of the words of N texts, as places in `tags`.
        predicted: the same of the predictions.
        tags: C names.
        types: K names.
    """
    place = {name: at for at, name in enumerate(types)}
    out = np.zeros((len(true), 3, len(types)))
    for row, wanted, given in zip(out, true, predicted, strict=True):
        there, found = set(_spans(wanted, tags)), set(_spans(given, tags))
        for kind, spans in enumerate((there & found, there, found)):
            for _, _, name in spans:
                row[kind, place[name]] += 1
    return out.reshape(len(true), -1)


def _spans(path: NDArray[Any], tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """Return the entities of tags: their first word, one past the last, their type."""
    found: list[tuple[int, int, str]] = []
    start, end, kind = -1, -1, ""
    for at in [*np.flatnonzero(np.array([tag != "O" for tag in tags])[path]).tolist(), -1]:
        mark, name = (tags[path[at]][0], tags[path[at]][2:]) if at >= 0 else ("", "")
        goes_on = start >= 0 and mark == "I" and name == kind and at == end
        if start >= 0 and not goes_on:
            found.append((start, end, kind))
        if at >= 0:
            start, kind, end = (start if goes_on else at), name, at + 1
    return found


def figures(counts: Floats, types: Sequence[str]) -> dict[str, Any]:
    """Return entity_f1, precision and recall of all entities together, macro_f1 over types, and per_class.

    Args:
        counts: (N, 3K) of `counted`.
        types: K names.
    """
    right, true, predicted = counts.sum(0).reshape(3, -1)
    f1, precision, recall = (_shares(above, below) for above, below in ((2 * right, true + predicted), (right, predicted), (right, true)))
    whole = {name: statistic(counts.sum(0)[None])[0] for name, statistic in _of_all(len(types)).items()}
    known = [value for value in f1 if value is not None]
    return {
        **{name: None if np.isnan(value) else float(value) for name, value in whole.items()},
        "macro_f1": float(np.mean(known)) if known else None,
        "per_class": {
            name: {"recall": recall[k], "precision": precision[k], "f1": f1[k], "support": int(true[k])} for k, name in enumerate(types)
        },
    }


def _shares(above: Floats, below: Floats) -> list[float | None]:
    return [float(a / b) if b else None for a, b in zip(above, below, strict=True)]


def sums_of(counts: Floats, types: Sequence[str]) -> Sums:
    """Return the sums that intervals of entity_f1, precision and recall are made of."""
    return Sums(sums=counts, statistics=_of_all(len(types)))


def _of_all(types: int) -> dict[str, Statistic]:
    """Return the metrics of all entities together as functions of sums (R, 3K)."""

    def of(metric: Statistic) -> Statistic:
        return lambda sums: metric(np.stack([part.sum(1) for part in np.split(sums, 3, axis=1)], 1))

    def f1(sums: Floats) -> Floats:
        right, true, predicted = sums.T
        return np.divide(2 * right, true + predicted, out=np.full(len(sums), np.nan), where=true + predicted > 0)

    return {"entity_f1": of(f1), "precision": of(ratio(0, 2)), "recall": of(ratio(0, 1))}
