"""How well embeddings find what belongs together: ranks of the relevant texts among all others, and figures of them.

Recall@k is the share of the relevant texts among the first k, of those that fit there: |relevant ∩ first k| / min(k, |relevant|) (the
capped recall of BEIR, Thakur et al. 2021). MRR is the mean of 1 / rank of the first relevant text, over the whole corpus. nDCG@10 has
binary gains (Järvelin & Kekäläinen 2002). Texts of equal similarity share their mean rank, so that an embedding that is the same for all
texts finds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pretune.evaluation.intervals import of_sums
from pretune.evaluation.ranking import auroc, spearman
from pretune.evaluation.sums import Sums, ratio

QUERY, PASSAGE, NEGATIVE, TEXT = range(4)
TRUTH = np.dtype(
    [("role", np.int64), ("text", np.int64), ("anchor", np.int64), ("pair", np.int64), ("label", np.int64), ("grade", np.float64)]
)
"""role: what a text is; text: number of its wording, equal for equal ones; anchor: that of the query of its pair; pair, label: number of
its record and class; −1 where there is none. grade: −inf where the data give none."""
FIGURES = ("mrr", "ndcg_at_10", "recall_at_1", "recall_at_5", "recall_at_10")
_DEPTH = 10
_BLOCK = 1 << 22
"""Similarities that are held at once."""
_DECIMALS = 6
"""To which similarities are rounded before they are ranked: float32 has no more."""


class Sides(NamedTuple):
    """Which examples search, and which are searched."""

    queries: NDArray[np.int64]
    """(Q,) examples, one of each wording."""
    corpus: NDArray[np.int64]
    """(C,) likewise."""


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """What each query has found."""

    queries: NDArray[np.int64]
    """(Q,) examples that search and have a relevant text in the corpus."""
    figures: NDArray[np.float64]
    """(Q, 5) of each query, in the order of `FIGURES`."""
    first: NDArray[np.float64]
    """(Q,) rank of the first relevant text, from 1."""
    nearest: NDArray[np.int64]
    """(Q, up to 10) examples, the most similar first."""
    similarity: NDArray[np.float32]
    """(Q, up to 10) cosine of these."""
    hits: NDArray[np.bool_]
    """(Q, up to 10) which of these are relevant."""
    best: NDArray[np.int64]
    """(Q,) the most similar relevant example."""
    corpus: int
    """Texts that are searched."""


def sides(truth: NDArray[Any]) -> Sides:
    """Return who searches whom: queries search the passages and negatives, texts of classes each other; equal wordings are one."""
    role = truth["role"]
    query, searched = (role == QUERY, (role == PASSAGE) | (role == NEGATIVE)) if (role == QUERY).any() else (role == TEXT, role == TEXT)
    return Sides(_one_each(truth, query), _one_each(truth, searched))


def _one_each(truth: NDArray[Any], chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    at = np.flatnonzero(chosen)
    return np.sort(at[np.unique(truth["text"][at], return_index=True)[1]])


def relevant(truth: NDArray[Any], queries: NDArray[np.int64], corpus: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which texts of the corpus belong to which query, (Q, C)."""
    asked, there = truth[queries], truth[corpus]
    if len(asked) and asked["role"][0] == TEXT:
        return (asked["label"][:, None] == there["label"]) & (asked["text"][:, None] != there["text"])
    passages = truth[truth["role"] == PASSAGE]
    column, row = np.searchsorted(there["text"], passages["text"], sorter=np.argsort(there["text"])), np.argsort(asked["text"])
    column = np.argsort(there["text"])[column.clip(max=max(0, len(there) - 1))]
    place = np.searchsorted(asked["text"], passages["anchor"], sorter=row).clip(max=max(0, len(asked) - 1))
    out = np.zeros((len(asked), len(there)), dtype=bool)
    place = row[place]
    known = asked["text"][place] == passages["anchor"]
    out[place[known], column[known]] = True
    return out & (asked["text"][:, None] != there["text"])


