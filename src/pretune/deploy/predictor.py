"""A saved run, ready to predict: the same model, preprocessing and precision that were evaluated."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

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


class Shown(NamedTuple):
    """What the model takes of an example: one view, or one of each of its pieces."""

    views: list[Any]
    spans: list[tuple[int, int]]
    """Begin and end of each in the decoded example."""


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
        self.in_pieces: dict[str, int] = {}
        """Pieces of the examples that were longer than the window, by id."""

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
        for group in self._together(rows, threads):
            good = [(row, shown) for row, shown in group if not isinstance(shown, BadItem)]
            answers = iter(self._describe(good) if good else [])
            for row, shown in group:
                yield {"id": row.id, "error": str(shown)} if isinstance(shown, BadItem) else {"id": row.id, **next(answers)}

    def _together(self, rows: list[Row], threads: int) -> Iterator[list[tuple[Row, Shown | BadItem]]]:
        """Yield examples in order, as many together as fill a batch; few are read ahead, for an hour of audio is one example."""
        group: list[tuple[Row, Shown | BadItem]] = []
        views = 0
        with ThreadPoolExecutor(threads) as pool:
            todo, ahead = iter(rows), deque[tuple[Row, Future[Shown | BadItem]]]()
            while True:
                ahead += [(row, pool.submit(self._shown, row)) for row in itertools.islice(todo, 2 * threads - len(ahead))]
                if not ahead:
                    break
                row, future = ahead.popleft()
                shown = future.result()
                group.append((row, shown))
                views += 0 if isinstance(shown, BadItem) else len(shown.views)
                if views >= BATCH:
                    yield group
                    group, views = [], 0
        if group:
            yield group

    def _written(self, rows: list[Row], task: WritingTask) -> Iterator[dict[str, Any]]:
        """Yield what the model writes for each row."""
        for begin in range(0, len(rows), task.writes_together):
            chunk = rows[begin : begin + task.writes_together]
            table = Table(rows=chunk, modality=self.name, target_type=None, root=Path(), layout="")
            task.render(table, self.modality, answered=False)
            wrong = {entry.item: entry.detail for entry in table.ledger}
            wrong |= {row.id: str(view) for row in table.rows if isinstance(view := self._shown(row), BadItem)}
            table.rows = [row for row in table.rows if row.id not in wrong]
            answers = iter(self.write(table.rows) if table.rows else [])
            for row in chunk:
                yield {"id": row.id, **({"error": wrong[row.id]} if row.id in wrong else task.answer(row, next(answers)))}

    def write(self, rows: list[Row]) -> list[str]:
        """Return what the model of a task that writes makes of rows which that task has rendered."""
        assert isinstance(self.task, WritingTask)
        return self.scorer.write(self.task, rows)

    def decoded(
        self, rows: list[Row], threads: int = 2, progress: Callable[[int, int], None] = lambda done, count: None
    ) -> tuple[list[int], Any, list[tuple[int, BadItem]]]:
        """Return positions that could be read, what the task decodes of the outputs for them, and the bad examples with their positions."""
        raw: list[Outputs] = []
        good: list[tuple[int, Shown]] = []
        bad: list[tuple[int, BadItem]] = []
        done = 0
        for group in self._together(rows, threads):
            bad += [(done + i, shown) for i, (_, shown) in enumerate(group) if isinstance(shown, BadItem)]
            kept = [(done + i, row, shown) for i, (row, shown) in enumerate(group) if not isinstance(shown, BadItem)]
            if kept:
                out, usable = self._outputs([(row, shown) for _, row, shown in kept])
                raw.append(out)
                good += [(at, shown) for (at, _, shown), yes in zip(kept, usable, strict=True) if yes]
                bad += [(at, NOT_FINITE) for (at, _, _), yes in zip(kept, usable, strict=True) if not yes]
            done += len(group)
            progress(done, len(rows))
        if not good:
            raise DataError(
                f"none of the {len(rows)} {self.modality.unit}s could be read. First: {rows[bad[0][0]].id}: {bad[0][1]}"
                if bad
                else "no items."
            )
        return [at for at, _ in good], self._decode(joined(raw), [shown for _, shown in good]), bad

    def texts(self, rows: list[Row], progress: Callable[[int, int], None] = lambda done, count: None) -> list[str]:
        """Return what the model writes for each of some rendered rows; of a task that writes."""
        assert isinstance(self.task, WritingTask)
        out: list[str] = []
        for begin in range(0, len(rows), self.task.writes_together):
            out += self.write(rows[begin : begin + self.task.writes_together])
            progress(len(out), len(rows))
        return out

    def _describe(self, examples: list[tuple[Row, Shown]]) -> list[dict[str, Any]]:
        raw, usable = self._outputs(examples)
        good = [example for example, yes in zip(examples, usable, strict=True) if yes]
        decoded = self._decode(raw, [shown for _, shown in good]) if good else []
        answers = iter(self.task.describe(decoded, self.space, [row for row, _ in good], self.modality) if good else [])
        return [next(answers) if yes else {"error": str(NOT_FINITE)} for yes in usable]

    def _outputs(self, examples: list[tuple[Row, Shown]]) -> tuple[Outputs, list[bool]]:
        """Return which examples have finite outputs for all their pieces, and the raw outputs of the pieces of those."""
        pieces = [(row, view) for row, shown in examples for view in shown.views]
        batches = [pieces[begin : begin + BATCH] for begin in range(0, len(pieces), BATCH)]
        raw = joined([self.scorer.outputs([view for _, view in some], [row for row, _ in some]) for some in batches])
        counts = [len(shown.views) for _, shown in examples]
        usable = [bool(some.all()) for some in finite(raw).split(counts)]
        return taken(raw, torch.tensor(usable).repeat_interleave(torch.tensor(counts)).nonzero()[:, 0]), usable

    def _decode(self, raw: Outputs, examples: list[Shown]) -> Any:
        """Return what the task decodes of the raw outputs of all pieces of some examples."""
        decoded = self.task.decode(raw, self.space)
        if not self.task.whole:
            return decoded
        return self.task.merged(decoded, [shown.spans for shown in examples], self.space, self.modality)

    def _shown(self, row: Row) -> Shown | BadItem:
        """Return what the model takes of a row, or the BadItem that says why there is nothing."""
        try:
            raw = row.text if row.path is None else _read(row.path)
            if raw is None:
                raise BadItem("empty", "there is no content")
            if isinstance(raw, tuple) and len(raw) < SEGMENTS and len(raw) != (self.schema.text_count or len(raw)):
                raise BadItem("other_texts", f"holds {len(raw)} texts, and the run reads {self.schema.text_count}")
            if not self.task.whole:
                array = self.modality.decode(raw).array
                return Shown([self.scorer.view(row, array)], [(0, len(array))])
            array = self.modality.decode_whole(raw).array
            spans = self.modality.pieces(array)
            if len(spans) > 1:
                self.in_pieces[row.id] = len(spans)
            return Shown([self.scorer.view(row, array[begin:end]) for begin, end in spans], spans)
        except BadItem as bad:
            return bad

    def messages(self) -> list[str]:
        """Return what people should know of the examples that were predicted so far."""
        if not self.in_pieces:
            return []
        count, pieces, unit = len(self.in_pieces), sum(self.in_pieces.values()), self.modality.unit
        what = f"{count:,} {unit}s are" if count > 1 else f"1 {unit} is"
        return [f"{what} longer than the window of the run, and predicted in {pieces:,} pieces, cut where it is quietest."]

    @property
    def name(self) -> str:
        """Public name of the modality."""
        return registry.name_of(self.modality)


def _read(path: Path | Cell) -> bytes:
    try:
        return bytes_of(path)
    except OSError as error:
        raise BadItem("missing_file", f"cannot be read: {error.strerror}") from None
