"""A saved run, ready to predict: the same model, preprocessing and precision that were evaluated."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pretune import backbones, registry, saved
from pretune.backbones import inference_copy
from pretune.deploy import _saved_model
from pretune.errors import BadItem, DataError, WeightsError
from pretune.kernels import processor
from pretune.modalities import Modality
from pretune.modalities.audio import Audio
from pretune.models import Model
from pretune.models.model import HEAD
from pretune.storage.streaming import bytes_of
from pretune.training.device import Device
from pretune.training.plan import Precision
from pretune.training.step import autocast
from pretune.types import Cell, Features, Row

BATCH = 32
NOT_FINITE = BadItem("not_finite", "the model's output is not a finite number (NaN or infinity), which predicts nothing")


class Predictor:
    """Predicts with a finished run; uses nothing but its folder, which may come from anybody."""

    def __init__(self, run: Path, device: torch.device | None = None, *, trust: Collection[str] = ()) -> None:
        """Load the run.

        Args:
            run: its folder.
            device: where outputs are computed; the processor by default.
            trust: modules of the person's own that the run's network may be built by.

        Raises:
            DataError: no finished run is there, or a file of it is damaged.
            WeightsError: its weights are damaged or do not fit.
            SettingError: its network is built by a module that is not trusted.
        """
        told = _saved_model.read(run)
        self.run = run
        self.device = device or Device(device=torch.device("cpu")).device
        with backbones.trusting(trust):
            self.backbone = backbones.read(run / "backbone")
        self.modality: Modality = self.backbone.modality
        if isinstance(self.modality, Audio) and self.modality.seconds is None:
            raise saved.damaged(run / "backbone" / "builder.json", "its modality has no seconds, the length of the network's window")
        self.task, self.targets = told.task, told.targets
        self.schema = told.schema
        path = run / _saved_model.MODEL
        with backbones.bounded(told.weights), saved.reading(path):
            model = Model(self.backbone, told.head, self.task.outputs(self.targets), told.pooling)
        if not 0 <= told.frozen < len(model.names):
            raise saved.damaged(path, f"it counts {told.frozen} frozen stages of {len(model.names)}")
        head = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(f"stages.{HEAD}.")}
        saved.load_exactly(head, told.weights)
        self.model = model.eval().requires_grad_(False).to(self.device)
        self._rest, forward = _here([told.precision, told.forward], self.device)
        self._start = told.frozen
        names = model.names[: self._start]
        self._prefix = inference_copy([model.stages[n] for n in names], forward.bfloat16).to(self.device) if names else None

    @torch.inference_mode()
    def outputs(self, features: Features) -> torch.Tensor:
        """Return raw outputs (B, …) of a collated batch, computed as they were when the run was scored.

        Raises:
            WeightsError: the preprocessing gives what the network cannot take.
        """
        try:
            if self._prefix is not None:
                features = self._prefix(features)
            with autocast(self._rest, self.device):
                return self.model(features, self._start).float().cpu()
        except (IndexError, RuntimeError) as error:
            first = (str(error).splitlines() or [""])[0][:160]
            raise WeightsError(f"{self.run}: its network cannot compute what its preprocessing gives: {first}") from error

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
                    out = self.outputs(self.modality.collate([v for _, v in kept]))
                    usable = _finite(out)
                    raw.append(out[usable])
                    good += [i for (i, _), yes in zip(kept, usable, strict=True) if yes]
                    bad += [(i, NOT_FINITE) for (i, _), yes in zip(kept, usable, strict=True) if not yes]
        if not good:
            raise DataError(
                f"none of the {len(rows)} {self.modality.unit}s could be read. First: {rows[bad[0][0]].id}: {bad[0][1]}"
                if bad
                else "no items."
            )
        return good, self.task.decode(torch.cat(raw), self.targets), bad

    def _describe(self, views: list[NDArray[Any]]) -> list[dict[str, Any]]:
        raw = self.outputs(self.modality.collate(views))
        usable = _finite(raw)
        told = iter(self.task.describe(self.task.decode(raw[usable], self.targets), self.targets) if usable.any() else [])
        return [next(told) if yes else {"error": str(NOT_FINITE)} for yes in usable]

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


def _finite(raw: torch.Tensor) -> torch.Tensor:
    """Return which rows (B,) of outputs are finite numbers."""
    return torch.isfinite(raw).flatten(1).all(1)


def _here(saved: list[Precision], device: torch.device) -> list[Precision]:
    """Return a run's precisions as this machine can compute them: float32 where bfloat16 is emulated, tens of times slower."""
    if not any(precision.bfloat16 for precision in saved) or processor.has_native_bfloat16(device):
        return saved
    logging.getLogger("pretune").warning(
        "This run was computed in bfloat16, which this processor only emulates. Predicting in float32; probabilities may differ slightly."
    )
    return [replace(precision, bfloat16=False) for precision in saved]


def _read(path: Path | Cell) -> bytes:
    try:
        return bytes_of(path)
    except OSError as error:
        raise BadItem("missing_file", f"cannot be read: {error.strerror}") from None
