"""BLEU and chrF of translations, with their signatures and intervals; and translations that need no network."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.errors import MissingExtra

_RESAMPLES = 1000
_SCRIPTS = (("zh", "[\u3400-\u9fff]", "[\u3040-\u30ff]"), ("char", "[\u3040-\u30ff\u0e00-\u0e7f]", None))
"""How sacrebleu cuts texts of scripts without spaces into words: by what they hold, and do not hold."""
_MANY = 0.3


def figures(
    written: Sequence[str], references: Sequence[Sequence[str]], *, intervals: bool = True, groups: NDArray[Any] | None = None
) -> dict[str, Any]:
    """Return BLEU (K. Papineni et al. 2002) and chrF (M. Popović 2015) of N texts as sacrebleu computes them, 0 to 100.

    Args:
        written: N texts.
        references: of each text the translations that people wrote.
        intervals: add 95 % intervals by bootstrap over texts (P. Koehn 2004).
        groups: (N,) labels; texts of one group are resampled together.

    Raises:
        MissingExtra: sacrebleu is not installed.
    """
    if not find_spec("sacrebleu"):
        raise MissingExtra("BLEU and chrF need sacrebleu", "metrics")
    from sacrebleu.metrics import BLEU, CHRF

    streams = _streams(references)
    out: dict[str, Any] = {}
    metrics: dict[str, Any] = {"bleu": BLEU(tokenize=tokenizer_for(references), force=True), "chrf": CHRF()}
    for name, metric in metrics.items():
        score = metric.corpus_score(list(written), streams)
        out |= {name: float(score.score), f"{name}_signature": str(metric.get_signature())}
    _, unit_N = np.unique(np.arange(len(written)) if groups is None else groups, return_inverse=True)
    if intervals and unit_N.max(initial=0) > 0:
        out["interval"] = {name: _interval(metric, written, streams, unit_N) for name, metric in metrics.items()}
    return out


def _streams(references: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return references as sacrebleu takes them: the first of each text, the second …; where a text has fewer, its last again."""
    most = max(map(len, references))
    return [[own[min(place, len(own) - 1)] for own in references] for place in range(most)]


def _interval(metric: Any, written: Sequence[str], streams: list[list[str]], unit_N: NDArray[np.int64]) -> list[float]:
    """Return the 2.5th and 97.5th percentile of the scores of resampled corpora, of which a score is a function of summed counts."""
    of_texts_NS = np.array(metric._extract_corpus_statistics(list(written), streams))
    counts_US = np.zeros((unit_N.max() + 1, of_texts_NS.shape[1]), of_texts_NS.dtype)
    np.add.at(counts_US, unit_N, of_texts_NS)
    rng = np.random.default_rng(0)
    chosen = (rng.integers(0, len(counts_US), len(counts_US)) for _ in range(_RESAMPLES))
    scores = [metric._compute_score_from_stats(counts_US[places].sum(0).tolist()).score for places in chosen]
    return [float(end) for end in np.percentile(scores, [2.5, 97.5])]


def tokenizer_for(references: Sequence[Sequence[str]]) -> str:
    """Return how sacrebleu cuts these texts into words: '13a', its default, but 'zh' of Chinese, 'char' of Japanese and Thai."""
    text = "".join(own[0] for own in references[:1000] if own)
    letters = max(1, sum(map(str.isalpha, text)))
    for name, has, has_not in _SCRIPTS:
        if len(re.findall(has, text)) > _MANY * letters * (1 if has_not else 0.3) and not (has_not and re.search(has_not, text)):
            return name
    return "13a"


def nearest(sources: Sequence[str], train: Sequence[str]) -> list[int]:
    """Return for each text the place of the training text whose words are the most similar (cosine of TF-IDF)."""
    from pretune.modalities.text import Text

    features, known = Text().fit_baseline_features(list(train))
    asked = features.features(list(sources))
    return _largest(_normed(asked), _normed(known))


def _normed(rows: Any) -> Any:
    from scipy import sparse

    matrix = sparse.csr_matrix(rows)
    norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(1)).ravel())
    return sparse.diags(1 / np.maximum(norms, 1e-12)) @ matrix


def _largest(asked: Any, known: Any) -> list[int]:
    found: list[NDArray[np.int64]] = []
    for start in range(0, asked.shape[0], 256):
        found.append(np.asarray((asked[start : start + 256] @ known.T).argmax(1)).ravel())
    return np.concatenate(found).astype(int).tolist()


def absent() -> str:
    """Return a sentence where BLEU and chrF are not computed here, and how to get them; '' where they are."""
    return "" if find_spec("sacrebleu") else "BLEU and chrF were not computed. Install sacrebleu with: pip install 'pretune[metrics]'"
