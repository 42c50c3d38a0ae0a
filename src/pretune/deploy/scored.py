"""Which rows of labelled data a saved run is scored on, and why the others are not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pretune.deploy.predictor import Predictor
from pretune.errors import BadItem, DataError
from pretune.evaluation.intervals import groups_of
from pretune.runner import writing
from pretune.runner.reporter import Reporter
from pretune.sources.names import names_of
from pretune.sources.table import Table
from pretune.tasks import WritingTask
from pretune.types import Row


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a saved run is worth on some examples."""

    figures: dict[str, Any]
    interval: Sequence[float] | None
    """95 % confidence interval of the leading metric; None where there is none."""
    used: list[Row]
    bad: list[tuple[int, BadItem]]
    """Positions of examples that could not be read, and why."""


def measured(predictor: Predictor, rows: list[Row], progress: Callable[[int, int], None]) -> Measured:
    """Return the figures of labelled rows: of what the model writes for them where the task is scored by texts, else of its outputs."""
    task, space = predictor.task, predictor.space
    if isinstance(task, WritingTask) and task.scores_texts:
        figures = writing.measure(task, rows, predictor.texts(rows, progress), ())
        ends = figures.pop("interval", {}).get(task.primary)
        return Measured(figures=figures, interval=ends, used=rows, bad=[])
    good, decoded, bad = predictor.decoded(rows, progress=progress)
    used = [rows[i] for i in good]
    truth = task.truth(task.encode(used, space, predictor.modality), space)
    ends = task.intervals(decoded, truth, space, groups_of([row.group for row in used])).get(task.primary)
    figures = task.metrics(decoded, truth, space)
    return Measured(figures=figures, interval=None if ends is None else list(ends), used=used, bad=bad)


def dropped(table: Table, rows: list[Row], bad: list[tuple[int, BadItem]], unknown: list[Row]) -> list[dict[str, str]]:
    """Return what was not scored and why: refused while reading or decoding, or of no class that the run knows."""
    found = [{"item": e.item, "reason": e.reason, "detail": e.detail} for e in table.ledger if e.action == "dropped"]
    found += [{"item": rows[i].id, "reason": error.reason, "detail": error.detail} for i, error in bad]
    found += [
        {"item": row.id, "reason": "unknown_class", "detail": f"the run does not know class {' or '.join(map(repr, names_of(row)))}"}
        for row in unknown
    ]
    return found


def written(predictor: Predictor, rows: list[Row], part: str, reporter: Reporter) -> dict[str, Any]:
    """Return, of a task that writes, the figures of what the run writes for these examples, under `written`; of others nothing.

    As many examples are written for as `writes` allows, at random. Where texts are the score, `measured` has their figures.
    """
    task = predictor.task
    if not isinstance(task, WritingTask) or task.scores_texts:
        return {}
    order = np.random.default_rng(0).permutation(len(rows))[: task.writes]
    chosen = [rows[i] for i in order]
    chosen = chosen[: task.samples(chosen)]
    texts: list[str] = []
    for start in range(0, len(chosen), task.writes_together):
        reporter.progress("writing answers", start, len(chosen))
        texts += predictor.write(chosen[start : start + task.writes_together])
    for sentence in task.faults(chosen, texts):
        reporter.warn(sentence)
    figures = {"examples": len(texts), "split": part, **task.text_metrics(chosen, texts, [])}
    for sentence in task.summary(figures):
        reporter.say(sentence)
    return {"written": figures}


def unknown_labels(predictor: Predictor, rows: list[Row]) -> list[str]:
    """Return the labels of multilabel rows that the run does not know; the others of these rows are scored."""
    return sorted({name for row in rows for name in names_of(row)} - set(predictor.space.classes))


def rows_of(
    predictor: Predictor, table: Table, part: str | None, data: str | Path, sampled: Mapping[str, str] | None = None
) -> tuple[list[Row], list[Row]]:
    """Return the rows of a split that the run can be scored on, long ones in pieces, and those of classes that it does not know.

    Args:
        predictor: of the run.
        table: the rows.
        part: the split; None for all rows.
        data: where they are, for messages.
        sampled: splits of examples by id that the run itself sampled, for data that have none of their own.

    Raises:
        DataError: there is no such example.
    """
    own = {str(row.split) for row in table.rows if row.split}
    splits = {row.id: str(row.split) for row in table.rows} if own else (sampled or {})
    rows = [row for row in table.rows if part is None or splits.get(row.id) == part]
    if not rows:
        raise DataError(f"{data} has no examples of part={part}. {_splits_there(own, sampled)}")
    known = set(predictor.space.classes)
    unknown = [row for row in rows if known and names_of(row) and known.isdisjoint(names_of(row))]
    lost = {row.id for row in unknown}
    rows = [row for row in rows if row.id not in lost]
    if not rows:
        there = ", ".join(sorted({name for row in unknown for name in names_of(row)})[:8])
        column = f" Read from column {table.columns['label']!r}; label= names another." if "label" in table.columns else ""
        raise DataError(
            f"{data}: none of its classes is one of the run's: {there}. The run knows {', '.join(predictor.space.classes[:8])}.{column}"
        )
    return [piece for row in rows for piece in predictor.task.pieces(row, predictor.modality)], unknown


def _splits_there(own: set[str], sampled: Mapping[str, str] | None) -> str:
    """Return what a person reads of the splits that can be named."""
    if own:
        return f"Splits there: {', '.join(sorted(own))}."
    if not sampled:
        return "These data have no splits, and the run was made from others: leave out part= to score all examples."
    return f"The run sampled the splits itself and recorded those it was scored on: {', '.join(sorted(set(sampled.values())))}."
