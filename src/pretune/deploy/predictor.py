"""A saved run, ready to predict: the very model, preprocessing and number format that were scored."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from pretune import backbones, config, registry
from pretune.backbones import inference_copy
from pretune.data.schema import Schema
from pretune.errors import BadItem, DataError
from pretune.modalities import Modality
from pretune.models import Model
from pretune.models.heads import Head
from pretune.tasks import Targets, Task
from pretune.training.checkpoint import load_by_name
from pretune.training.device import Device
from pretune.training.plan import Precision
from pretune.training.run_dir import RunDir
from pretune.training.step import autocast
from pretune.types import Cell, Features, Row

BATCH = 32


class Predictor:
    """Predicts with a finished run; uses nothing but its folder."""

    def __init__(self, run: Path, device: torch.device | None = None) -> None:
        folder = RunDir(run)
        saved = folder.read_json("model.json")
        self.device = device or Device(device=torch.device("cpu")).device
        self.backbone = backbones.read(run / "backbone")
        self.modality: Modality = self.backbone.modality
        self.task: Task = config.component("tasks", saved["task"], "task")
        self.targets = Targets.from_json(saved["targets"])
        self.schema = _schema(folder, saved, self.targets)
        head: Head = config.component("heads", saved["head"], "head")
        model = Model(self.backbone, head, self.task.outputs(self.targets), saved["pooling"])
        load_by_name(model, load_file(run / saved["weights"]))
        self.model = model.eval().requires_grad_(False).to(self.device)
        self._rest = Precision(**saved["precision"])
        self._start = int(saved["frozen"])
        names = model.names[: self._start]
        self._prefix = inference_copy([model.stages[n] for n in names], saved["forward"]["bfloat16"]).to(self.device) if names else None

    @torch.inference_mode()
    def outputs(self, features: Features) -> torch.Tensor:
        """Return raw outputs (B, …) of a collated batch, computed as they were when the run was scored."""
        if self._prefix is not None:
            features = self._prefix(features)
        with autocast(self._rest, self.device):
            return self.model(features, self._start).float().cpu()

    def predict(self, rows: list[Row], threads: int = 2) -> Iterator[dict[str, Any]]:
        """Yield one dictionary per row, in order: id, prediction, confidence, probabilities; or id and error.

        An item that cannot be read gets its own `error` and changes nothing else.
        """
        with ThreadPoolExecutor(threads) as pool:
            for begin in range(0, len(rows), BATCH):
                chunk = rows[begin : begin + BATCH]
                views = list(pool.map(self._view, chunk))
                good = [v for v in views if not isinstance(v, BadItem)]
                told = iter(self._describe(good) if good else [])
                for row, view in zip(chunk, views, strict=True):
                    yield {"id": row.id, "error": str(view)} if isinstance(view, BadItem) else {"id": row.id, **next(told)}

    def decoded(self, rows: list[Row], threads: int = 2) -> tuple[list[int], NDArray[Any], list[tuple[int, BadItem]]]:
        """Return positions that could be read, what metrics read of them, and the bad items with their positions."""
        raw: list[torch.Tensor] = []
        good: list[int] = []
        bad: list[tuple[int, BadItem]] = []
        with ThreadPoolExecutor(threads) as pool:
            for begin in range(0, len(rows), BATCH):
                views = list(pool.map(self._view, rows[begin : begin + BATCH]))
                kept = [(begin + i, v) for i, v in enumerate(views) if not isinstance(v, BadItem)]
                bad += [(begin + i, v) for i, v in enumerate(views) if isinstance(v, BadItem)]
                if kept:
                    raw.append(self.outputs(self.modality.collate([v for _, v in kept])))
                    good += [i for i, _ in kept]
        if not good:
            raise DataError(
                f"none of the {len(rows)} {self.modality.unit}s could be read. First: {rows[bad[0][0]].id}: {bad[0][1]}"
                if bad
                else "no items."
            )
        return good, self.task.decode(torch.cat(raw), self.targets), bad

    def _describe(self, views: list[NDArray[Any]]) -> list[dict[str, Any]]:
        raw = self.outputs(self.modality.collate(views))
        return self.task.describe(self.task.decode(raw, self.targets), self.targets)

    def _view(self, row: Row) -> NDArray[Any] | BadItem:
        try:
            raw = row.text if row.path is None else _read(row.path)
            if raw is None:
                raise BadItem("empty", "there is no content")
            if isinstance(raw, tuple) and len(raw) != (self.schema.texts or len(raw)):
                raise BadItem("other_texts", f"holds {len(raw)} texts, and the run reads {self.schema.texts}")
            return np.asarray(self.modality.view(self.modality.decode(raw).array, None, None))
        except BadItem as bad:
            return bad

    @property
    def name(self) -> str:
        """Public name of the modality."""
        return registry.name_of(self.modality)


def _schema(folder: RunDir, saved: dict[str, Any], targets: Targets) -> Schema:
    """Return the columns of the training data; of a run that saved no schema, what its audit lists."""
    if "schema" in saved:
        return Schema.from_json(saved["schema"], targets.classes)
    try:
        columns = folder.read_json("audit.json").get("columns", {})
    except (DataError, ValueError):
        columns = {}
    return Schema.from_columns(columns, targets.classes)


def _read(path: Path | Cell) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadItem("missing_file", f"cannot be read: {error.strerror}") from None
