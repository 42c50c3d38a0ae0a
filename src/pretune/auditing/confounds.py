"""Facts about the files that reveal the class without a look at the content: size, format, sample rate, loudness, length.

For each fact and class: how well does a rule on the fact alone predict this class from the rest? The rule is
fitted on one half of the examples and judged on the other, both ways, by Youden's J (recall of the class + recall of the rest - 1): 0
for guessing whatever the balance. So a fact with many values gains nothing by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.types import Finding

_STRONG = 0.8
_LEAST = 8
"""Examples a class needs before anything is said about it."""
_BINS = 16

FACTS = {
    "width": "image width",
    "height": "image height",
    "format": "file format",
    "mode": "colour mode",
    "sample_rate": "sample rate",
    "channels": "number of channels",
    "subtype": "sample format",
    "seconds": "length in seconds",
    "rms": "loudness",
    "chars": "length in characters",
}


def confounds(infos: Sequence[dict[str, Any]], targets: Sequence[str]) -> list[Finding]:
    """Return a warning for each fact that nearly gives a class away, the strongest class of each.

    Args:
        infos: facts about each example.
        targets: class name of each example.
    """
    names, codes = np.unique(np.asarray(targets, dtype=str), return_inverse=True)
    sizes = np.bincount(codes)
    if len(codes) < 2 * _LEAST or len(names) < 2:
        return []
    half = _halves(codes)
    findings = []
    for fact, words in FACTS.items():
        if fact not in infos[0]:
            continue
        values = np.array([info.get(fact, "") for info in infos])
        places = _bins(values)
        scores = [_youden(places, codes == k, half) if min(sizes[k], len(codes) - sizes[k]) >= _LEAST else 0.0 for k in range(len(names))]
        best = int(np.argmax(scores))
        if scores[best] >= _STRONG:
            findings.append(_finding(words, values, codes == best, str(names[best]), len(names)))
    return findings


def correlates(infos: Sequence[dict[str, Any]], targets: NDArray[np.floating]) -> list[Finding]:
    """Return a warning for each numeric fact whose rank correlation with a number to predict is at least 0.8."""
    findings = []
    for fact, words in FACTS.items():
        values = [info.get(fact) for info in infos]
        if len(values) < 2 * _LEAST or not all(isinstance(value, int | float) for value in values) or len(set(values)) < 3:
            continue
        rho = _spearman(np.array(values, dtype=float), np.asarray(targets, dtype=float))
        if abs(rho) >= _STRONG:
            message = (
                f"the target is confounded with the {words} (rank correlation {rho:.2f}): "
                "a good score may come from that and not from the content."
            )
            findings.append(Finding(kind="confound", severity="warning", message=message))
    return findings


def _halves(codes: NDArray[np.int_]) -> NDArray[np.bool_]:
    """Return a split of the examples in which every other example of each class is True."""
    order = np.argsort(codes, kind="stable")
    half = np.zeros(len(codes), dtype=bool)
    half[order[::2]] = True
    return half


def _bins(values: NDArray[Any]) -> NDArray[np.int_]:
    """Return each value's bin: its own where there are few distinct ones, else one of equal counts."""
    distinct, places = np.unique(values, return_inverse=True)
    if len(distinct) <= _BINS or values.dtype.kind not in "if":
        return places
    edges = np.unique(np.quantile(values, np.linspace(0, 1, _BINS + 1)[1:-1]))
    return np.searchsorted(edges, values, side="right")


def _youden(places: NDArray[np.int_], is_class: NDArray[np.bool_], half: NDArray[np.bool_]) -> float:
    """Return the mean J of the rule 'a bin belongs to whichever side has the larger share of it', across the halves."""
    size = int(places.max()) + 1
    scores = []
    for fit in (half, ~half):
        inside = np.bincount(places[fit & is_class], minlength=size) / max(1, (fit & is_class).sum())
        outside = np.bincount(places[fit & ~is_class], minlength=size) / max(1, (fit & ~is_class).sum())
        gain = (inside > outside)[places]
        judge = ~fit
        recall = gain[judge & is_class].mean() if (judge & is_class).any() else 0.0
        rejected = 1 - gain[judge & ~is_class].mean() if (judge & ~is_class).any() else 0.0
        scores.append(float(recall + rejected - 1))
    return sum(scores) / 2


def _finding(words: str, values: NDArray[Any], is_class: NDArray[np.bool_], name: str, classes: int) -> Finding:
    here, there = _typical(values[is_class]), _typical(values[~is_class])
    others = "the other class" if classes == 2 else "the others"
    message = (
        f"class {name!r} is confounded with the {words}: {here} for this class, {there} for {others}. "
        "A high score may come from that and not from the "
        "content; check on data where they do not go together."
    )
    severity = "note" if words == FACTS["chars"] else "warning"  # how long a text is, is part of what it says
    return Finding(kind="confound", severity=severity, message=message, items=(name,))


def _typical(values: NDArray[Any]) -> str:
    """Return the commonest value with its share, or the range of the middle 90 % where values hardly repeat."""
    distinct, counts = np.unique(values, return_counts=True)
    top = int(np.argmax(counts))
    if counts[top] >= 0.5 * len(values) or values.dtype.kind not in "if":
        return f"{distinct[top]} ({counts[top]} of {len(values)})"
    low, high = np.quantile(values, [0.05, 0.95])
    return f"{low:.4g} to {high:.4g}"


def _spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    ranks = [_ranks(values) for values in (a, b)]
    if min(r.std() for r in ranks) == 0:
        return 0.0
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return mean ranks; equal values share one."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[places]
