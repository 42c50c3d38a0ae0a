"""A speech recogniser that does not work yet, in words: blanks only, words without end, a loss that falls while the error rate does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pretune.evaluation.wording import show, words

Tree = Mapping[str, Any]

_SILENT, _WRONG, _RUNS_ON = 0.5, 0.9, 0.5
"""Share of clips without a recognised word, word error rate, and words too many for each word that is said, from which it does not work."""


def unspoken(name: str, scores: Tree, train: Tree, losses: Sequence[float], split: str) -> str:
    """Say where a recogniser writes nothing, or learns its loss without writing words that are right."""
    empty, rate = scores.get("empty"), scores.get("wer")
    if name != "wer" or empty is None or rate is None:
        return ""
    cure = "Train for more steps (epochs=, or more data), check that the transcripts are those of the clips"
    if empty >= _SILENT:
        blank = f"In {empty:.0%} of the {split} clips no word is recognised: it gives blanks only, as when CTC training begins."
        return f"{blank} {cure}, or raise lr."
    if (more := scores.get("insertions") or 0.0) >= _RUNS_ON:
        return (
            f"The {split} transcripts have {more:.2g} words too many for each word that is said: it repeats itself or runs on, as a "
            f"decoder does that is not trained enough. {cure}, or a longer window (seconds=)."
        )
    if rate >= _WRONG and len(losses) > 1 and losses[-1] < losses[0] / 2:
        learned = (train.get("wer") or 0.0) < _WRONG / 2
        why = (
            "it has learned the training clips by heart. More clips or speakers help most"
            if learned
            else f"its words are not yet right on the training clips either. {cure}"
        )
        return (
            f"The loss fell from {losses[0]:.3g} to {losses[-1]:.3g} while the {words(name)} on {split} stays at {show(name, rate)}: {why}."
        )
    return ""
