"""What a model that writes makes of some held-out examples, compared with what people wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pretune.evaluation.intervals import groups_of, of_sums
from pretune.runner import budget
from pretune.runner.interrupt import check
from pretune.runner.state import FineTuningState
from pretune.tasks import WritingTask
from pretune.training.step import autocast
from pretune.types import Row

_OF_TIME = 0.75
"""Share of the remaining time, without that of the report, that writing may take."""


@dataclass(frozen=True, kw_only=True)
class WrittenAnswers:
    """Texts that a model wrote."""

    texts: dict[int, str] = field(default_factory=dict)
    """By position of the example."""
    figures: dict[str, Any] = field(default_factory=dict)
    """What metrics.json says of them; empty where nothing was written."""


def write(
    state: FineTuningState, positions: np.ndarray, *, most: int | None = None, share: float = _OF_TIME, check_faults: bool = True
) -> WrittenAnswers:
    """Let the model write for a random sample of held-out examples, as many as a share of the time allows, and measure the texts.

    Args:
        state: with the trained network.
        positions: of the examples.
        most: examples at most; as many as the task says where None.
        share: of the remaining time, without that of the report, that it may take.
        check_faults: whether what is wrong with the texts as a whole is reported.
    """
    task, data = state.data.task, state.data
    if not isinstance(task, WritingTask):
        return WrittenAnswers()
    chosen = np.random.default_rng(state.recipe.training.seed).permutation(positions)[: most or task.writes]
    chosen = chosen[: task.samples([data.rows[i] for i in chosen])]
    clock = state.run.deadline.clock
    began = ended = clock.seconds
    allowed = share * (state.run.deadline.remaining - budget.REPORT)
    texts: dict[int, str] = {}
    size = 1 if state.run.deadline.total is not None else task.writes_together  # the first one shows how long others take
    while len(texts) < len(chosen):
        check()
        few = [int(i) for i in chosen[len(texts) : len(texts) + size]]
        state.run.reporter.progress("writing answers", len(texts), len(chosen))
        with autocast(state.precision, state.run.device.device):
            texts |= zip(few, task.write(state.model, [data.rows[i] for i in few], data.modality), strict=True)
        ended, before = clock.seconds, ended
        larger = min(task.writes_together, 2 * size)
        if ended - began + (ended - before) * larger / size > allowed:
            break
        size = larger
    texts = {i: texts[i] for i in sorted(texts)}
    rows, written = [data.rows[i] for i in texts], list(texts.values())
    if check_faults and task.scores_texts and len(texts) < len(positions):
        why = (
            f"time={state.run.deadline.total:g}s allows no more" if len(texts) < len(chosen) else f"{len(chosen):,} are written for at most"
        )
        state.run.reporter.warn(
            f"texts are written for {len(texts):,} of {len(positions):,} {data.score} examples, a random sample: {why}. "
            "pretune evaluate writes for all of them"
        )
    for sentence in task.faults(rows, written) if check_faults else ():
        state.run.reporter.warn(sentence)
    figures = measure(task, rows, written, [data.rows[i] for i in data.splits["train"]])
    figures = {"examples": len(texts), "split": data.score, "seconds": clock.seconds - began, **figures}
    for sentence in task.summary(figures) if check_faults else ():
        state.run.reporter.say(sentence)
    return WrittenAnswers(texts=texts, figures=figures)


def measure(task: WritingTask, rows: Sequence[Row], written: Sequence[str], train: Sequence[Row]) -> dict[str, Any]:
    """Return the figures of written texts, with 95 % intervals where the task has sums for them; whole groups are resampled."""
    figures = task.text_metrics(rows, written, train)
    known = groups_of([row.group for row in rows])
    sums = task.text_sums(rows, written) if figures else ()
    return figures | ({"interval": {name: list(ends) for name, ends in of_sums(sums, known).items()}} if sums else {})
