"""What a model that writes makes of some held-out examples, compared with what people wrote."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pretune.runner.interrupt import check
from pretune.runner.state import FineTuningState
from pretune.tasks import WritingTask

_OF_TIME = 0.5
"""Share of the remaining time that writing may take."""


@dataclass(frozen=True, kw_only=True)
class WrittenAnswers:
    """Texts that a model wrote."""

    texts: dict[int, str] = field(default_factory=dict)
    """By position of the example."""
    figures: dict[str, Any] = field(default_factory=dict)
    """What metrics.json says of them; empty where nothing was written."""


def write(state: FineTuningState, positions: np.ndarray) -> WrittenAnswers:
    """Let the model write for a random sample of held-out examples, as many as a share of the time allows, and measure the texts.

    Args:
        state: with the trained network.
        positions: of the examples of the score.
    """
    task, data = state.data.task, state.data
    if not isinstance(task, WritingTask):
        return WrittenAnswers()
    chosen = np.random.default_rng(state.recipe.training.seed).permutation(positions)[: task.writes]
    chosen = chosen[: task.samples([data.rows[i] for i in chosen])]
    clock = state.run.deadline.clock
    began = ended = clock.seconds
    allowed = _OF_TIME * state.run.deadline.remaining
    texts: dict[int, str] = {}
    size = 1 if state.run.deadline.total is not None else task.writes_together  # the first one shows how long others take
    while len(texts) < len(chosen):
        check()
        few = [int(i) for i in chosen[len(texts) : len(texts) + size]]
        state.run.reporter.progress("writing answers", len(texts), len(chosen))
        texts |= zip(few, task.write(state.model, [data.rows[i] for i in few], data.modality), strict=True)
        ended, before = clock.seconds, ended
        larger = min(task.writes_together, 2 * size)
        if ended - began + (ended - before) * larger / size > allowed:
            break
        size = larger
    for sentence in task.faults([data.rows[i] for i in texts], list(texts.values())):
        state.run.reporter.warn(sentence)
    figures = task.text_metrics([data.rows[i] for i in texts], list(texts.values()), [data.rows[i] for i in data.splits["train"]])
    figures = {"examples": len(texts), "split": data.score, "seconds": clock.seconds - began, **figures}
    for sentence in task.summary(figures):
        state.run.reporter.say(sentence)
    return WrittenAnswers(texts=texts, figures=figures)
