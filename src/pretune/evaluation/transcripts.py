"""How far a transcript is from what was said: word and character errors, and which words they are.

Word error rate: substitutions, deletions and insertions of the shortest edit path over the words of the reference; of several clips
their sums. Edits are found by jiwer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from pretune.evaluation.sums import Sums, ratio

COLUMNS = ("substitutions", "deletions", "insertions", "words", "char_errors", "chars", "exact", "empty", "clips")
"""What `counts` counts of each clip."""
Edit = Literal["equal", "substitute", "delete", "insert"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of the edit path from a reference to a hypothesis."""

    edit: Edit
    reference: tuple[str, ...]
    hypothesis: tuple[str, ...]


def pieces(reference: str, hypothesis: str) -> list[Piece]:
    """Return the edit path between the words of two transcripts, in order."""
    import jiwer

    aligned = jiwer.process_words(reference, hypothesis)
    left, right = reference.split(), hypothesis.split()
    return [
        Piece(
            cast("Edit", one.type),
            tuple(left[one.ref_start_idx : one.ref_end_idx]),
            tuple(right[one.hyp_start_idx : one.hyp_end_idx]),
        )
        for one in aligned.alignments[0]
    ]


def counts(references: Sequence[str], hypotheses: Sequence[str]) -> NDArray[np.float64]:
    """Return what `COLUMNS` names of each clip, (N, 9); references hold a word at least."""
    return np.array([_counts(*pair) for pair in zip(references, hypotheses, strict=True)], dtype=float).reshape(-1, len(COLUMNS))


def _counts(reference: str, hypothesis: str) -> tuple[float, ...]:
    words, exact = len(reference.split()), reference == hypothesis
    if exact or not hypothesis:
        lost = 0 if exact else len(reference)
        return (0, 0 if exact else words, 0, words, lost, len(reference), exact, not hypothesis, 1)
    import jiwer
    from rapidfuzz.distance import Levenshtein

    aligned = jiwer.process_words(reference, hypothesis)
    letters = Levenshtein.distance(reference, hypothesis)
    return (aligned.substitutions, aligned.deletions, aligned.insertions, words, letters, len(reference), False, False, 1)


def figures(counted: NDArray[np.float64]) -> dict[str, float]:
    """Return the metrics of some clips: rates are errors by the words, or characters, of the references.

    Returns:
        wer, cer; substitutions, deletions and insertions by the words of the references; exact_accuracy, the share of clips without an
        error; empty, the share of clips in which no word was recognised.
    """
    total = dict(zip(COLUMNS, counted.sum(0), strict=True))
    words, clips = max(1.0, total["words"]), max(1.0, total["clips"])
    edits = {name: float(total[name] / words) for name in ("substitutions", "deletions", "insertions")}
    return {
        "wer": sum(edits.values()),
        "cer": float(total["char_errors"] / max(1.0, total["chars"])),
        **edits,
        "exact_accuracy": float(total["exact"] / clips),
        "empty": float(total["empty"] / clips),
    }


def sums(counted: NDArray[np.float64]) -> list[Sums]:
    """Return the sums over clips that the metrics are ratios of."""
    at = {name: place for place, name in enumerate(COLUMNS)}
    errors = counted[:, [at["substitutions"], at["deletions"], at["insertions"]]].sum(1)
    rates = np.stack([errors, counted[:, at["words"]], counted[:, at["char_errors"]], counted[:, at["chars"]]], 1)
    whole = counted[:, [at["clips"], at["exact"]]]
    return [
        Sums(sums=rates, statistics={"wer": ratio(0, 1), "cer": ratio(2, 3)}, kinds={"wer": "other", "cer": "other"}),
        Sums(sums=whole, statistics={"exact_accuracy": ratio(1, 0)}, kinds={"exact_accuracy": "hits"}),
    ]


def constant(references: Sequence[str], most: int = 200, seed: int = 0) -> str:
    """Return the reference that is the best guess for all: with the fewest word errors against the others, of a sample of many."""
    known = list(references)
    if len(known) > most:
        known = [known[i] for i in np.random.default_rng(seed).choice(len(known), most, replace=False)]
    candidates = list(dict.fromkeys(known))
    if len(candidates) == 1:
        return candidates[0]
    from rapidfuzz.distance import Levenshtein

    split = {text: text.split() for text in candidates}
    errors = {text: sum(Levenshtein.distance(split[text], split[other]) for other in known) for text in candidates}
    return min(candidates, key=lambda text: errors[text])
