"""How near written texts come to what people wrote: exact match, ROUGE and chrF."""

from __future__ import annotations

import functools
import itertools
import re
from collections import Counter
from collections.abc import Collection, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.errors import MissingExtra

ROUGES = ("rouge1", "rouge2", "rougeL")
_WIDE = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]")
"""Letters of scripts that put no spaces between words."""


class Words:
    """What ROUGE counts: words in lower case; of scripts without spaces, letters (C.-Y. Lin 2004; J. Hu et al., "LCSTS", 2015)."""

    def tokenize(self, text: str) -> list[str]:
        """Return the words of a text, and each letter of those scripts."""
        return re.findall(rf"{_WIDE.pattern}|[^\W_]+(?<!{_WIDE.pattern})", text.casefold()) if _WIDE.search(text) else _plain(text)


def _plain(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())


def marked(text: str, words: Collection[str]) -> list[tuple[str, bool]]:
    """Return a text in pieces, and whether each is a word of some, as `Words` counts them, or stands between two of them."""
    pattern = rf"({_WIDE.pattern}|[^\W_]+(?<!{_WIDE.pattern}))" if is_wide(text) else r"([^\W_]+)"
    pieces = [(piece, bool(at % 2) and piece.casefold() in words) for at, piece in enumerate(re.split(pattern, text)) if piece]
    for at in range(1, len(pieces) - 1):
        if pieces[at][0].isspace() and pieces[at - 1][1] and pieces[at + 1][1]:
            pieces[at] = (pieces[at][0], True)
    return [("".join(piece for piece, _ in group), shared) for shared, group in itertools.groupby(pieces, key=lambda one: one[1])]


def is_wide(text: str) -> bool:
    """Return whether a text has letters that ROUGE counts each as a word."""
    return _WIDE.search(text) is not None


def exact(written: str, references: Sequence[str]) -> float:
    """Return 1 where a text is one of the references but for letter case and white space, else 0."""
    return float(_folded(written) in {_folded(one) for one in references})


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def loops(text: str, words: int = 4, times: int = 4) -> bool:
    """Return whether a text says some words in a row over and over; of scripts without spaces, letters."""
    tokens = Words().tokenize(text)
    grams = Counter(tuple(tokens[place : place + words]) for place in range(len(tokens) - words + 1))
    return bool(grams) and grams.most_common(1)[0][1] >= times


def require_rouge() -> None:
    """Refuse to go on where ROUGE cannot be computed.

    Raises:
        MissingExtra: rouge-score is not installed.
    """
    if not find_spec("rouge_score"):
        raise MissingExtra("ROUGE needs rouge-score", "metrics")


@functools.cache
def _scorer() -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        raise MissingExtra("ROUGE needs rouge-score", "metrics") from None
    return RougeScorer(list(ROUGES), tokenizer=Words())


def rouge(written: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Return (N, 3) F-measures of ROUGE-1, ROUGE-2 and ROUGE-L; of several references each takes the best, as `rouge-score` does.

    Raises:
        MissingExtra: rouge-score is not installed.
    """
    rows = []
    for text, own in zip(written, references, strict=True):
        found = _scorer().score_multi(list(own), text)
        rows.append([found[name].fmeasure for name in ROUGES])
    return np.array(rows).reshape(-1, len(ROUGES))


def quick_rouge(tokens: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Return the mean of the F-measures of ROUGE-1, 2 and L of one text, for very many texts, without the library.

    Args:
        tokens: what `Words` makes of the text.
        references: likewise; the one that gives the highest mean counts.
    """
    return max(
        (_overlap(tokens, own, 1) + _overlap(tokens, own, 2) + _f(_common(tokens, own), len(tokens), len(own))) / 3 for own in references
    )


def _overlap(tokens: Sequence[str], reference: Sequence[str], size: int) -> float:
    """Return the F-measure of the runs of some words that two texts share."""
    ours, theirs = (Counter(zip(*(one[place:] for place in range(size)), strict=False)) for one in (tokens, reference))
    return _f((ours & theirs).total(), ours.total(), theirs.total())


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest common subsequence, by rows of bits (M. Crochemore et al. 2001)."""
    where: dict[str, int] = {}
    for place, word in enumerate(first):
        where[word] = where.get(word, 0) | 1 << place
    whole = row = (1 << len(first)) - 1
    for word in second:
        hit = row & where.get(word, 0)
        row = ((row + hit) | (row - hit)) & whole
    return (whole & ~row).bit_count()


def _f(shared: int, ours: int, theirs: int) -> float:
    return 2 * shared / (ours + theirs) if shared else 0.0


def chrf(written: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Return chrF of a corpus, 0 to 100 (M. Popović 2015).

    Raises:
        MissingExtra: sacrebleu is not installed.
    """
    try:
        from sacrebleu.metrics import CHRF
    except ImportError:
        raise MissingExtra("chrF needs sacrebleu", "metrics") from None
    most = max(map(len, references))
    streams = [[own[min(place, len(own) - 1)] for own in references] for place in range(most)]
    return float(CHRF().corpus_score(list(written), streams).score)


def figures(written: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return the metrics of N texts; those whose library is not installed are left out."""
    out = {"exact_match": float(np.mean([exact(text, own) for text, own in zip(written, references, strict=True)]))}
    if find_spec("rouge_score"):
        out |= dict(zip(ROUGES, map(float, rouge(written, references).mean(0)), strict=True))
    if find_spec("sacrebleu"):
        out["chrf"] = chrf(written, references)
    return out


def absent() -> str:
    """Return a sentence on the metrics that `figures` leaves out here, and how to get them; empty where all are there."""
    missing = [metric for metric, library in (("ROUGE", "rouge_score"), ("chrF", "sacrebleu")) if not find_spec(library)]
    return f"Metrics that were not computed: {', '.join(missing)}. Install them with: pip install 'pretune[metrics]'" if missing else ""
