"""A saved run, ready to predict: the same model, preprocessing and precision that were evaluated."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from pretune import registry
from pretune.deploy import _saved_model, _scorers
from pretune.errors import BadItem, DataError
from pretune.labels import Outputs, finite, joined, taken
from pretune.modalities import Modality
from pretune.modalities.text import SEGMENTS
from pretune.sources.spellings import align
from pretune.sources.table import Table
from pretune.storage.streaming import bytes_of
from pretune.tasks import WritingTask
from pretune.types import Cell, Row

BATCH = 32
NOT_FINITE = BadItem("not_finite", "the model's output is not a finite number (NaN or infinity), which predicts nothing")


class Predictor:
    """Predicts with a finished run; uses nothing but its folder, which may come from anybody."""

    def __init__(
        self,
        run: Path,
        device: torch.device | None = None,
        *,
        trust: Collection[str] = (),
        model: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Load the run.

        Args:
            run: its folder.
            device: where outputs are computed; the processor by default.
            trust: modules of the person's own that the run's network may be built by.
            model: 'network' or 'baseline'; None for the one that the run's figures are of.
            settings: of the run's task, with which its predictions are made; None for those that it was trained with.

        Raises:
            DataError: no finished run is there, or a file of it is damaged.
            WeightsError: its weights are damaged or do not fit.
            SettingError: it has no such model, its network is built by a module that is not trusted, or a setting belongs to training.
        """
        saved_model = _saved_model.read_saved_model(run)
        task = _saved_model.with_settings(saved_model.task, settings or {})
        self.model = model or saved_model.model
        self.scorer = _scorers.load(run, saved_model, model, device, trust)
        self.task, self.space, self.schema = task, self.scorer.space, saved_model.schema
        self.modality: Modality = self.scorer.modality

    def align(self, table: Table) -> None:
        """Give labelled examples the run's class names, and put them into the form in which its network reads them."""
        align(table, self.space.classes)
        self.task.render(table, self.modality)

    def predict(self, rows: list[Row], threads: int = 2) -> Iterator[dict[str, Any]]:
        """Yield one dictionary per row, in order: id, prediction, confidence, probabilities; or id and error.

        An example that cannot be read gets its own `error` and changes nothing else. One in pieces gets one answer.
        """
        if isinstance(self.task, WritingTask):
            yield from self._written(rows, self.task)
            return
        for chunk in (rows[begin : begin + BATCH] for begin in range(0, len(rows), BATCH)):
            cut = [self.task.pieces(row, self.modality) for row in chunk]
            answers = self._predicted([piece for pieces in cut for piece in pieces], threads)
            for row, pieces in zip(chunk, cut, strict=True):
                yield self._whole(row, pieces, [next(answers) for _ in pieces])

    def _whole(self, row: Row, pieces: list[Row], answers: list[dict[str, Any]]) -> dict[str, Any]:
        if len(pieces) == 1:
            return answers[0]
        error = next((answer["error"] for answer in answers if "error" in answer), None)
        return {"id": row.id, **({"error": error} if error else self.task.rejoined(row, self.modality, pieces, answers))}

    def _predicted(self, rows: list[Row], threads: int) -> Iterator[dict[str, Any]]:
        with ThreadPoolExecutor(threads) as pool:
            for begin in range(0, len(rows), BATCH):
                chunk = rows[begin : begin + BATCH]
                views = list(pool.map(self._view, chunk))
                good = [(row, view) for row, view in zip(chunk, views, strict=True) if not isinstance(view, BadItem)]
                answers = iter(self._describe(good) if good else [])
                for row, view in zip(chunk, views, strict=True):
                    yield {"id": row.id, "error": str(view)} if isinstance(view, BadItem) else {"id": row.id, **next(answers)}

    def _written(self, rows: list[Row], task: WritingTask) -> Iterator[dict[str, Any]]:
        """Yield what the model writes for each row."""
        for begin in range(0, len(rows), task.writes_together):
            chunk = rows[begin : begin + task.writes_together]
            table = Table(rows=chunk, modality=self.name, target_type=None, root=Path(), layout="")
            task.render(table, self.modality, answered=False)
            wrong = {entry.item: entry.detail for entry in table.ledger}
            wrong |= {row.id: str(view) for row in table.rows if isinstance(view := self._view(row), BadItem)}
            table.rows = [row for row in table.rows if row.id not in wrong]
            answers = iter(self.write(table.rows) if table.rows else [])
            for row in chunk:
                yield {"id": row.id, **({"error": wrong[row.id]} if row.id in wrong else task.answer(row, next(answers)))}

    def write(self, rows: list[Row]) -> list[str]:
        """Return what the model of a task that writes makes of rows which that task has rendered."""
        assert isinstance(self.task, WritingTask)
        return self.scorer.write(self.task, rows)

    def outputs(
        self, rows: list[Row], threads: int = 2, progress: Callable[[int, int], None] = lambda done, count: None
    ) -> tuple[list[int], Outputs, list[tuple[int, BadItem]]]:
        """Return positions that could be read, the raw outputs for them, and the bad examples with their positions."""
        raw: list[Outputs] = []
        good: list[int] = []
        bad: list[tuple[int, BadItem]] = []
        with ThreadPoolExecutor(threads) as pool:
            for begin in range(0, len(rows), BATCH):
                views = list(pool.map(self._view, rows[begin : begin + BATCH]))
                kept = [(begin + i, v) for i, v in enumerate(views) if not isinstance(v, BadItem)]
                bad += [(begin + i, v) for i, v in enumerate(views) if isinstance(v, BadItem)]
                if kept:
                    out = self.scorer.outputs([v for _, v in kept], [rows[i] for i, _ in kept])
                    usable = finite(out)
                    raw.append(taken(out, usable.nonzero()[:, 0]))
                    good += [i for (i, _), yes in zip(kept, usable, strict=True) if yes]
                    bad += [(i, NOT_FINITE) for (i, _), yes in zip(kept, usable, strict=True) if not yes]
                progress(min(begin + BATCH, len(rows)), len(rows))
        if not good:
            raise DataError(
                f"none of the {len(rows)} {self.modality.unit}s could be read. First: {rows[bad[0][0]].id}: {bad[0][1]}"
                if bad
                else "no items."
            )
        return good, joined(raw), bad

    def texts(self, rows: list[Row], progress: Callable[[int, int], None] = lambda done, count: None) -> list[str]:
        """Return what the model writes for each of some rendered rows; of a task that writes."""
        assert isinstance(self.task, WritingTask)
        out: list[str] = []
        for begin in range(0, len(rows), self.task.writes_together):
            out += self.write(rows[begin : begin + self.task.writes_together])
            progress(len(out), len(rows))
        return out

    def _describe(self, examples: list[tuple[Row, Any]]) -> list[dict[str, Any]]:
        raw = self.scorer.outputs([view for _, view in examples], [row for row, _ in examples])
        usable = finite(raw)
        good, rows = taken(raw, usable.nonzero()[:, 0]), [row for (row, _), yes in zip(examples, usable, strict=True) if yes]
        answers = iter(self.task.describe(self.task.decode(good, self.space), self.space, rows, self.modality) if rows else [])
        return [next(answers) if yes else {"error": str(NOT_FINITE)} for yes in usable]

    def _view(self, row: Row) -> Any:
        """Return what the model takes of a row, or the BadItem that says why there is nothing."""
        try:
            raw = row.text if row.path is None else _read(row.path)
            if raw is None:
                raise BadItem("empty", "there is no content")
            if isinstance(raw, tuple) and len(raw) < SEGMENTS and len(raw) != (self.schema.text_count or len(raw)):
                raise BadItem("other_texts", f"holds {len(raw)} texts, and the run reads {self.schema.text_count}")
            decoded = self.modality.decode(raw)
            most = self.modality.most if self.task.whole else None
            if most is not None and len(decoded.array) > most:
                share = most / len(decoded.array) * float(decoded.info.get("seconds", 0.0))
                raise BadItem("too_long", f"is longer than the {share:.3g} s that the run was trained on; cut it into pieces")
            return self.scorer.view(row, decoded.array)
        except BadItem as bad:
            return bad

    @property
    def name(self) -> str:
        """Public name of the modality."""
        return registry.name_of(self.modality)


def _read(path: Path | Cell) -> bytes:
    try:
        return bytes_of(path)
    except OSError as error:
        raise BadItem("missing_file", f"cannot be read: {error.strerror}") from None