def ranked(embedded: Any, truth: NDArray[Any]) -> Ranks:
    """Return what each query finds.

    Args:
        embedded: (N, D) rows of length one, an array or a sparse matrix.
        truth: (N,) of `TRUTH`.
    """
    queries, corpus = sides(truth)
    rows = max(1, _BLOCK // max(1, len(corpus)))
    blocks = [_ranked(embedded, truth, queries[at : at + rows], corpus) for at in range(0, len(queries), rows)] if len(corpus) else []
    width = min(_DEPTH, len(corpus))
    empty = [np.zeros((0, *shape)) for shape in ((), (5,), (), (width,), (width,), (width,), ())]
    joined = [np.concatenate(part) for part in zip(*blocks, strict=True)] if blocks else empty
    found, figures, first, nearest, similarity, hits, best = joined
    return Ranks(
        queries=found.astype(np.int64),
        figures=figures,
        first=first,
        nearest=nearest.astype(np.int64),
        similarity=similarity.astype(np.float32),
        hits=hits.astype(bool),
        best=best.astype(np.int64),
        corpus=len(corpus),
    )


def _ranked(embedded: Any, truth: NDArray[Any], queries: NDArray[np.int64], corpus: NDArray[np.int64]) -> tuple[Any, ...]:
    belongs = relevant(truth, queries, corpus)
    there = belongs.any(1)
    queries, belongs = queries[there], belongs[there]
    product = embedded[queries] @ embedded[corpus].T
    similar = np.round(product if isinstance(product, np.ndarray) else product.toarray(), _DECIMALS).astype(np.float32)
    similar[truth["text"][queries][:, None] == truth["text"][corpus]] = -np.inf  # a text does not find itself
    count, depth = belongs.sum(1), min(_DEPTH, len(corpus))
    of_relevant = np.where(belongs, similar, -np.inf)
    columns = np.argsort(-of_relevant, axis=1, kind="stable")[:, :depth]
    value = np.take_along_axis(of_relevant, columns, 1)
    known = np.isfinite(value)
    above = np.stack([(similar > value[:, k : k + 1]).sum(1) for k in range(depth)], 1)
    equal = np.stack([(similar == value[:, k : k + 1]).sum(1) for k in range(depth)], 1)
    rank = np.where(known, above + (equal + 1) / 2, np.inf)
    ideal = np.cumsum(1 / np.log2(np.arange(_DEPTH) + 2))
    gain = np.where(rank <= _DEPTH, 1 / np.log2(1 + rank), 0.0).sum(1) / ideal[np.minimum(count, _DEPTH) - 1]
    recall = [(rank <= k).sum(1) / np.minimum(count, k) for k in (1, 5, 10)]
    figures = np.stack([1 / rank[:, 0], gain, *(np.minimum(1.0, one) for one in recall)], 1)
    nearest = np.argsort(-similar, axis=1, kind="stable")[:, :depth]
    hits = np.take_along_axis(belongs, nearest, 1)
    return queries, figures, rank[:, 0], corpus[nearest], np.take_along_axis(similar, nearest, 1), hits, corpus[columns[:, 0]]


def figures(embedded: NDArray[Any], truth: NDArray[Any]) -> dict[str, Any]:
    """Return the means over queries, how alike the embeddings are, and where pairs are graded how their similarity follows the grades."""
    return means(ranked(embedded, truth)) | {"mean_cosine": mean_cosine(embedded)} | graded(embedded, truth)


def means(found: Ranks) -> dict[str, Any]:
    """Return the means over queries, None where nothing searches, and how many queries and texts there are."""
    over = found.figures.mean(0).tolist() if len(found.queries) else [None] * len(FIGURES)
    return {**dict(zip(FIGURES, over, strict=True)), "queries": len(found.queries), "corpus": found.corpus}


def mean_cosine(embedded: NDArray[Any]) -> float | None:
    """Return the mean cosine of two different examples, of rows of length one: 1 where all are alike."""
    count = len(embedded)
    if count < 2:
        return None
    total = float(np.square(embedded.sum(0, dtype=np.float64)).sum())
    return (total - count) / (count * (count - 1))


def graded(embedded: NDArray[Any], truth: NDArray[Any]) -> dict[str, Any]:
    """Return Spearman's correlation of similarity and grade, and the AUC of pairs that belong together; {} without grades."""
    at = np.flatnonzero(np.isfinite(truth["grade"]))
    query = {int(pair): place for place, pair in enumerate(truth["pair"]) if truth["role"][place] == QUERY}
    at = np.array([one for one in at if int(truth["pair"][one]) in query], dtype=np.int64)
    if len(at) < 2:
        return {}
    other = np.array([query[int(truth["pair"][one])] for one in at])
    similarity = (embedded[at] * embedded[other]).sum(1)
    positive = truth["role"][at] == PASSAGE
    return {"spearman": spearman(similarity, truth["grade"][at]), "auroc": auroc(similarity, positive)}


def intervals(embedded: NDArray[Any], truth: NDArray[Any], groups: NDArray[Any] | None) -> dict[str, tuple[float, float]]:
    """Return 95 % intervals of the means over resampled queries; those of one group are resampled together."""
    found = ranked(embedded, truth)
    sums = np.concatenate([np.ones((len(found.queries), 1)), found.figures], 1)
    statistics = {name: ratio(at, 0) for at, name in enumerate(FIGURES, 1)}
    return of_sums([Sums(sums=sums, statistics=statistics)], None if groups is None else groups[found.queries])
