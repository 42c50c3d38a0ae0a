"""Answers that need no network: the most frequent one, and that of the most similar prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from pretune.modalities.text import Text


def constant(answers: Sequence[str]) -> str:
    """Return the most frequent of the training answers, of several equally frequent ones the first."""
    return Counter(answers).most_common(1)[0][0]


def nearest(prompts: Sequence[str], answers: Sequence[str], asked: Sequence[str]) -> list[str]:
    """Return for each of some prompts the answer of the most similar training prompt, by the cosine of TF-IDF.

    Args:
        prompts: of training.
        answers: to them.
        asked: the prompts that are to be answered.
    """
    description, known = Text().fit_baseline_features(list(prompts))
    similar = np.asarray((description.features(list(asked)) @ known.T).todense())
    return [answers[place] for place in similar.argmax(1)]
